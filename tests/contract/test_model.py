"""Both stores against a model of the port's promises: any order of writes by any owners ends the same."""

import itertools
import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.port import Append, Cursor, Head, Range, Rewrite, Row, Store
from tests.contract.samples import row

_examples = itertools.count(1)


class Model:
    """A store in dictionaries: rows and heads under the epoch that wrote them, cursors by max."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[int, Row]] = {}
        self.head = (0, 0)  # epoch, seq
        self.cursors: dict[str, tuple[int, int]] = {}

    def append(self, epoch: int, rows: list[Row]) -> None:
        for entry in rows:
            if epoch >= self.rows.get(entry.seq, (0, entry))[0]:
                self.rows[entry.seq] = (epoch, entry)
        self.head = max(self.head, (epoch, rows[-1].seq))

    def rewrite(self, epoch: int, first: int, last: int) -> None:
        for entry in self.visible():
            if first <= entry.seq <= last and epoch >= self.rows[entry.seq][0]:
                self.rows[entry.seq] = (epoch, entry)
        if self.head[1]:
            self.head = max(self.head, (epoch, self.head[1]))

    def put_cursor(self, device: str, delivered: int, read: int) -> None:
        before = self.cursors.get(device, (0, 0))
        self.cursors[device] = (max(before[0], delivered), max(before[1], read))

    def visible(self) -> list[Row]:
        return [entry for seq, (_, entry) in sorted(self.rows.items()) if seq <= self.head[1]]

    def expected_head(self) -> Head:
        rows = self.visible()
        if not rows:
            return Head()
        marks = tuple(entry.mark() for entry in reversed(rows))
        return rows[-1].head(marks)


# How far before the end of the log, as its writer knows it, an append starts; how many rows it has; under which epoch;
# and whether that many rows are only written again, and the head.
appends = st.tuples(st.integers(0, 6), st.integers(1, 5), st.integers(1, 4), st.booleans())
puts = st.tuples(st.sampled_from(["phone", "web"]), st.integers(0, 5), st.integers(0, 5))
quietly = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@quietly
@given(base=st.sampled_from([1, 4_088]), writes=st.lists(appends, min_size=1, max_size=12))
async def test_logs_end_as_in_the_model(store: Store, base: int, writes: list[tuple[int, int, int, bool]]) -> None:
    log = f"model-{os.getpid()}-{next(_examples)}"
    model = Model()
    ends: dict[int, int] = {}  # a writer reads the head when it begins, then it knows only what it wrote itself
    for back, count, epoch, again in writes:
        end = ends.get(epoch, max(base - 1, model.head[1]))
        first = max(base, end + 1 - back)
        if again:
            model.rewrite(epoch, first, first + count - 1)
            await store.rewrite([Rewrite(log, epoch, first, first + count - 1)])
            assert (await store.heads([log]))[log] == model.expected_head()
            continue
        rows = [row(seq, by=f"epoch {epoch}") for seq in range(first, first + count)]
        ends[epoch] = max(ends.get(epoch, 0), rows[-1].seq)
        model.append(epoch, rows)
        await store.append([Append(log, epoch, rows)])
        assert (await store.heads([log]))[log] == model.expected_head()
    assert await store.read([Range(log, 1, 9_999)]) == [model.visible()]
    assert await store.read([Range(log, 4_096, 9_999)]) == [[entry for entry in model.visible() if entry.seq >= 4_096]]


@quietly
@given(writes=st.lists(puts, max_size=12))
async def test_cursors_end_as_in_the_model(store: Store, writes: list[tuple[str, int, int]]) -> None:
    user = f"model-{os.getpid()}-{next(_examples)}"
    model = Model()
    for device, delivered, read in writes:
        model.put_cursor(device, delivered, read)
        await store.put_cursors([Cursor(user, "log", device, delivered, read)])
    expected = [Cursor(user, "log", device, *values) for device, values in sorted(model.cursors.items())]
    assert await store.get_cursors([user]) == {user: expected}
