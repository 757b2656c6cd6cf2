import struct

import pytest

from stack.servers.probes import CQL_QUESTION, KAFKA_QUESTION, is_cql, is_kafka


def test_the_question_to_kafka_is_as_long_as_it_says() -> None:
    assert struct.unpack_from(">i", KAFKA_QUESTION)[0] == len(KAFKA_QUESTION) - 4


def test_the_question_to_cassandra_has_the_length_of_a_header() -> None:
    assert len(CQL_QUESTION) == 9


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (struct.pack(">iih", 400, 7, 0), True),
        (struct.pack(">iih", 400, 7, 35), False),
        (struct.pack(">iih", 400, 8, 0), False),
        (b"HTTP/1.1 4", False),
        (b"", False),
    ],
)
def test_only_an_answer_without_error_is_kafka(answer: bytes, right: bool) -> None:
    assert is_kafka(answer) is right


@pytest.mark.parametrize(("opcode", "right"), [(6, True), (0, False)])
def test_only_supported_is_cassandra(opcode: int, right: bool) -> None:
    assert is_cql(bytes([0x84, 0, 0, 0, opcode, 0, 0, 0, 0])) is right
    assert not is_cql(b"")
