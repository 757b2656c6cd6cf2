"""How Redis is found to be gone, and what each error of its client says of asking again.

uvloop raises RuntimeError where something is written to a connection that was closed and the client does not know it
yet. The client expects OSError there. `guard` turns just that into the client's own error, at the one place where it
comes up, so that no RuntimeError of ours is ever taken for a Redis that is away.
"""

from functools import cache
from typing import Any, Final

from redis import exceptions
from redis.exceptions import RedisError

from schemas.errors import Kind

_AWAY: Final = (
    exceptions.ConnectionError, exceptions.TimeoutError, exceptions.BusyLoadingError, exceptions.MaxConnectionsError,
    exceptions.ReadOnlyError,  # a replica, until the failover is over
    exceptions.ClusterDownError, exceptions.MasterDownError, exceptions.TryAgainError,
    exceptions.InvalidResponse,  # what was read is no answer: the connection is of no more use
)  # fmt: skip

# Redis is there, and an operator has to let us in, give it memory, or name the right server.
_BARRED: Final = (
    exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.AuthenticationWrongNumberOfArgsError,
    exceptions.ExternalAuthProviderError, exceptions.NoPermissionError, exceptions.OutOfMemoryError,
    exceptions.ClusterError, exceptions.AskError, exceptions.MovedError, exceptions.ClusterCrossSlotError,
)  # fmt: skip

_REFUSED: Final = (
    exceptions.ResponseError, exceptions.NoScriptError, exceptions.ExecAbortError, exceptions.ModuleError,
    exceptions.NoSuchFieldsetError,
)  # fmt: skip

_OURS: Final = (
    RedisError, exceptions.DataError, exceptions.PubSubError, exceptions.WatchError, exceptions.LockError,
    exceptions.LockNotOwnedError,
)  # fmt: skip

TABLE: Final[dict[type[RedisError], Kind]] = {
    **dict.fromkeys(_AWAY, Kind.AWAY),
    **dict.fromkeys(_BARRED, Kind.BARRED),
    **dict.fromkeys(_REFUSED, Kind.REFUSED),
    **dict.fromkeys(_OURS, Kind.OURS),
}

# Redis did not do it, and what was asked is not to blame for more than itself. What is ours is not among them.
LOST: Final = (*_AWAY, *_BARRED, *_REFUSED, OSError, TimeoutError)


def kind(error: BaseException) -> Kind:
    """Return what an error says of asking Redis again; of one that is not decided, its nearest base."""
    if isinstance(error, OSError | TimeoutError):
        return Kind.AWAY
    return next((TABLE[base] for base in type(error).__mro__ if base in TABLE), Kind.OURS)


def guard(pool: Any) -> None:
    """Let the connections of a pool fail as their client expects; said once, before the first of them is made."""
    pool.connection_class = _guarded(pool.connection_class)


@cache
def _guarded(base: Any) -> Any:
    class Guarded(base):  # type: ignore[misc]  # a class that is chosen by the URL
        async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            try:
                await super().send_packed_command(command, check_health)
            except RuntimeError as exc:  # of the transport: all else that is raised in there is the client's own
                raise exceptions.ConnectionError(f"the connection was closed: {exc}") from exc

    return Guarded
