"""What each error of the Kafka client says of asking again. Pure; a test holds the table to the client's own tree.

Where a code of Kafka can mean several things, the kind is the one that loses nothing: what may pass is asked again, and
only what Kafka says of the content itself counts as refused. `UnknownError` stands for a fault inside the broker and
for codes that the client does not know, so it is asked again, too.
"""

from collections.abc import Iterable
from typing import Final

from aiokafka import errors
from aiokafka.errors import BrokerResponseError, KafkaError

from schemas.errors import Kind


class InvalidRecordError(BrokerResponseError):  # type: ignore[misc]  # aiokafka has no type information
    """The broker's own check found the record wrong, such as one without a key in a compacted topic."""

    errno = 87
    message = "INVALID_RECORD"
    description = "The record has failed the validation on the broker."


# aiokafka does not know this code, and takes it for a fault inside the broker.
errors.kafka_errors.setdefault(InvalidRecordError.errno, InvalidRecordError)

_AWAY: Final = (
    errors.NoBrokersAvailable, errors.NodeNotReadyError, errors.KafkaProtocolError, errors.CorrelationIdError,
    errors.Cancelled, errors.TooManyInFlightRequests, errors.StaleMetadata, errors.MetadataEmptyBrokerList,
    errors.KafkaUnavailableError, errors.KafkaTimeoutError, errors.KafkaConnectionError, errors.QuotaViolationError,
    errors.UnknownError, errors.LeaderNotAvailableError, errors.NotLeaderForPartitionError,
    errors.RequestTimedOutError, errors.BrokerNotAvailableError, errors.ReplicaNotAvailableError,
    errors.StaleControllerEpochError, errors.StaleLeaderEpochCodeError, errors.GroupLoadInProgressError,
    errors.GroupCoordinatorNotAvailableError, errors.NotCoordinatorForGroupError, errors.NotEnoughReplicasError,
    errors.NotEnoughReplicasAfterAppendError, errors.NotControllerError, errors.KafkaStorageError,
    errors.LogDirNotFound, errors.RebalanceInProgressError, errors.ReassignmentInProgress, errors.ListenerNotFound,
    errors.OffsetOutOfRangeError, errors.NoOffsetForPartitionError, errors.FetchSessionIdNotFound,
    errors.InvalidFetchSessionEpoch, errors.ConcurrentTransactions,
)  # fmt: skip

_BARRED: Final = (
    errors.AuthenticationMethodNotSupported, errors.AuthenticationFailedError, errors.KafkaConfigurationError,
    errors.UnknownTopicOrPartitionError, errors.InvalidTopicError, errors.TopicAuthorizationFailedError,
    errors.GroupAuthorizationFailedError, errors.ClusterAuthorizationFailedError,
    errors.TransactionalIdAuthorizationFailed, errors.UnsupportedSaslMechanismError, errors.IllegalSaslStateError,
    errors.SaslAuthenticationFailed, errors.SecurityDisabled, errors.PolicyViolationError,
    errors.InvalidConfigurationError, errors.InvalidRequiredAcksError, errors.DelegationTokenAuthDisabled,
    errors.DelegationTokenNotFound, errors.DelegationTokenOwnerMismatch, errors.DelegationTokenRequestNotAllowed,
    errors.DelegationTokenAuthorizationFailed, errors.DelegationTokenExpired, errors.InvalidPrincipalType,
)  # fmt: skip

# Of the content: it is too large, or Kafka's own checks find it wrong. Nothing of such a batch was appended.
_REFUSED: Final = (
    errors.RecordTooLargeError, errors.MessageSizeTooLargeError, errors.RecordListTooLargeError,
    errors.CorruptRecordException, errors.InvalidTimestampError, errors.UnsupportedForMessageFormatError,
    InvalidRecordError,
)  # fmt: skip

# Of the client or of a request that ours would never make: where it stays, the watchdog ends the process.
_CLIENT: Final = (
    KafkaError, BrokerResponseError, errors.NoError, errors.IllegalStateError, errors.IllegalArgumentError,
    errors.UnrecognizedBrokerVersion, errors.IncompatibleBrokerVersion, errors.CommitFailedError,
    errors.UnsupportedCodecError, errors.ProducerClosed, errors.ProducerFenced, errors.InvalidFetchRequestError,
    errors.OffsetMetadataTooLargeError, errors.IllegalGenerationError, errors.InconsistentGroupProtocolError,
    errors.InvalidGroupIdError, errors.UnknownMemberIdError, errors.InvalidSessionTimeoutError,
    errors.InvalidCommitOffsetSizeError, errors.UnsupportedVersionError, errors.TopicAlreadyExistsError,
    errors.InvalidPartitionsError, errors.InvalidReplicationFactorError, errors.InvalidReplicationAssignmentError,
    errors.InvalidRequestError, errors.OutOfOrderSequenceNumber, errors.DuplicateSequenceNumber,
    errors.InvalidProducerEpoch, errors.InvalidTxnState, errors.InvalidProducerIdMapping,
    errors.InvalidTransactionTimeout, errors.TransactionCoordinatorFenced, errors.OperationNotAttempted,
    errors.UnknownProducerId, errors.NonEmptyGroup, errors.GroupIdNotFound, errors.MemberIdRequired,
)  # fmt: skip

TABLE: Final[dict[type[KafkaError], Kind]] = {
    **dict.fromkeys(_AWAY, Kind.AWAY),
    **dict.fromkeys(_BARRED, Kind.BARRED),
    **dict.fromkeys(_REFUSED, Kind.REFUSED),
    **dict.fromkeys(_CLIENT, Kind.CLIENT),
}


def kind(error: KafkaError) -> Kind:
    """Return what an error of the Kafka client says of asking again; of one that is not decided, its nearest base."""
    return next(TABLE[base] for base in type(error).__mro__ if base in TABLE)


def worst(failures: Iterable[BaseException]) -> BaseException | None:
    """Return the failure that decides about work that failed in several ways: a refusal first, since it stays."""
    found = list(failures)
    refused = (one for one in found if isinstance(one, KafkaError) and kind(one) is Kind.REFUSED)
    return next(refused, found[0] if found else None)
