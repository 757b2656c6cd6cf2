"""What the driver sends of a batch."""

import struct
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from cassandra import ConsistencyLevel
from cassandra.protocol import BatchMessage
from cassandra.query import BatchType

from store.cluster import PROTOCOL

bigint = struct.Struct(">q").pack


def sent(statement: Any) -> bytes:
    """Return what the driver writes of a batch."""
    return sent_of(statement._statements_and_parameters)


def sent_of(parts: Sequence[tuple[bool, bytes, Sequence[bytes]]]) -> bytes:
    """Return what the driver writes of the statements of a batch: (True: prepared, id, values)."""
    file = BytesIO()
    BatchMessage(BatchType.UNLOGGED, parts, ConsistencyLevel.LOCAL_QUORUM).send_body(file, PROTOCOL)
    return file.getvalue()
