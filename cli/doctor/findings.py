"""What `tocsin doctor` concludes: facts in, findings out. Pure; `cli.doctor.examine…` gather the facts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from cli.outputs import Finding, Level
from schemas.bus import WorkerLease
from streams.lag import GroupLag
from streams.stalls import STALLED

CLOCK_WARN: Final = 1.0  # s that a server's clock may differ from ours
CLOCK_FAIL: Final = 30.0  # s
RETENTION_WARN: Final = 0.5  # of the time that records are kept
RETENTION_FAIL: Final = 0.9
SPARE_FILES: Final = 512  # descriptors that a gateway needs beside its sessions
PUBSUB_HARD: Final = 32 * 1024 * 1024  # bytes that Redis should hold for a gateway before it cuts it off
NEEDED: Final = {"Describe": 8, "Read": 3, "Write": 4}  # Kafka's numbers of operations


class RedisFacts(msgspec.Struct, frozen=True):
    """What Redis says; `policy` and `pubsub` are None where it does not tell (CONFIG may be forbidden)."""

    version: str
    off: float  # s that its clock is ahead of ours
    heard: bool  # a message to a probe channel came back
    policy: str | None
    limited: bool  # it has a limit of memory
    pubsub: str | None  # client-output-buffer-limit


class GatewayFacts(msgspec.Struct, frozen=True):
    """What a gateway says of itself in its lease."""

    name: str
    sessions: int
    partitions: int


class Sample(msgspec.Struct, frozen=True):
    """Keys of the last records of one topic: how many, and how many lie in another partition than their home."""

    topic: str
    keys: int
    astray: int


def judge_packages(python: tuple[int, int], pinned: Mapping[str, tuple[str, str | None]]) -> list[Finding]:
    """Judge Python and the packages that are pinned: {name: (wanted, installed)}."""
    wrong = [f"{name} {have or 'missing'} instead of {want}" for name, (want, have) in pinned.items() if have != want]
    shown = f"Python {python[0]}.{python[1]}, {', '.join(f'{name} {want}' for name, (want, _) in pinned.items())}"
    if python < (3, 11):
        return [Finding("versions", "FAIL", shown, "Python 3.11 or later is needed")]
    if wrong:
        return [Finding("versions", "FAIL", ", ".join(wrong), "`make install` takes the locked versions")]
    return [Finding("versions", "ok", shown)]


def judge_clock(server: str, off: float) -> Finding:
    """Judge a server's clock, which is `off` s ahead of ours."""
    level: Level = "FAIL" if abs(off) > CLOCK_FAIL else "warn" if abs(off) > CLOCK_WARN else "ok"
    advice = "" if level == "ok" else "synchronise the clocks (NTP): expiry and the end of tokens rest on them"
    return Finding(f"clock of {server}", level, f"{abs(off):.2f} s {'ahead of' if off > 0 else 'behind'} ours", advice)


def judge_redis(facts: RedisFacts) -> list[Finding]:
    """Judge Redis."""
    found = [Finding("Redis", "ok", f"version {facts.version}"), judge_clock("Redis", facts.off)]
    if facts.heard:
        found.append(Finding("Redis pub/sub", "ok", "a message to a probe channel came back"))
    else:
        found.append(
            Finding("Redis pub/sub", "FAIL", "a message to a probe channel did not come back",
                    "allow the user of TOCSIN_REDIS all channels that begin with TOCSIN_PREFIX")
        )  # fmt: skip
    if facts.limited and facts.policy not in (None, "noeviction"):
        found.append(
            Finding("Redis memory", "warn", f"maxmemory-policy is {facts.policy}: leases of gateways may be evicted",
                    "set noeviction")
        )  # fmt: skip
    return [*found, _pubsub_limit(facts.pubsub)]


def _pubsub_limit(setting: str | None) -> Finding:
    check = "Redis buffers"
    words = (setting or "").split()
    if "pubsub" not in words:
        return Finding(check, "ok", "client-output-buffer-limit is not shown to this user")
    hard = int(words[words.index("pubsub") + 1])
    if 0 < hard < PUBSUB_HARD:
        advice = f"set at least {PUBSUB_HARD}: a gateway that is cut off syncs all its sessions"
        return Finding(check, "warn", f"client-output-buffer-limit pubsub is {hard} bytes", advice)
    return Finding(check, "ok", f"client-output-buffer-limit pubsub is {hard or 'without limit'}")


