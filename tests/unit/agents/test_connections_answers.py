"""How sessions are registered and answered: what is read for that, when it had better not be, who waits for whom."""

import asyncio
from collections.abc import Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from agents.answering import Answering
from agents.answers import PIECE
from agents.connections import ConnectionsAgent
from agents.cursors import CursorWriter
from agents.devices import Devices
from agents.waiting import Budgets
from schemas.bus import TOO_MANY_SESSIONS, Delivery, Opening, Part, Refusal
from schemas.errors import StoreAway, StoreRefused
from schemas.records import Ack, Acks, Announce, Connected, Disconnected, OpenSession, Sync, SyncRequest, encode
from schemas.rows import Cursor, Device, Head, Range, Row, Standing
from streams.connections import Place, Sessions
from streams.limits import Limit
from streams.partitions import home_partition
from streams.runner import Batch
from streams.turnstile import Beside, Turnstile
from telemetry.watchdog import Watch
from telemetry.worker import WorkerMetrics

LOG, USER = "inbox/normal", "ann"


PARTITIONS = 2


class Store:
    """Logs of 100 rows; it counts how often rows are asked for. Of `broken` users nothing can be read."""

    def __init__(self, size: int = 500_000) -> None:
        self.size = size
        self.reads: list[int] = []
        self.broken: set[str] = set()
        self.away = False
        self.devices: dict[tuple[str, str], Device] = {}
        self.forgotten: list[str] = []
        self.cursors: list[Cursor] = []

    def _ask(self, users: Sequence[str]) -> None:
        if self.away:
            raise StoreAway
        if self.broken & set(users):
            raise StoreRefused

    async def epoch(self) -> str:
        return "e1"

    async def heads(self, logs: Sequence[str], recent: int) -> dict[str, Head]:
        assert recent == 0
        self._ask([])
        return dict.fromkeys(logs, Head(seq=100))

    async def read(self, ranges: Sequence[Range]) -> list[list[Row]]:
        self._ask([wanted.log.rpartition("/")[2] for wanted in ranges])
        self.reads.append(len(ranges))
        return [[Row(100, 1, 1, "", b"", 1, 0, "", b"x" * self.size)] for _ in ranges]

    async def standings(self, wanted: Sequence[tuple[str, str]], logs: Sequence[str]) -> list[Standing]:
        self._ask([])
        return [Standing(self.devices.get(who), [one for one in self.cursors if one.user == who[0]]) for who in wanted]

    async def put_cursors(self, cursors: Sequence[Cursor]) -> None:
        self.cursors += cursors

    async def put_devices(self, devices: Sequence[Device]) -> None:
        self.devices |= {(one.user, one.device): one for one in devices}

    async def seen_devices(self, user: str, limit: int) -> dict[str, int]:
        return {device: one.seen for (of, device), one in self.devices.items() if of == user}

    async def forget_devices(self, user: str, devices: Sequence[str], logs: Sequence[str]) -> None:
        for device in devices:
            del self.devices[user, device]
            self.forgotten.append(device)


class Around:
    """What else the agent talks to. `takes`: whether Redis takes messages."""

    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes
        self.dead = set[str]()
        self.sent: list[Part] = []
        self.letters: list[tuple[str, str]] = []
        self.epochs = dict.fromkeys(range(PARTITIONS), 1)

    @property
    def logs(self) -> list[str]:
        return [answer.log for part in self.sent for answer in part.answers]

    @property
    def answered(self) -> list[str]:
        return [answer.session for part in self.sent for answer in part.answers]

    @property
    def openings(self) -> list[Opening]:
        return [opening for part in self.sent for opening in part.openings]

    @property
    def deliveries(self) -> list[Delivery]:
        return [delivery for part in self.sent for delivery in part.deliveries]

    @property
    def refusals(self) -> list[Refusal]:
        return [refusal for part in self.sent for refusal in part.refusals]

    @property
    def published(self) -> int:
        return len(self.logs)

    def heard_of(self, gateway: str) -> None:
        assert gateway

    def gone(self, gateway: str) -> bool:
        return gateway in self.dead

    async def reaches(self) -> bool:
        return self.takes

    async def publish(self, parts: dict[str, list[Part]]) -> None:
        self.sent += [part for items in parts.values() for part in items]

    async def emit(self, emits: Sequence[Any]) -> None:
        self.letters += emits

    def letter(self, _message: Any, code: str, error: str) -> Any:
        return (code, error)

    async def held(self) -> dict[int, int]:
        return self.epochs

    def get(self, *_: Any) -> Any:
        return None

    def merged(self, *_: Any) -> list[Any]:
        return []


