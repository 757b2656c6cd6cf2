"""`tocsin topics plan|apply`: topics.yaml against the cluster.

A topic that is about to be made gets its incarnation noted in the store first: a crash in between leaves a number that
is too high, which only skips one, while a topic without its new number would look as if it had been applied already.
Run one `apply` at a time.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient

from cli import cluster
from cli.kafka import admin
from cli.outputs import TopicsApplied, TopicsPlan
from cli.terminal import say, show
from schemas.errors import StoreBehind, TopicsError
from store.port import Store
from store.urls import migrations, open_store
from streams.settings import Settings
from streams.topics import Wanted, load_topics
from streams.topics_plan import Change, Configure, Create, Note, plan, refusal, verdict


async def plan_topics(settings: Settings, *, as_json: bool) -> int:
    """Print what `apply` would do; return 0 if nothing, 2 if something, 1 if it would refuse."""
    incarnations = await _known_incarnations(settings)
    async with admin(settings.kafka_options()) as client:
        changes = await _changes(client, _wanted(settings), incarnations or {})
    _print_plan(changes, as_json=as_json, store_behind=incarnations is None)
    if verdict(changes) == "refused":
        return 1
    return 0 if verdict(changes) == "equal" and incarnations is not None else 2


async def apply_topics(settings: Settings, *, as_json: bool) -> int:
    """Make the cluster what topics.yaml says; return 0. Raises `TopicsError`, having changed nothing, on re-keying."""
    if settings.store_url().startswith("sqlite:"):
        await migrations(settings.store_url()).apply()  # a local file needs no operator to plan its change
    async with opened(settings) as store, admin(settings.kafka_options()) as client:
        changes = await _changes(client, _wanted(settings), await store.incarnations())
        if reason := refusal(changes):
            raise TopicsError(reason)
        warnings = await _carry_out(client, store, changes)
    _print_done(changes, warnings, as_json=as_json)
    return 0


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Store]:
    """Give the store of the settings, open."""
    store = open_store(settings.store_url())
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def _known_incarnations(settings: Settings) -> dict[str, int] | None:
    """Return the incarnations in the store, None if it has not been migrated."""
    if await migrations(settings.store_url()).pending():
        return None
    async with opened(settings) as store:
        return await store.incarnations()


def _wanted(settings: Settings) -> list[Wanted]:
    topics = load_topics(Path(settings.topics) if settings.topics else None)
    return topics.wanted(settings.prefix, settings.profile)


async def _changes(client: AIOKafkaAdminClient, wanted: Sequence[Wanted], incarnations: dict[str, int]) -> list[Change]:
    actual = await cluster.actual_topics(client, [topic.name for topic in wanted])
    return plan(wanted, actual, incarnations)


async def _carry_out(client: AIOKafkaAdminClient, store: Store, changes: Sequence[Change]) -> list[str]:
    for change in changes:
        if isinstance(change, Create) and change.incarnation is not None:
            await store.put_incarnation(change.topic.name, change.incarnation)
        elif isinstance(change, Note):
            await store.put_incarnation(change.name, change.incarnation)
    await cluster.create(client, [change.topic for change in changes if isinstance(change, Create)])
    warned = [await cluster.configure(client, change) for change in changes if isinstance(change, Configure)]
    return [warning for warning in warned if warning]


def _print_plan(changes: Sequence[Change], *, as_json: bool, store_behind: bool) -> None:
    if as_json:
        show(TopicsPlan(verdict(changes), store_behind, list(changes), _lines(changes)))
        return
    if store_behind:
        say(f"store    {StoreBehind()}")
    say(*_lines(changes))
    if reason := refusal(changes):
        say(f"refused: {reason}")
    if not changes and not store_behind:
        say("equal: the cluster has what topics.yaml says")


def _print_done(changes: Sequence[Change], warnings: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        show(TopicsApplied(list(changes), _lines(changes), list(warnings)))
        return
    say(*_lines(changes), *(f"warning  {warning}" for warning in warnings))
    if not changes:
        say("nothing to do: the cluster has what topics.yaml says")


def _lines(changes: Sequence[Change]) -> list[str]:
    return [change.line() for change in changes]
