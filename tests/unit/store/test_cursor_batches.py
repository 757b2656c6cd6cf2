"""Cursors travel many in a request, written as the driver would write them, within what Cassandra takes."""

import struct

import pytest
from cassandra.query import BatchType

from store.cursors import STATEMENTS, cursor_batches
from store.port import Cursor
from store.wire import BATCH_BYTES
from tests.unit.store.requests import bigint, sent, sent_of

LOG = "inbox/normal"


def test_cursors_are_written_as_the_driver_itself_writes_them() -> None:
    cursors = [Cursor("é", LOG, "phone", 7, 0), Cursor("u2", LOG, "web", 8, 3)]
    ((statement, _),) = cursor_batches(cursors, b"delivered", b"read")
    assert statement.batch_type is BatchType.UNLOGGED
    first, second = ("é".encode(), LOG.encode(), b"phone"), (b"u2", LOG.encode(), b"web")
    expected = [
        (True, b"delivered", (*first, bigint(7), bigint(7))),
        (True, b"delivered", (*second, bigint(8), bigint(8))),
        (True, b"read", (*second, bigint(3), bigint(3))),
    ]
    assert sent(statement) == sent_of(expected)


def test_a_batch_is_routed_by_one_of_its_users() -> None:
    ((statement, _),) = cursor_batches([Cursor("u1", LOG, "d", 1, 0), Cursor("u2", LOG, "d", 1, 0)], b"d", b"r")
    assert statement.routing_key in {b"u1", b"u2"}


def test_no_cursors_need_no_request() -> None:
    assert list(cursor_batches([], b"d", b"r")) == []


@pytest.mark.parametrize("read", [0, 1])
def test_many_cursors_travel_in_batches_of_bounded_size(read: int) -> None:
    cursors = [Cursor("u" * 256, LOG, f"{number:0128}", 1, read) for number in range(400)]
    written = [sent(statement) for statement, _ in cursor_batches(cursors, b"d", b"r")]
    assert all(b"".join(written).count(cursor.device.encode()) == 1 + read for cursor in cursors)
    assert all(len(part) <= BATCH_BYTES for part in written)
    assert len(written) < 400 / 30


def test_short_cursors_fill_a_batch_by_number() -> None:
    sizes = [
        struct.unpack_from(">H", sent(statement), 1)[0]
        for statement, _ in cursor_batches([Cursor(f"u{n}", LOG, "d", 1, 0) for n in range(400)], b"d", b"r")
    ]
    assert sizes == [STATEMENTS, STATEMENTS, 400 - 2 * STATEMENTS]


def test_a_number_that_does_not_fit_is_refused() -> None:
    with pytest.raises(struct.error):
        list(cursor_batches([Cursor("u", LOG, "d", 1 << 63, 0)], b"d", b"r"))