class Connections:
    """The table of connections."""

    def __init__(self) -> None:
        self.found: dict[str, Sessions] = {}

    def get(self, _partition: int, user: str) -> Sessions:
        return self.found.get(user, {})

    async def write(self, _producer: Any, changes: Any) -> None:
        for users in changes.values():
            for user, changed in users.items():
                sessions = self.found.setdefault(user, {})
                for session, place in changed.items():
                    sessions.pop(session, None)
                    if place:
                        sessions[session] = place


class World:
    """An agent and what is around it."""

    def __init__(
        self,
        store: Store | None = None,
        *,
        takes: bool = True,
        limit: Limit | None = None,
        sessions: int = 1_000,
        devices: int = 1_000,
    ) -> None:
        self.store, self.around, self.table = store or Store(10), Around(takes=takes), Connections()
        self.metrics = WorkerMetrics(self.registry)
        parts = SimpleNamespace(
            store=self.store,
            producer=self.around,
            publisher=self.around,
            ownership=self.around,
            dead_letters=self.around,
            statuses=self.around,
            logs=self.around,
            connections=self.table,
            metrics=self.metrics,
        )
        self.watch = Watch(10.0)
        beside = Beside(Turnstile(), (), lambda: self.watch.goes_on("connections"))
        self.cursors = CursorWriter(cast("Any", self.store))
        self.answering = Answering(
            cast("Any", parts),
            self.cursors,
            Devices(cast("Any", self.store), self.metrics, limit=devices, days=1.0),
            Budgets(limit),
            beside,
            backlog=600,
            watch=self.watch,
        )
        self.agent = ConnectionsAgent(
            cast("Any", parts), self.answering, self.cursors, partitions=PARTITIONS, sessions=sessions
        )

    @cached_property
    def registry(self) -> CollectorRegistry:
        return CollectorRegistry()

    def metric(self, name: str) -> float:
        return self.registry.get_sample_value(name) or 0.0

    async def take(self, *values: Any, partition: int | None = None) -> None:
        """Take records, and do what is held; requests for rows wait."""
        batch = Batch([self.message(value, partition) for value in values], epoch=1)
        await self.agent.handle(batch)
        for _, work in batch.held:
            await work()

    def message(self, value: Any, partition: int | None) -> Any:
        where = home(getattr(value, "user", USER)) if partition is None else partition
        return SimpleNamespace(partition=where, value=value if isinstance(value, bytes) else encode(value))

    async def serve(self) -> None:
        """Answer what may be answered now."""
        while self.answering.waiting.due() == 0.0:
            await self.answering.answer_some()


def home(user: str) -> int:
    return home_partition(user.encode(), PARTITIONS)


NEIGHBOUR = next(f"u{number}" for number in range(99) if home(f"u{number}") == home(USER))
STRANGER = next(f"u{number}" for number in range(99) if home(f"u{number}") != home(USER))


def request(session: str, *, user: str = USER, log: str = LOG, after: int = 0, limit: int = 10) -> SyncRequest:
    return SyncRequest(user, session, "web", log, after, limit, asked=True)


def syncs(*requests: SyncRequest) -> Sync:
    return Sync(gateway="g", syncs=list(requests))


def connected(session: str, *, user: str = USER, device: str = "web", gateway: str = "g") -> Connected:
    return Connected(user=user, session=session, gateway=gateway, device=device)


