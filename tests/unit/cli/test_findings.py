"""What the doctor concludes from facts."""

from typing import Any

import pytest

from cli.doctor import findings
from cli.doctor.findings import GatewayFacts, RedisFacts, Sample
from cli.outputs import Finding
from schemas.bus import Deleted, StandsStill, WorkerLease
from streams.lag import GroupLag, Owner, PartitionLag

DAY = 86_400_000


def levels(found: list[Finding]) -> list[str]:
    return [one.level for one in found]


def failing(found: list[Finding]) -> list[str]:
    return [one.check for one in found if one.level == "FAIL"]


def test_a_line_says_what_to_do() -> None:
    assert (
        Finding("topics", "FAIL", "two are missing", "make them").line() == "FAIL  topics: two are missing; make them"
    )
    assert Finding("topics", "ok", "all there").line() == "ok    topics: all there"


@pytest.mark.parametrize(
    ("off", "level"), [(0, "ok"), (0.9, "ok"), (-0.9, "ok"), (1.1, "warn"), (-29, "warn"), (31, "FAIL"), (-31, "FAIL")]
)
def test_clocks(off: float, level: str) -> None:
    assert findings.judge_clock("Redis", off).level == level


def test_packages() -> None:
    assert levels(findings.judge_packages((3, 11), {"a": ("1", "1")})) == ["ok"]
    (found,) = findings.judge_packages((3, 11), {"a": ("1", "2"), "b": ("1", None)})
    assert (found.level, found.text) == ("FAIL", "a 2 instead of 1, b missing instead of 1")
    assert levels(findings.judge_packages((3, 10), {})) == ["FAIL"]


def redis(
    *, heard: bool = True, policy: str | None = None, limited: bool = False, pubsub: str | None = None
) -> list[str]:
    facts = RedisFacts(version="7", off=0, heard=heard, policy=policy, limited=limited, pubsub=pubsub)
    return [one.check for one in findings.judge_redis(facts) if one.level != "ok"]


def test_redis() -> None:
    assert redis() == []
    assert redis(heard=False) == ["Redis pub/sub"]
    assert redis(policy="allkeys-lru") == []
    assert redis(policy="allkeys-lru", limited=True) == ["Redis memory"]
    assert redis(policy="noeviction", limited=True) == []
    assert redis(pubsub="normal 0 0 0 slave 1 1 60 pubsub 33554432 8388608 60") == []
    assert redis(pubsub="normal 0 0 0 slave 1 1 60 pubsub 0 0 0") == []
    assert redis(pubsub="normal 0 0 0 slave 1 1 60 pubsub 1000000 8388608 60") == ["Redis buffers"]


def test_the_store() -> None:
    assert failing(findings.judge_store("SQLite", None, [])) == []
    assert failing(findings.judge_store("Cassandra", 40, ["0002"])) == ["clock of the store", "migrations"]


def test_brokers_and_replicas() -> None:
    assert levels(findings.judge_brokers(3, {}, replication=3)) == ["ok"]
    unsafe = {"auto.create.topics.enable": "true", "unclean.leader.election.enable": "true"}
    assert levels(findings.judge_brokers(1, unsafe, replication=3)) == ["FAIL", "warn", "FAIL"]
    assert findings.judge_safety({"a": (1, 1), "b": (3, 2)}) == []
    assert levels(findings.judge_safety({"a": (3, 1), "b": (3, 3)})) == ["FAIL", "warn"]


def test_topics() -> None:
    assert findings.judge_topics([], refused=False, store=True).level == "ok"
    assert findings.judge_topics(["create a"], refused=False, store=True).advice == "run `tocsin topics apply`"
    assert findings.judge_topics(["REFUSED a"], refused=True, store=True).level == "FAIL"


@pytest.mark.parametrize("differences", [["create a"], ["change a"], ["REFUSED a"]])
def test_no_advice_on_topics_rests_on_a_store_that_could_not_be_read(differences: list[str]) -> None:
    found = findings.judge_topics(differences, refused=False, store=False)
    assert "mend the store first" in found.advice
    assert "apply" not in found.advice
    assert findings.judge_topics([], refused=False, store=False).level == "warn"


def test_a_topic_that_takes_less_than_is_written_to_it_is_found() -> None:
    (found,) = findings.judge_sizes({"a": 100_000, "b": 1_000}, {"a": 100_000, "b": 100_000})
    assert (found.check, found.level) == ("max.message.bytes of b", "warn")
    assert "`tocsin topics apply`" in found.advice


