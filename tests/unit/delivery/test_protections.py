"""Each protection of delivery is needed: where it is taken out, a short story ends with a wrong or late device.

Every story is told twice: as it is, which has to end well, and without the protection, which must be noticed. What is
taken out is taken out by the test alone, by a subclass or a patch.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import msgspec
import pytest

import agents.inbox
import streams.inbox
from agents.inbox import InboxAgent
from gateway.feed import Feed
from streams.inbox import LogState
from streams.runner import Batch
from tests.unit.delivery.servers import Store
from tests.unit.delivery.stories import (
    Story,
    begun,
    crash_after_the_take,
    frozen_worker_answers_a_device_that_is_ahead_of_it,
    frozen_worker_appends_what_its_successor_then_finds_done,
    frozen_worker_says_what_kafka_lost,
    gateway_was_taken_for_dead,
    last_message_before_silence_is_lost,
    message_in_the_middle_is_lost,
    misplaced_record_again,
    more_than_a_session_is_sent_at_once,
    openings_lost_while_redis_was_away,
    partitions_come_back,
    same_record_again,
    statuses_cannot_be_written_while_entries_are_merged,
    store_away_for_an_append,
    two_frozen_workers_append_what_their_successor_acked,
)
from tests.unit.delivery.worker import Logs, Worker
from tests.unit.delivery.world import World


@contextmanager
def acked_first() -> Iterator[None]:
    with patch.object(Worker, "acks_first", new=True):
        yield


@contextmanager
def rows_not_asked() -> Iterator[None]:
    """What the table says was judged is not looked up, and the table is written first."""
    with marked_first(), patch.object(agents.inbox, "needs_rows", lambda *_: False):
        yield


@contextmanager
def marked_first() -> Iterator[None]:
    class MarksFirst(InboxAgent):
        async def handle(self, batch: Batch) -> None:
            store, marked = self._store, self._logs

            class Later:
                """Gives back what it is told until the tables have been written."""

                async def append(self, batches: Any) -> None:
                    self.batches = batches

                def __getattr__(self, name: str) -> Any:
                    return getattr(store, name)

            later = Later()
            self._store = later
            try:
                await super().handle(batch)
            finally:
                self._store, self._logs = store, marked
            await store.append(later.batches)

    with patch.object(Worker, "inbox", MarksFirst):
        yield


@contextmanager
def old_epochs_believed() -> Iterator[None]:
    class Believes(Logs):
        def get(self, log: str, epoch: int) -> LogState | None:
            found = (super(Believes, self).get(log, former) for former in range(epoch, 0, -1))
            state = next((state for state in found if state), None)
            return None if state is None else msgspec.structs.replace(state, epoch=epoch)

    with patch.object(World, "logs", Believes):
        yield


@contextmanager
def known_not_written_again() -> Iterator[None]:
    with patch.object(Store, "rewrite", lambda *_: nothing()):
        yield


async def nothing() -> None:
    pass


@contextmanager
def fence_open() -> Iterator[None]:
    def owned(self: Feed, stream: Any, partition: int, epoch: int, effects: list[Any]) -> bool:
        real(self, stream, partition, epoch, effects)
        return True

    real = Feed._owned
    with patch.object(Feed, "_owned", owned):
        yield


@contextmanager
def no_beats() -> Iterator[None]:
    with patch.object(World, "beats", new=False):
        yield


@contextmanager
def numbers_ignored() -> Iterator[None]:
    with patch.object(Feed, "_number", lambda *_: None), patch.object(Feed, "_beat", lambda *_: None):
        yield


@contextmanager
def repeats_taken() -> Iterator[None]:
    def forgetful(**record: Any) -> streams.inbox.Incoming:
        return msgspec.structs.replace(real(**record), key="")

    real = streams.inbox.incoming
    with patch.object(agents.inbox, "incoming", forgetful):
        yield


STORIES: list[tuple[Story, Callable[[], AbstractContextManager[None]]]] = [
    (crash_after_the_take, acked_first),
    (store_away_for_an_append, rows_not_asked),
    (partitions_come_back, old_epochs_believed),
    (two_frozen_workers_append_what_their_successor_acked, known_not_written_again),
    (frozen_worker_says_what_kafka_lost, fence_open),
    (last_message_before_silence_is_lost, no_beats),
    (message_in_the_middle_is_lost, numbers_ignored),
    (same_record_again, repeats_taken),
    (misplaced_record_again, repeats_taken),
]
WITHIN = 12.0  # s: the longest pause of a beat, and a little


def tell(story: Story, without: AbstractContextManager[None]) -> None:
    with without:
        world = begun()
        try:
            story(world)
            world.heal()
            world.settle(WITHIN)
            world.check()
        finally:
            world.close()


@pytest.mark.parametrize(
    "story",
    [
        *(story for story, _ in STORIES),
        frozen_worker_appends_what_its_successor_then_finds_done,
        frozen_worker_answers_a_device_that_is_ahead_of_it,
        openings_lost_while_redis_was_away,
        gateway_was_taken_for_dead,
        statuses_cannot_be_written_while_entries_are_merged,
        more_than_a_session_is_sent_at_once,
    ],
)
def test_the_story_ends_well(story: Story) -> None:
    tell(story, nullcontext())


@pytest.mark.parametrize(("story", "without"), STORIES)
def test_without_the_protection_it_does_not(story: Story, without: Callable[[], AbstractContextManager[None]]) -> None:
    with pytest.raises(AssertionError):
        tell(story, without())


def test_a_table_that_is_ahead_of_the_store_does_no_harm_by_itself() -> None:
    tell(store_away_for_an_append, marked_first())