def many(count: int, logs: Sequence[str] = (LOG,)) -> Sync:
    return syncs(*(request(f"s{number}", log=log, after=number) for number in range(count) for log in logs))


async def test_rows_are_not_even_read_while_redis_takes_nothing() -> None:
    world = World(takes=False)
    await world.take(many(10), connected("s"))
    await world.serve()
    assert (world.store.reads, world.around.sent, len(world.answering.waiting)) == ([], [], 0)


async def test_heavy_rows_are_read_for_few_sessions_at_a_time() -> None:
    world = World(Store())
    await world.take(many(90))
    await world.serve()
    assert world.around.published == sum(world.store.reads) == 90
    assert world.store.reads[0] == PIECE
    assert max(world.store.reads[1:]) <= 8  # of half a megabyte each


async def test_all_urgent_logs_are_answered_before_the_others() -> None:
    world = World()
    await world.take(many(40, ("inbox/bulk", "inbox/critical")))
    await world.serve()
    assert world.around.logs == ["inbox/critical"] * 40 + ["inbox/bulk"] * 40


async def test_one_with_many_requests_waits_for_nobody_elses_and_nobody_for_all_of_them() -> None:
    world = World()
    await world.take(many(200))
    await world.take(syncs(request("n", user=NEIGHBOUR)))
    await world.answering.answer_some()
    assert "n" in world.around.answered
    assert len(world.around.answered) < 100


async def test_a_user_over_the_budget_waits_and_the_others_do_not() -> None:
    world = World(limit=Limit(50, 3_600_000_000))
    await world.take(many(PIECE + 20))
    await world.serve()
    assert len(world.around.answered) == PIECE
    await world.take(syncs(request("n", user=NEIGHBOUR)), many(PIECE + 20))
    await world.serve()
    assert world.around.answered[PIECE:] == ["n"]
    assert world.metric("tocsin_users_over_budget") == 1
    assert world.metric("tocsin_syncs_waiting") == PIECE + 20


async def test_an_opening_of_a_user_over_the_budget_is_answered_without_rows() -> None:
    world = World(limit=Limit(50, 3_600_000_000))
    await world.take(connected("s1"))
    (first,) = world.around.deliveries
    assert first.runs[0].frame
    reads = len(world.store.reads)
    await world.take(connected("s2"), connected("n", user=NEIGHBOUR))
    assert [opening.session for opening in world.around.openings] == ["s1", "s2", "n"]
    hers, neighbours = world.around.deliveries[1:]
    assert {run.reason for run in hers.runs} == {"gap"}
    assert neighbours.runs[0].frame
    assert len(world.store.reads) == reads + 1


async def test_a_later_request_of_a_session_takes_the_place_of_the_earlier() -> None:
    world = World()
    for after in range(50):
        await world.take(syncs(request("s", after=after), request("t", after=after)))
    assert (len(world.answering.waiting), world.metric("tocsin_syncs_replaced_total")) == (2, 98)
    await world.serve()
    assert [answer.after for part in world.around.sent for answer in part.answers] == [49, 49]


async def test_one_whose_rows_cannot_be_read_takes_nobody_with_her() -> None:
    world = World()
    world.store.broken = {USER}
    await world.take(connected("s"), connected("n", user=NEIGHBOUR), connected("x", user=STRANGER))
    assert sorted(opening.session for opening in world.around.openings) == ["n", "x"]
    await world.take(syncs(request("s"), request("n", user=NEIGHBOUR)))
    await world.serve()
    assert world.around.answered == ["n"]
    assert world.metric("tocsin_requests_unanswered_total") == 2
    assert len(world.answering.waiting) == 0


async def test_nobody_is_given_up_while_the_store_is_away() -> None:
    world = World()
    await world.take(connected("s"), syncs(request("s")))
    world.store.away = True
    with pytest.raises(StoreAway):
        await world.answering.answer_some()
    with pytest.raises(StoreAway):
        await world.take(connected("s2"))
    assert world.metric("tocsin_requests_unanswered_total") == 0
    world.store.away = False
    await world.serve()
    assert world.around.answered == ["s"]


