"""What a worker asks of the store and counts, beside what it delivers."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest

from tests.unit.delivery.stories import NORMAL
from tests.unit.delivery.worker import METRICS
from tests.unit.delivery.world import World


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    made.take_over()
    yield made
    made.close()


def test_a_log_is_read_from_the_store_once_also_where_its_first_record_becomes_no_entry(world: World) -> None:
    with patch.object(world.store, "heads", wraps=world.store.heads) as heads:
        world.produce("ann", expires_at="1970-01-01T00:00:00Z")
        world.flow()
        for _ in range(2):
            world.produce("ann")
            world.flow()
    assert [call.args[0] for call in heads.call_args_list] == [["inbox/normal/ann"]]


def test_each_entry_is_counted(world: World) -> None:
    before = METRICS.entries.counts.get("normal", 0)
    for user in ("ann", "ann", "ann", "bob"):
        world.produce(user)
    assert len(world.kafka.logs[NORMAL]) == 4
    world.flow()
    assert METRICS.entries.counts["normal"] == before + 4
