"""How a node of Cassandra that is away is tried again."""

from itertools import islice

from store.cluster import RECONNECT, reconnection

DAY = 24 * 3600  # s


def test_a_node_that_is_away_for_a_day_is_still_tried_every_few_seconds() -> None:
    longest = RECONNECT[1] * 1.15  # with the driver's jitter
    pauses = list(islice(reconnection().new_schedule(), round(DAY / RECONNECT[1])))
    assert sum(pauses) > DAY * 0.8
    assert max(pauses) <= longest