# --- registration


async def test_a_user_has_so_many_sessions_and_the_next_one_is_refused() -> None:
    world = World(sessions=3)
    await world.take(*(connected(f"s{number}") for number in range(5)), connected("n", user=NEIGHBOUR))
    assert set(world.table.get(0, USER)) == {"s0", "s1", "s2"}
    assert world.around.refusals == [Refusal(f"s{n}", TOO_MANY_SESSIONS, "too many sessions") for n in (3, 4)]
    assert sorted(opening.session for opening in world.around.openings) == ["n", "s0", "s1", "s2"]
    assert world.metric("tocsin_sessions_refused_total") == 2
    await world.take(connected("s1"))
    await world.take(Disconnected(user=USER, session="s3", gateway="g"), connected("s4"))
    assert len(world.around.refusals) == 3
    await world.take(Disconnected(user=USER, session="s0", gateway="g"), connected("s4"))
    assert set(world.table.get(0, USER)) == {"s1", "s2", "s4"}


async def test_sessions_that_come_back_by_a_request_or_an_announcement_count_as_well() -> None:
    world = World(sessions=2)
    announced = [OpenSession(USER, f"s{number}", "web", "ws", {LOG: 5}) for number in range(3)]
    await world.take(Announce(gateway="g", partition=home(USER), epoch=1, sessions=announced))
    assert [refusal.session for refusal in world.around.refusals] == ["s2"]
    assert {session for one in world.around.deliveries for session in one.sessions} == {"s0", "s1"}
    await world.take(syncs(request("s3"), request("s1")))
    await world.serve()
    assert [refusal.session for refusal in world.around.refusals] == ["s2", "s3"]
    assert world.around.answered == ["s1"]


async def test_sessions_on_gateways_that_are_gone_make_room() -> None:
    world = World(sessions=3)
    world.table.found[USER] = {"s0": Place("gone", "web"), "s1": Place("g", "web"), "s2": Place("gone", "web")}
    await world.take(connected("s3"))
    assert len(world.around.refusals) == 1
    world.around.dead.add("gone")
    await world.take(connected("s4"), connected("s5"))
    assert set(world.table.get(0, USER)) == {"s1", "s4", "s5"}


# --- devices


async def test_a_device_is_known_from_its_first_opening_on() -> None:
    world = World()
    world.store.cursors = [Cursor(USER, log, "", 40, 0) for log in ("inbox/critical", LOG, "inbox/bulk")]
    await world.take(connected("s1"))
    assert world.store.devices[USER, "web"].starts == {"inbox/critical": 40, LOG: 40, "inbox/bulk": 40}
    world.store.cursors = [Cursor(USER, log, "", 90, 0) for log in ("inbox/critical", LOG, "inbox/bulk")]
    await world.take(connected("s2"))
    assert {log.after for log in world.around.openings[1].logs} == {40}


async def test_a_session_without_a_device_is_not_remembered() -> None:
    world = World()
    await world.take(connected("s1", device=""))
    assert len(world.around.openings) == 1
    assert not world.store.devices


async def test_devices_seen_least_lately_are_forgotten_first_and_none_with_a_session() -> None:
    world = World(devices=5)
    for number in range(5):
        world.store.devices[USER, f"d{number}"] = Device(USER, f"d{number}", 10**10 + number, {})
    await world.take(connected("s0", device="d0"))
    for number in (5, 6):
        await world.take(connected(f"s{number}", device=f"d{number}"))
    assert world.store.forgotten == ["d1", "d2"]
    assert world.metric("tocsin_devices_forgotten_total") == 2


# --- items


