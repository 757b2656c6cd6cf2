"""What each error of the Cassandra driver says of asking again. Pure; a test holds the table to the driver's own tree.

A node that fails at a request, or finds it invalid, may mean the request or itself: an entry that is too large for the
commit log and a broken disk look alike, and so do a value that a guardrail forbids and a table that was dropped. Those
are `REFUSED` only once a witness, a small request of ours, was taken (`store.requests`).
"""

from typing import Any, Final

import cassandra
from cassandra import cluster, connection, pool, protocol

from schemas.errors import Kind

_AWAY: Final = (
    cassandra.Unavailable, cassandra.Timeout, cassandra.ReadTimeout, cassandra.WriteTimeout,
    cassandra.OperationTimedOut, cassandra.UnresolvableContactPoints, cluster.NoHostAvailable,
    connection.ConnectionException, connection.ConnectionShutdown, connection.CrcMismatchException,
    connection.ConnectionBusy, connection.ProtocolError, pool.NoConnectionsAvailable,
    protocol.UnavailableErrorMessage, protocol.OverloadedErrorMessage, protocol.IsBootstrappingErrorMessage,
    protocol.WriteTimeoutErrorMessage, protocol.ReadTimeoutErrorMessage, protocol.TruncateError,
    protocol.PreparedQueryNotFound,  # the driver prepares it again and asks again; here it could not
    protocol.ClientWriteError,
    cassandra.RequestExecutionException, protocol.RequestExecutionException,  # whatever else a node fails at
)  # fmt: skip

_BARRED: Final = (
    cassandra.Unauthorized, cassandra.AuthenticationFailed, cassandra.CDCWriteFailure,
    protocol.UnauthorizedErrorMessage, protocol.BadCredentials, protocol.CDCWriteException,
    cassandra.ConfigurationException, cassandra.AlreadyExists, protocol.ConfigurationException,
    protocol.AlreadyExistsException, connection.ProtocolVersionUnsupported,
)  # fmt: skip

_REFUSED: Final = (
    cassandra.RequestValidationException, cassandra.InvalidRequest, cassandra.FunctionFailure,
    protocol.RequestValidationException, protocol.InvalidRequestException, protocol.FunctionFailureMessage,
    protocol.SyntaxException, protocol.ProtocolException,
)  # fmt: skip

# Asked again a few times before the witness is: mostly they pass.
_DOUBTFUL: Final = (
    cassandra.CoordinationFailure, cassandra.ReadFailure, cassandra.WriteFailure, protocol.ReadFailureMessage,
    protocol.WriteFailureMessage, protocol.ServerError,
)  # fmt: skip

_OURS: Final = (
    cassandra.DriverException, cassandra.UnsupportedOperation, protocol.ErrorMessage, protocol.ErrorMessageSub,
)  # fmt: skip

DOUBTFUL: Final = frozenset(_DOUBTFUL)
TABLE: Final[dict[type[Any], Kind]] = {
    **dict.fromkeys(_AWAY, Kind.AWAY),
    **dict.fromkeys(_BARRED, Kind.BARRED),
    **dict.fromkeys((*_REFUSED, *_DOUBTFUL), Kind.REFUSED),
    **dict.fromkeys(_OURS, Kind.OURS),
}


def kind(error: BaseException) -> Kind:
    """Return what an error of the driver says of asking again; of one that is not decided, its nearest base.

    What is none of the driver's is `AWAY`: its threads raise what they come upon when a connection goes.
    """
    return next((TABLE[base] for base in type(error).__mro__ if base in TABLE), Kind.AWAY)


def is_doubtful(error: BaseException) -> bool:
    """Say whether a refusal may as well be a node that is not well."""
    return any(base in DOUBTFUL for base in type(error).__mro__)