def test_a_producer_with_another_partitioner_is_found() -> None:
    good, bad = findings.judge_samples([Sample("a", 100, 0), Sample("b", 100, 73)])
    assert (good.level, bad.level) == ("ok", "warn")
    assert "partitioner=murmur2_random" in bad.advice


def lag(
    *, age: float = 0.0, committed: int = 5, first: int = 0, end: int = 10, state: str = "Stable"
) -> list[tuple[str, str]]:
    now = 100 * DAY
    one = PartitionLag(
        topic="t",
        partition=1,
        first=first,
        end=end,
        committed=committed,
        oldest=now - round(age * DAY) if age else None,
    )
    found = findings.judge_lag(GroupLag("g", state, [one]), {"t": 10 * DAY}, now)
    return [(each.check, each.level) for each in found if each.level != "ok"]


def test_lag_against_retention() -> None:
    assert lag(age=4.9) == []
    assert lag(age=5) == [("t:1", "warn")]
    assert lag(age=9) == [("t:1", "FAIL")]
    assert lag(committed=5, first=6) == [("t:1", "FAIL")]
    assert lag(committed=11, end=10) == [("t:1", "FAIL")]
    assert lag(state="Empty") == [("lag of g", "FAIL")]


def test_a_topic_that_is_kept_for_ever_never_runs_out() -> None:
    one = PartitionLag(topic="t", partition=0, first=0, end=9, committed=1, oldest=1)
    assert levels(findings.judge_lag(GroupLag("g", "Stable", [one]), {"t": -1}, 100 * DAY)) == ["ok"]


def test_permissions() -> None:
    everything = 1 << 3 | 1 << 4 | 1 << 8
    assert levels(findings.judge_permissions({"a": everything})) == ["ok"]
    (found,) = findings.judge_permissions({"a": 1 << 8 | 1 << 3, "b": None})
    assert found.text == "missing: Write on topic a, Describe on topic b, Read on topic b, Write on topic b"


def test_gateways() -> None:
    assert levels(findings.judge_gateways([], [])) == ["warn"]
    one, other = GatewayFacts("g1", 7, 4), GatewayFacts("g2", 0, 0)
    assert failing(findings.judge_gateways([one, other], ["g2"])) == ["gateway g2"]
    assert failing(findings.judge_gateways([other], [])) == ["workers"]


def test_open_files() -> None:
    assert findings.judge_files(1_024, 18_000).level == "warn"
    assert findings.judge_files(20_000, 18_000).level == "ok"


def partition(**fields: Any) -> PartitionLag:
    known = {"topic": "t", "partition": 0, "first": 0, "end": 9, "committed": 5, "oldest": 0, "owner": OWNER}
    return PartitionLag(**{**known, **fields})


OWNER = Owner("m", "w1", "/10.0.0.1")


@pytest.mark.parametrize(
    ("one", "before", "found"),
    [
        (partition(), 5, 1),
        (partition(), 4, 0),
        (partition(owner=None), 5, 0),
        (partition(end=5), 5, 0),
        (partition(oldest=50_000), 5, 0),
        (partition(committed=None), 0, 1),
    ],
    ids=["stands", "goes on", "nobody owns it", "nothing waits", "not for long", "from the beginning"],
)
def test_a_partition_that_stands_still_with_an_owner_is_a_failure(one: PartitionLag, before: int, found: int) -> None:
    judged = findings.judge_standing({("t", 0): before}, GroupLag("g", "Stable", [one]), 60_000)
    assert levels(judged) == ["FAIL"] * found


def test_what_workers_say_of_themselves_is_judged() -> None:
    well = WorkerLease("w1", 4)
    ill = WorkerLease(
        "w2", 4, [StandsStill("t", 2, 7, 41.0, "StoreAway: away")], [Deleted("t", 3, 10, 14, 0)]
    )  # fmt: skip
    fine, stands, deleted = findings.judge_workers([well, ill])
    assert fine.line() == "ok    worker w1: 4 partitions, none stands still"
    assert stands.level == deleted.level == "FAIL"
    assert "t:2@7 has been tried for 41 s: StoreAway: away" in stands.text
    assert "5 records were deleted before they were processed (t:3, offsets 10 to 14)" in deleted.text
