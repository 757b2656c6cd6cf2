"""`tocsin replay` and `tocsin dlq redrive|drop`: plans a run, shows it, and with `--yes` carries it out."""

import os
import time
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from cli.replay.carrying import carry_out, survey
from cli.replay.journal import Book, alive, read_journal, who
from cli.replay.reading import Reader, reading
from cli.replay.rebuild import REBUILD_LEFT_OUT, ROLE, Rebuild, beyond_reach, claimed, require_quiet
from cli.replay.report import Report, Shown, finished_before, resume_command
from cli.replay.steps import Redeliver, Settle, Step
from cli.replay.wish import Wish
from cli.topics import opened
from schemas.logs import LANES
from schemas.replays import Asked, Run, Span
from store.port import Store
from streams.partitions import home_partition
from streams.producer import BatchProducer
from streams.replay import LEFT_OUT, Source, run_name
from streams.replay_journal import Journal, ReplayError, begun, busy, earlier, taken_up, unsure, written_after
from streams.replay_range import Position, RangeError, parse_bound, resolve, times
from streams.settings import Settings
from streams.topics import Topics, app_id, load_topics

LETTERS: Final = "dead-letters"
LANE_TOPICS: Final = tuple(f"notifications.{lane}" for lane in LANES)


async def replay(settings: Settings, wish: Wish) -> int:
    """Show what a run would do, or do it; return 0, or 130 if it was interrupted.

    Raises `RangeError`, `ReplayError`, `Unreachable`, `Refused` or `StoreError`; what the journal notes is done.
    """
    async with AsyncExitStack() as stack:
        reader = await stack.enter_async_context(reading(settings))
        journal = await read_journal(reader, settings)
        deployment = Deployment(settings, reader, journal)
        name, asked = await deployment.asked(wish)
        found = journal.runs.get(name)
        if found and found.event == "finished":
            return finished_before(found, as_json=wish.as_json)
        producer = BatchProducer(settings.kafka_options(), idempotent=settings.idempotence)
        stack.push_async_callback(producer.stop)
        await producer.start()
        if asked.operation in ("redeliver", "rebuild"):
            await deployment.use(await stack.enter_async_context(opened(settings)))
        return await deployment.answer(wish, name, asked, found, producer)


