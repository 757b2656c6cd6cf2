"""Each protection is needed: without it a story of faults ends with what it protects against, and with it does not.

`MUTATIONS` is the list: what is switched off (tests/faults/mutants.py), in which process, in which story
(tests/faults/stories.py), and what is seen then. docs/guarantees.md has the same list. Protections that only luck would
show in real processes are in the list of tests/unit/delivery/test_protections.py.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest
import pytest_asyncio

from proof.cluster import Cluster
from proof.experiment import experiment
from proof.publishes import dropping
from proof.servers import Servers
from tests.faults import gateway_mutants, mutants, stories
from tests.faults.scene import Losses, Scene
from tests.faults.stories import WITNESSES, Story
from tests.faults.traps import Traps

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOUND: Final = 30.0  # s
BOUND_WITHOUT: Final = 5.0  # s; witnesses have shown before that everything else goes on
GUARANTEES: Final = Path(__file__).parents[2] / "docs" / "guarantees.md"


class Mutation(NamedTuple):
    """A protection that is switched off in a kind of process, the story that shows it, and what is seen."""

    mutant: str
    kind: str
    story: Story
    seen: str


MUTATIONS: Final = (
    Mutation("acked_first", "worker", stories.killed_before_the_append, "I1 BROKEN"),
    Mutation("marked_first", "worker", stories.an_append_that_fails, "I1 BROKEN"),
    Mutation("committed_ahead", "worker", stories.killed_while_it_appends, "I1 BROKEN"),
    Mutation("cursors_acked_first", "worker", stories.killed_before_the_cursors, "acknowledgements LOST"),
    Mutation("holes_believed", "worker", stories.a_fetch_without_its_first_record, "I1 BROKEN"),
    Mutation("looked_up_first", "worker", stories.a_device_comes_during_an_append, "I1 BROKEN"),
    Mutation("repeats_taken", "worker", stories.the_same_id_twice, "I3 BROKEN"),
    Mutation("homeless", "worker", stories.a_record_in_another_partition, "I1 BROKEN"),
    Mutation("no_beats", "worker", stories.the_last_publish_is_lost, "I1 BROKEN"),
    Mutation("numbers_ignored", "gateway", stories.a_publish_is_lost_and_others_follow, "I1 BROKEN"),
    Mutation("handed_on_early", "gateway", stories.a_publish_is_lost_and_the_next_entry_comes, "I4 BROKEN"),
    Mutation("skips_untold", "gateway", stories.an_entry_for_another_device, "I4 BROKEN"),
    Mutation("gaps_untold", "gateway", stories.a_page_that_ends_before_the_log, "I1 BROKEN"),
    Mutation("rows_without_epoch", "worker", stories.append_of_a_zombie, "I1 BROKEN"),
    Mutation("old_epochs_believed", "worker", stories.partitions_that_come_back, "I1 BROKEN"),
    Mutation("known_not_written_again", "worker", stories.appends_of_two_zombies, "I1 BROKEN"),
)
WORKERS: Final[dict[Story, int]] = {  # of the stories that take more than one
    stories.append_of_a_zombie: 2,
    stories.partitions_that_come_back: 2,
    stories.appends_of_two_zombies: 3,
}
AS_IT_IS: Final = "with_traps"


class Stage:
    """Deployments that stories are told to one after the other: a process is only started anew to become a mutant."""

    def __init__(self, servers: Servers, folder: Path, out: Path) -> None:
        self._servers = servers
        self._folder = folder
        self._out = out
        self._cluster: Cluster | None = None
        self._workers = 0
        self._mutants: dict[str, str] = {}
        self._losses = Losses()
        self._number = 0

    async def close(self) -> None:
        """End the deployment."""
        if self._cluster:
            await self._cluster.close()
            self._cluster = None

    async def tell(self, story: Story, mutation: Mutation | None = None) -> None:
        """Tell a story, to mutants if a mutation is given. Raises `AssertionError` if it does not end well."""
        cluster = await self._deployment(WORKERS.get(story, 1))
        traps = Traps(self._folder / "traps")
        traps.clear()
        await self._become(cluster, mutation)
        self._number += 1
        name = mutation.mutant if mutation else story.__name__.replace("_", "-")
        users = [f"{number}-{self._number}" for number in ("victim", *(f"w{n}" for n in range(WITNESSES)))]
        async with experiment(
            cluster, f"mutation-{self._number}-{name}", out=self._out / "mutations", users=users, rate=1, seconds=0,
            bound=BOUND_WITHOUT if mutation else BOUND, judge=mutation is None,
        ) as run:  # fmt: skip
            await story(Scene(run, cluster, traps, self._losses, users))

    async def _deployment(self, workers: int) -> Cluster:
        if self._cluster is None or self._workers != workers:
            await self.close()
            self._mutants.clear()
            self._workers = workers
            self._cluster = Cluster(
                self._servers, self._folder / str(workers), workers=workers, store="sqlite",
                proxies=("redis",), instances=workers == 1, mutant=AS_IT_IS,
                TRAPS=str(self._folder / "traps"),
            )  # fmt: skip
            self._cluster.proxies["redis"].alter(dropping(self._losses.chosen))
            await self._cluster.__aenter__()
        return self._cluster

    async def _become(self, cluster: Cluster, mutation: Mutation | None) -> None:
        for name in (*cluster.workers, *cluster.gateways):
            mutant = AS_IT_IS
            if mutation and name.startswith(mutation.kind):
                mutant = f"{mutation.mutant}+{AS_IT_IS}"
            if self._mutants.get(name, AS_IT_IS) != mutant:
                await cluster.down(name, kill=name.startswith("gateway"))
                await cluster.up(name, mutant=mutant)
            self._mutants[name] = mutant
        await cluster.ready()
        await cluster.owned(stories.PARTITIONS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(servers: Servers, out: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    stage = Stage(servers, tmp_path_factory.mktemp("stage"), out)
    yield stage
    await stage.close()


@pytest.mark.parametrize("story", dict.fromkeys(mutation.story for mutation in MUTATIONS), ids=lambda s: s.__name__)
async def test_the_story_ends_well(stage: Stage, story: Story) -> None:
    await stage.tell(story)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.mutant)
async def test_without_the_protection_it_does_not(stage: Stage, mutation: Mutation) -> None:
    with pytest.raises(AssertionError, match=mutation.seen):
        await stage.tell(mutation.story, mutation)


async def test_every_mutant_has_its_story_and_its_line_in_the_guarantees() -> None:
    assert {mutation.mutant for mutation in MUTATIONS} == {
        each.__name__ for each in (*mutants.WORKERS, *gateway_mutants.GATEWAYS)
    }
    documented = GUARANTEES.read_text()
    assert [mutation.mutant for mutation in MUTATIONS if f"`{mutation.mutant}`" not in documented] == []
