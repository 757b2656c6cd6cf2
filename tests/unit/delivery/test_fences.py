"""Owners of a partition that freeze at any effect and go on at any later time, each with limits of its own.

What was committed has a row, in the order of the topic, and that row is never changed again. It is what an owner has
acked that counts, so the rest of the world is not looked at: nobody is connected.
"""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from schemas.ids import source_parts
from schemas.rows import Rewrite, Row
from streams.limits import Limit
from streams.partitions import home_partition
from tests.unit.delivery.servers import PARTITIONS, TP, Store
from tests.unit.delivery.world import World

TOPIC = TP("notifications.bulk", home_partition(b"ann", PARTITIONS))
UP_TO_THE_APPEND = 3  # effects of a batch
batches = st.integers(1, 4)
limits = st.sampled_from([None, None, Limit(1, 60_000_000), Limit(3, 60_000_000)])


class Owners(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.committed: list[Row] = []  # the rows of what was committed, as they were then

    @initialize(count=st.integers(2, 4), frozen=st.lists(st.tuples(batches, limits), max_size=3))
    def begin(self, count: int, frozen: list[tuple[int, Limit | None]]) -> None:
        """Begin with owners that have frozen before their appends already."""
        self.world.take_over()
        self.produce(count)
        for records, limit in frozen:
            self.freeze(records, UP_TO_THE_APPEND, limit)

    @rule(count=st.integers(1, 4))
    def produce(self, count: int) -> None:
        for _ in range(count):
            self.world.produce("ann", "bulk")

    @rule(records=batches, steps=st.sampled_from([UP_TO_THE_APPEND, *range(10)]), limit=limits)
    def freeze(self, records: int, steps: int, limit: Limit | None) -> None:
        """The owner stops within a batch, and another takes over that it does not know of."""
        worker = self.world.workers[0]
        worker.take(TOPIC.topic, records)
        worker.step(steps)
        self.world.limit = limit
        self.world.take_over("zombie")

    @rule(records=batches)
    def finish_and_commit(self, records: int) -> None:
        """The owner does a whole batch."""
        worker = self.world.workers[0]
        worker.take(TOPIC.topic, records)
        while worker.job is not None:
            worker.step()
        worker.commit()

    @precondition(lambda self: self.world.zombies)
    @rule(at=st.integers(0, 1), steps=st.sampled_from([20, 20, 1, 2, 3, 4]))
    def thaw(self, at: int, steps: int) -> None:
        """A former owner goes on for a while."""
        zombies = self.world.zombies
        zombies[at % len(zombies)].step(steps)

    @invariant()
    def what_was_committed_stays_as_it_was(self) -> None:
        rows = self.world.store.visible("inbox/bulk/ann")[: self.world.kafka.committed[TOPIC]]
        assert [source_parts(row.src)[1] for row in rows] == list(range(self.world.kafka.committed[TOPIC]))
        assert rows[: len(self.committed)] == self.committed
        self.committed = rows

    def teardown(self) -> None:
        self.world.close()


rules = settings(max_examples=500, stateful_step_count=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TestOwners = Owners.TestCase
TestOwners.settings = rules


class Forgetful(Store):
    """Writes nothing again."""

    async def rewrite(self, rewrites: Sequence[Rewrite]) -> None:
        pass


class OnlyHeads(Store):
    """Writes heads again and no rows."""

    async def rewrite(self, rewrites: Sequence[Rewrite]) -> None:
        await super().rewrite([msgspec.structs.replace(each, last=each.first - 1) for each in rewrites])


class OnlyRows(Store):
    """Writes rows again and no heads."""

    async def rewrite(self, rewrites: Sequence[Rewrite]) -> None:
        before = dict(self.ends)
        await super().rewrite(rewrites)
        self.ends.update(before)


@pytest.mark.parametrize("broken", [Forgetful, OnlyHeads, OnlyRows])
def test_rows_and_heads_have_to_be_written_again(broken: type[Store], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.unit.delivery.world.Store", broken)
    found = settings(rules, max_examples=5_000, derandomize=True, phases=(Phase.generate,))
    with pytest.raises((AssertionError, ExceptionGroup)):
        run_state_machine_as_test(Owners, settings=found)