async def test_one_bad_item_takes_no_other_with_it() -> None:
    world = World()
    good = encode(many(3))[:-1].replace(b'"v":1', b'"v":1')
    bad = (
        b'["%s","s9","web","inbox/normal",1,9]' % STRANGER.encode(),
        b'["ann","s9","a b","inbox/normal",1,9]',
        b'["ann","s9","\\ud800","inbox/normal",1,9]',
        b'["ann","s9","\xed\xa0\x80","inbox/normal",1,9]',
        b'["ann","s9","web","inbox/normal",-1,9]',
        b'["ann","s9","web","inbox/normal",99999999999999999999999999,9]',
        b'["ann","s9","web","inbox/normal",' + b"9" * 5_000 + b",9]",
        b'["ann"]',
        b"7",
    )
    for item in bad:
        at = good.index(b'["ann","s1"')
        await world.take(good[:at] + item + b"," + good[at:] + b"}")
        await world.serve()
        assert sorted(world.around.answered) == ["s0", "s1", "s2"], item
        world.around.sent.clear()
    codes = [code for code, _ in world.around.letters]
    assert codes == ["key_mismatch", *["bad_request"] * (len(bad) - 1)]
    assert all("[1]" in error or "does not belong" in error for _, error in world.around.letters)
    assert world.metric("tocsin_bad_items_total") == len(bad)


async def test_a_bad_session_of_an_announcement_takes_no_other_with_it() -> None:
    world = World()
    sessions = [OpenSession(user, f"s-{user}", "web", "ws", {LOG: 1}) for user in (USER, STRANGER, NEIGHBOUR)]
    await world.take(Announce(gateway="g", partition=home(USER), epoch=1, sessions=sessions))
    assert {one.user for one in world.around.deliveries} == {USER, NEIGHBOUR}
    assert [code for code, _ in world.around.letters] == ["key_mismatch"]


async def test_a_record_that_is_bad_as_a_whole_is_a_dead_letter() -> None:
    world = World()
    await world.take(b"{]", b'{"type":"sync","gateway":"","syncs":[]}', b'{"type":"other","gateway":"g"}')
    assert [code for code, _ in world.around.letters] == ["not_json", "bad_request", "bad_request"]


async def test_acknowledgements_of_gateways_of_before_count_and_are_acked_when_they_are_durable() -> None:
    world = World()
    world.cursors.hurry()
    acks = [Ack(USER, "web", LOG, 5, 4), Ack(USER, "a b", LOG, 5, 4)]
    batch = Batch([world.message(Acks(gateway="g", acks=acks), home(USER))], epoch=1)
    await world.agent.handle(batch)
    assert [code for code, _ in world.around.letters] == ["bad_request"]
    ((held, work),) = batch.held
    assert held == batch.messages
    await work()
    assert world.store.cursors == [Cursor(USER, LOG, "web", 5, 4), Cursor(USER, LOG, "", 5, 4)]


async def test_who_answers_is_watched_while_there_is_something_to_do_and_not_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that has nothing to answer for a minute is not stuck; one whose store never answers is."""
    monkeypatch.setattr("agents.answering.RETRY_FIRST", 0.001)
    world = World()
    answering = asyncio.create_task(world.answering.answer_for_ever())
    await world.take(many(3))
    async with asyncio.timeout(5):
        while len(world.around.answered) < 3:  # noqa: ASYNC110 - the agent says nothing to us
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    for _ in range(100):
        assert world.watch.look(1.0) is None
    world.store.away = True
    await world.take(many(3))
    async with asyncio.timeout(5):
        while not world.registry.get_sample_value("tocsin_batch_retries_total", {"agent": "answers"}):  # noqa: ASYNC110 - the same
            await asyncio.sleep(0)
    for _ in range(100):
        assert world.watch.look(1.0) is None
    world.store.away = False
    async with asyncio.timeout(5):
        while len(world.around.answered) < 6:  # noqa: ASYNC110 - the same
            await asyncio.sleep(0)

    async def never(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(world.store, "read", never)
    await world.take(many(3))
    for _ in range(10):
        await asyncio.sleep(0)
    assert "answers" in {world.watch.look(1.0) for _ in range(100)}
    answering.cancel()