def judge_store(what: str, off: float | None, pending: Sequence[str]) -> list[Finding]:
    """Judge the store; `off` is None where it has no clock of its own."""
    found = [Finding("store", "ok", what)]
    if off is not None:
        found.append(judge_clock("the store", off))
    if pending:
        found.append(Finding("migrations", "FAIL", f"not applied: {', '.join(pending)}", "run `tocsin store apply`"))
    else:
        found.append(Finding("migrations", "ok", "all are applied"))
    return found


def judge_brokers(count: int, settings: Mapping[str, str | None], *, replication: int) -> list[Finding]:
    """Judge the cluster: how many brokers, and what the first says of its own settings."""
    found = [Finding("Kafka", "ok", f"{count} brokers")]
    if count < replication:
        found[0] = Finding("Kafka", "FAIL", f"{count} brokers for {replication} replicas", "add brokers")
    if settings.get("auto.create.topics.enable") == "true":
        advice = "set false: what starts too early makes a topic of the wrong size"
        found.append(Finding("auto.create.topics.enable", "warn", "true", advice))
    if settings.get("unclean.leader.election.enable") == "true":
        advice = "set false: Kafka would drop what it has acknowledged"
        found.append(Finding("unclean.leader.election.enable", "FAIL", "true", advice))
    return found


def judge_safety(replicas: Mapping[str, tuple[int, int]]) -> list[Finding]:
    """Judge {topic: (replicas, min.insync.replicas)}: one lost broker must neither lose records nor stop writing."""
    thin = [name for name, (copies, least) in replicas.items() if copies > 1 and least < 2]
    stiff = [name for name, (copies, least) in replicas.items() if copies > 1 and least >= copies]
    found = []
    if thin:
        advice = "set 2: else what is acknowledged may have one copy only"
        found.append(Finding("min.insync.replicas", "FAIL", f"1 for {', '.join(thin)}", advice))
    if stiff:
        advice = "set one less than the replicas: else one broker that is away stops all writing"
        found.append(Finding("min.insync.replicas", "warn", f"all replicas for {', '.join(stiff)}", advice))
    return found


def judge_topics(differences: Sequence[str], *, refused: bool, store: bool) -> Finding:
    """Judge what separates the cluster and the store's incarnations from topics.yaml, one line each.

    Without the `store` nobody knows how often a topic was made, so none is to be made now.
    """
    if not differences:
        known = ", and the store its incarnations" if store else "; their incarnations could not be read from the store"
        return Finding("topics", "ok" if store else "warn", f"the cluster has what topics.yaml says{known}")
    advice = "see `tocsin topics plan`" if refused else "run `tocsin topics apply`"
    if not store:
        advice = "mend the store first: it counts how often a topic was made"
    return Finding("topics", "FAIL" if refused else "warn", f"{len(differences)} differences: {differences[0]}", advice)


def judge_sizes(takes: Mapping[str, int], needed: Mapping[str, int]) -> list[Finding]:
    """Judge what Kafka takes of each topic (`max.message.bytes`) against the largest record that is written to it."""
    return [
        Finding(f"max.message.bytes of {name}", "warn", f"{most}, and records of {needed[name]} bytes are written",
                "run `tocsin topics apply`, or set more: what is refused is cut or lost")
        for name, most in takes.items()
        if most < needed[name]
    ]  # fmt: skip


def judge_samples(samples: Iterable[Sample]) -> list[Finding]:
    """Judge where producers put their records."""
    found = []
    for one in samples:
        level: Level = "warn" if one.astray else "ok"
        advice = "set partitioner=murmur2_random in that producer" if one.astray else ""
        text = f"{one.astray} of the last {one.keys} records lie in another partition than their home"
        found.append(Finding(f"producers of {one.topic}", level, text, advice))
    return found


