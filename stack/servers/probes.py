"""The questions that show that a server works."""

import struct
from typing import Final

_API_VERSIONS: Final = 18
_CORRELATION: Final = 7

# length, API, its version 0, correlation id, no client id
KAFKA_QUESTION: Final = struct.pack(">ihhih", 10, _API_VERSIONS, 0, _CORRELATION, -1)
KAFKA_ANSWER: Final = 10  # bytes: length, correlation id, error code

# protocol version 4, no flags, stream 0, opcode OPTIONS, no body
CQL_QUESTION: Final = bytes([4, 0, 0, 0, 5, 0, 0, 0, 0])
CQL_ANSWER: Final = 9  # bytes of a header
_SUPPORTED: Final = 6


def is_kafka(answer: bytes) -> bool:
    """Return whether the answer to `KAFKA_QUESTION` carries its correlation id and no error."""
    return len(answer) == KAFKA_ANSWER and struct.unpack_from(">ih", answer, 4) == (_CORRELATION, 0)


def is_cql(answer: bytes) -> bool:
    """Return whether the answer to `CQL_QUESTION` is SUPPORTED."""
    return len(answer) == CQL_ANSWER and answer[4] == _SUPPORTED
