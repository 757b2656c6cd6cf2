"""The error codes of a coordinator's answers, of which one or one a partition may say that we are not known."""

from aiokafka.protocol.commit import OffsetCommitResponse_v2, OffsetFetchResponse_v1
from aiokafka.protocol.group import HeartbeatResponse_v0, SyncGroupResponse_v0

from streams.membership import codes

UNKNOWN = 25


def test_an_answer_has_one_code_or_one_a_partition() -> None:
    assert list(codes(HeartbeatResponse_v0(UNKNOWN))) == [UNKNOWN]
    assert list(codes(SyncGroupResponse_v0(0, b""))) == [0]
    assert list(codes(OffsetCommitResponse_v2([("t", [(0, 0), (1, UNKNOWN)])]))) == [0, UNKNOWN]
    assert list(codes(OffsetFetchResponse_v1([("t", [(0, 25, "", 0)])]))) == [0], "25 is an offset here"