def judge_lag(group: GroupLag, retention_ms: Mapping[str, int], now_ms: int) -> list[Finding]:
    """Judge how far the group is behind against how long each topic keeps its records (-1: for ever)."""
    found: list[Finding] = []
    for one in group.partitions:
        name = f"{one.topic}:{one.partition}"
        if one.lost:
            advice = "find out why no worker ran; raise retention.ms"
            found.append(Finding(name, "FAIL", f"{one.lost} records were deleted before they were processed", advice))
        if one.remade:
            advice = "stop all workers, delete the topic, run `tocsin topics apply`"
            text = f"committed {one.committed} lies beyond the end {one.end}: the topic was made again"
            found.append(Finding(name, "FAIL", text, advice))
        kept = retention_ms.get(one.topic, -1)
        share = one.behind(now_ms) * 1000 / kept if kept > 0 else 0.0
        if share >= RETENTION_WARN:
            text = f"its oldest unprocessed record has used {share:.0%} of the time that records are kept"
            level: Level = "FAIL" if share >= RETENTION_FAIL else "warn"
            found.append(Finding(name, level, text, "start workers, or raise retention.ms now"))
    text = f"{group.lag} records, the oldest {group.behind(now_ms):.1f} s old"
    nobody = group.state in ("Empty", "Dead")
    advice = "no worker runs: start one" if nobody else ""
    return [*found, Finding(f"lag of {group.group}", "FAIL" if nobody else "ok", text, advice)]


def judge_standing(before: Mapping[tuple[str, int], int], group: GroupLag, now_ms: int) -> list[Finding]:
    """Judge whether partitions stand still: where the group goes on now, and where it did `before`, some s ago."""
    found = []
    for one in group.partitions:
        stands = one.lag and one.begin == before.get((one.topic, one.partition))
        if one.owner and stands and one.behind(now_ms) > STALLED:
            text = f"stands still at {one.begin}, whose record is {one.behind(now_ms):.0f} s old and has an owner"
            advice = "the log and /health/ready of its worker say why"
            found.append(Finding(f"{one.topic}:{one.partition}", "FAIL", text, advice))
    return found


def judge_workers(leases: Iterable[WorkerLease]) -> list[Finding]:
    """Judge what workers say of themselves: what stands still, and what was deleted before they came to it."""
    found: list[Finding] = []
    for lease in leases:
        for still in lease.standing:
            place = f"{still.topic}:{still.partition}@{still.offset}"
            text = f"{place} has been tried for {still.seconds:.0f} s: {still.error}"
            found.append(Finding(f"worker {lease.name}", "FAIL", text, "see to what the error names"))
        for gone in lease.deleted:
            place = f"{gone.topic}:{gone.partition}, offsets {gone.first} to {gone.last}"
            text = f"{gone.last - gone.first + 1} records were deleted before they were processed ({place})"
            advice = "find out why no worker ran; raise retention.ms"
            found.append(Finding(f"worker {lease.name}", "FAIL", text, advice))
        if not (lease.standing or lease.deleted):
            found.append(Finding(f"worker {lease.name}", "ok", f"{lease.partitions} partitions, none stands still"))
    return found


def judge_permissions(operations: Mapping[str, int | None]) -> list[Finding]:
    """Judge what the user of TOCSIN_KAFKA may do: {topic: bits of Kafka's operations, None: not even look}."""
    missing = [
        f"{name} on topic {topic}"
        for topic, bits in operations.items()
        for name, number in NEEDED.items()
        if bits is None or not bits >> number & 1
    ]
    if not missing:
        return [Finding("permissions", "ok", f"read and write on {len(operations)} topics")]
    return [Finding("permissions", "FAIL", f"missing: {', '.join(missing)}", "add these ACLs or use another user")]


def judge_gateways(gateways: Sequence[GatewayFacts], silent: Sequence[str]) -> list[Finding]:
    """Judge the gateways that have a lease, and those among them that did not answer an inquiry."""
    if not gateways:
        return [Finding("gateways", "warn", "none lives", "start one: `tocsin gateway`")]
    found = [
        Finding(f"gateway {one.name}", "FAIL", "has a lease and does not answer", "see its /health/ready and its log")
        if one.name in silent
        else Finding(f"gateway {one.name}", "ok", f"{one.sessions} sessions, hears of {one.partitions} partitions")
        for one in gateways
    ]
    deaf = [one.name for one in gateways if not one.partitions]
    if len(deaf) == len(gateways):
        found.append(Finding("workers", "FAIL", "no gateway hears of any", "start one: `tocsin worker --role inbox`"))
    return found


def judge_files(limit: int, sessions: int) -> Finding:
    """Judge the limit of open files that processes started from here get, against TOCSIN_SESSIONS."""
    if limit < sessions + SPARE_FILES:
        advice = f"raise it to {sessions + SPARE_FILES} (ulimit -n, LimitNOFILE=) or lower TOCSIN_SESSIONS"
        return Finding("open files", "warn", f"{limit} are allowed, and TOCSIN_SESSIONS is {sessions}", advice)
    return Finding("open files", "ok", f"{limit} are allowed")