class Deployment:
    """What a replay finds: the topics, the journal, the store where it is needed."""

    def __init__(self, settings: Settings, reader: Reader, journal: Journal) -> None:
        self._settings = settings
        self._reader = reader
        self._journal = journal
        self._topics: Topics = load_topics(Path(settings.topics) if settings.topics else None)
        self._incarnations: dict[str, int] = {}
        self._store: Store | None = None

    async def use(self, store: Store) -> None:
        """Take the store along."""
        self._store = store
        self._incarnations = await store.incarnations()

    # -- what is asked -------------------------------------------------------------------------------------------------

    async def asked(self, wish: Wish) -> tuple[str, Asked]:
        """Return the run's name and what it does; a run that the journal knows keeps what it was asked for."""
        known = self._journal.runs.get(wish.run) if wish.run else None
        if known and wish.is_bare() and known.asked.operation == wish.operation:
            return known.run, known.asked
        asked = Asked(
            operation=wish.operation,
            spans=await self._spans(wish),
            users=sorted(wish.users),
            kinds=sorted(wish.kinds),
            keys=sorted(wish.keys),
            reasons=sorted(wish.reasons),
            topics=sorted(wish.topics),
            limit=wish.limit,
            again=wish.again,
            settled=wish.settled,
            new_epoch=wish.new_epoch,
        )
        if known and asked != known.asked:
            raise ReplayError(
                f"the run {wish.run} was asked for something else; `tocsin replay show {wish.run}` says what"
            )
        return wish.run or run_name(asked), asked

    async def _spans(self, wish: Wish) -> list[Span]:
        now = round(time.time() * 1000)
        first = parse_bound(wish.first, now) if wish.first else None
        last = parse_bound(wish.last, now) if wish.last else None
        spans: list[Span] = []
        for topic in self._topics_of(wish, {b.number for b in (first, last) if isinstance(b, Position)}):
            extent = await self._reader.extent(self._settings.prefix + topic, topic, times(first, last))
            homes = {home_partition(user.encode(), len(extent.end)) for user in wish.users}
            only = homes if wish.users and topic in LANE_TOPICS else None
            spans += [Span(topic, p, low, high) for p, (low, high) in resolve(extent, first, last, only).items()]
        return spans

    def _topics_of(self, wish: Wish, numbers: Collection[int]) -> list[str]:
        if wish.operation in ("redrive", "drop"):
            allowed: tuple[str, ...] = (LETTERS,)
        else:
            allowed = LANE_TOPICS
        if wish.topic is not None and wish.topic not in allowed:
            self._topics.topic(wish.topic)
            raise RangeError(f"{wish.topic} has nothing to {wish.operation}; the topics are {', '.join(allowed)}")
        named = [topic for topic in allowed if self._topics.number_of(topic) in numbers]
        if numbers and (len(named) != len(numbers) or wish.topic not in (None, *named)):
            raise RangeError("the id is of a record in another topic")
        chosen = [wish.topic] if wish.topic else named or list(allowed)
        if wish.operation == "redeliver" and len(chosen) > 1:
            raise RangeError("say which lane: --lane critical, normal or bulk (or an id in --from)")
        return chosen

    # -- what becomes of it --------------------------------------------------------------------------------------------

    async def answer(self, wish: Wish, name: str, asked: Asked, found: Run | None, producer: BatchProducer) -> int:
        """Show the plan, or carry it out."""
        shown = Shown(wish.as_json, REBUILD_LEFT_OUT if asked.operation == "rebuild" else LEFT_OUT)
        book = Book(self._settings, producer)
        group = app_id(self._settings.prefix, ROLE)
        if asked.operation == "rebuild" and wish.yes:
            await require_quiet(self._reader.admin, group)
        if wish.yes and found:
            self._require_rest([found])
        before = earlier(self._journal.runs, name, asked)
        if wish.yes:
            self._require_rest(before)
        run = found or begun(name, asked, who=who(), pid=os.getpid(), now_ms=_now())
        if not wish.yes or (asked.operation == "rebuild" and found is None):
            report = await self._survey(run, book, producer, before)
            if not wish.yes:
                shown.plan(run, report, resume_command(run, known=found is not None))
                return 0
            if report.refusal:
                raise ReplayError(report.refusal)
        run = taken_up(run, who=who(), pid=os.getpid(), now_ms=_now()) if found else run
        if asked.new_epoch and found is None and self._store:
            await self._store.new_epoch()  # before the first note: a crash in between only does it once more
        await book.note(run)
        epochs = await self._claims(asked)
        steps = [self._step(span, run, book, producer, epochs.get(span.topic), before) for span in asked.spans]
        await self._recall(run, steps, before)
        carried = await carry_out(run, steps, self._reader, book, self._settings.prefix, rate=wish.rate)
        return shown.done(carried, resume_command(carried.run, known=True))

    @staticmethod
    def _require_rest(runs: Sequence[Run]) -> None:
        """Raise `ReplayError` if another process is at work on one of these runs."""
        for run in runs:
            if busy(run, who=who(), alive=[run.pid] if alive(run.pid) else [], now_ms=_now()):
                raise ReplayError(f"the run {run.run} is at work: {run.who}, process {run.pid}")

    async def _survey(self, run: Run, book: Book, producer: BatchProducer, before: Sequence[Run]) -> Report:
        by_topic: dict[str, Step] = {}
        steps = [
            by_topic.setdefault(span.topic, self._step(span, run, book, producer, None, before))
            for span in run.asked.spans
        ]
        await self._recall(run, steps, before)
        report = await survey(run, steps, self._reader, self._settings.prefix)
        if run.event == "started" and not run.asked.new_epoch:
            report.refusal = self._unreachable(run, by_topic)
        return report

    @staticmethod
    def _unreachable(run: Run, steps: dict[str, Step]) -> str:
        reached = {
            (topic, partition): offset
            for topic, step in steps.items()
            if isinstance(step, Rebuild)
            for partition, offset in step.reached.items()
        }
        span = beyond_reach(run.asked.spans, reached) if run.asked.operation == "rebuild" else None
        if span is None:
            return ""
        return (
            f"partition {span.partition} of {span.topic} begins at offset {span.first} and the store lacks what was "
            "before: its logs would get other seqs. With --new-epoch they do, and every device starts anew"
        )

    async def _recall(self, run: Run, steps: list[Step], before: Sequence[Run]) -> None:
        """Let a run that goes on see what it wrote before it crashed, and any run what earlier ones have sent."""
        own = dict([place]) if (place := unsure(run)) else {}
        for number, (span, step) in enumerate(zip(run.asked.spans, steps, strict=True)):
            begins = [at for at in (own.get(number), written_after(before, span)) if at is not None]
            if not (begins and isinstance(step, Redeliver)):
                continue
            topic = self._settings.prefix + span.topic
            extent = await self._reader.extent(topic, span.topic)
            first = max(min(begins), extent.begin[span.partition])
            await step.recall(self._reader.pages(topic, span.partition, first, extent.end[span.partition]))

    async def _claims(self, asked: Asked) -> dict[str, dict[int, int]]:
        """Become the writer of what is rebuilt: one epoch a partition, the same for all lanes."""
        if asked.operation != "rebuild" or self._store is None:
            return {}
        epochs = await claimed(self._store, sorted({span.partition for span in asked.spans}), f"rebuild-{who()}")
        return {span.topic: epochs for span in asked.spans}

    def _step(
        self,
        span: Span,
        run: Run,
        book: Book,
        producer: BatchProducer,
        epochs: dict[int, int] | None,
        before: Sequence[Run],
    ) -> Step:
        asked, lane = run.asked, span.topic.rpartition(".")[2]
        if asked.operation == "redeliver" and self._store:
            names = [one.run for one in before]
            return Redeliver(run.run, asked, self._source(span.topic), lane, self._store, producer, names)
        if asked.operation == "rebuild" and self._store:
            source, limit = self._source(span.topic), self._settings.limit(lane)
            return Rebuild(asked, source, lane, self._store, limit=limit, epochs=epochs)
        consumed = map(self._source, self._topics.of_role(ROLE))
        sources = {found.topic: found for found in consumed if found.partitions}
        return Settle(run.run, asked, self._settings.prefix, sources, self._journal, book, producer)

    def _source(self, topic: str) -> Source:
        name = self._settings.prefix + topic
        number = self._topics.number_of(topic)
        return Source(name, number, self._incarnations.get(name, 1), self._reader.partitions.get(name, 0))


def _now() -> int:
    return round(time.time() * 1000)
