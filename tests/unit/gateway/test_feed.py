from gateway.effects import AnnouncePartition, SyncPartitions
from gateway.feed import PATIENCE, SILENCE, Feed
from schemas.bus import Beat, Heard, HeardPart


def packed(number: int, *parts: tuple[int, int], stream: str = "w1") -> Heard:
    return Heard(stream, number, [HeardPart(partition, epoch) for partition, epoch in parts])


def sync(*partitions: int) -> SyncPartitions:
    return SyncPartitions(frozenset(partitions))


def test_parts_in_order_pass_and_a_new_owner_is_announced_to_once() -> None:
    feed = Feed("g")
    parts, effects = feed.take(packed(1, (0, 5), (1, 5)), 0.0)
    assert [part.partition for part in parts] == [0, 1]
    assert effects == [AnnouncePartition(0, 5), AnnouncePartition(1, 5)]
    assert feed.take(packed(2, (0, 5)), 0.0)[1] == []
    assert feed.tick(1.0) == []


def test_a_number_that_does_not_come_makes_the_stream_s_partitions_suspect() -> None:
    feed = Feed("g")
    feed.take(packed(1, (0, 5), (3, 5)), 0.0)
    feed.take(packed(3, (0, 5)), 1.0)
    assert feed.tick(1.0 + PATIENCE / 2) == []
    assert feed.tick(1.0 + PATIENCE) == [sync(0, 3)]
    assert feed.tick(2.0) == []
    assert feed.gaps == 1


def test_neighbours_that_swapped_are_no_gap() -> None:
    feed = Feed("g")
    for number in (1, 3, 2, 4):
        feed.take(packed(number, (0, 5)), 0.0)
    assert feed.tick(10.0) == []


def test_the_first_message_of_a_stream_is_number_1_or_something_was_missed() -> None:
    feed = Feed("g")
    feed.take(packed(4, (0, 5)), 0.0)
    assert feed.tick(PATIENCE) == [sync(0)]


def test_a_long_jump_is_not_waited_for() -> None:
    feed = Feed("g")
    feed.take(packed(1, (0, 5)), 0.0)
    assert feed.take(packed(1000, (0, 5)), 0.0)[1] == [sync(0)]
    assert feed.tick(10.0) == []


def test_a_stream_that_counts_anew_is_suspect_and_goes_on() -> None:
    feed = Feed("g")
    for number in (1, 2, 3):
        feed.take(packed(number, (0, 5)), 0.0)
    assert feed.take(packed(1, (0, 5)), 0.0)[1] == [sync(0)]
    assert feed.take(packed(2, (0, 5)), 0.0)[1] == []


def test_a_beat_shows_that_the_last_message_was_lost() -> None:
    feed = Feed("g")
    feed.take(packed(1, (0, 5)), 0.0)
    assert feed.take(Beat("w1", {0: 5}, {"g": 1, "other": 9}), 1.0)[1] == []
    assert feed.take(Beat("w1", {0: 5, 2: 5}, {"g": 2}), 2.0)[1] == [AnnouncePartition(2, 5), sync(0, 2)]
    assert feed.take(Beat("w1", {0: 5, 2: 5}, {"g": 2}), 3.0)[1] == []


def test_parts_of_a_former_owner_are_dropped_and_counted() -> None:
    feed = Feed("g")
    feed.take(packed(1, (0, 5)), 0.0)
    assert feed.take(packed(1, (0, 6), stream="w2"), 0.0)[1] == [AnnouncePartition(0, 6)]
    parts, effects = feed.take(packed(2, (0, 5), (1, 5)), 0.0)
    assert [part.partition for part in parts] == [1]
    assert effects == [AnnouncePartition(1, 5)]
    assert feed.fenced == 1


def test_a_beat_announces_a_new_owner_before_it_says_anything() -> None:
    feed = Feed("g")
    feed.take(packed(1, (0, 5)), 0.0)
    assert feed.take(Beat("w2", {0: 6}, {}), 0.0)[1] == [AnnouncePartition(0, 6)]
    assert feed.take(packed(2, (0, 5)), 0.0)[0] == []


def test_a_silent_stream_is_suspect_once_a_period_while_it_owns_partitions() -> None:
    feed = Feed("g")
    feed.take(packed(1, (0, 5)), 0.0)
    assert feed.tick(SILENCE) == []
    assert feed.tick(SILENCE + 1) == [sync(0)]
    assert feed.tick(SILENCE + 2) == []
    assert feed.tick(2 * SILENCE + 2) == [sync(0)]
    feed.take(packed(1, (0, 6), stream="w2"), 60.0)
    assert feed.tick(62.0 + SILENCE) == [sync(0)]  # of the new owner
    assert feed.owners() == {"w2": 1}


def test_a_partition_that_a_stream_gave_up_is_not_its_any_more() -> None:
    feed = Feed("g")
    feed.take(packed(1, (0, 5), (1, 5)), 0.0)
    feed.take(Beat("w1", {1: 5}, {"g": 1}), 0.0)
    assert feed.take(Beat("w1", {1: 5}, {"g": 2}), 0.0)[1] == [sync(1)]
