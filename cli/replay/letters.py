"""`tocsin dlq ls|show`: dead letters, counted and shown; their values only on request."""

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import msgspec

from cli.outputs import Letter as Shown
from cli.outputs import Letters
from cli.replay.journal import read_journal
from cli.replay.reading import Reader, reading
from cli.terminal import say, show
from schemas.frames import rfc3339
from schemas.replays import Asked, Letter
from streams.replay import letter_chosen, letter_of
from streams.replay_journal import Journal
from streams.replay_range import Offsets, RangeError, resolve
from streams.settings import Settings

LETTERS: Final = "dead-letters"
_PLACE: Final = re.compile(r"(\d{1,4}):(\d{1,13})")


class Group(msgspec.Struct):
    """Letters of one reason from one topic; times are ms since 1970."""

    reason: str
    topic: str
    count: int = 0
    first: int = 1 << 62
    last: int = 0


async def list_letters(
    settings: Settings,
    *,
    reasons: list[str],
    topics: list[str],
    users: list[str],
    everything: bool,
    as_json: bool,
) -> int:
    """Print how many letters there are, by reason and source topic; return 0."""
    asked = Asked(operation="drop", spans=[], reasons=reasons, topics=topics, users=users, settled=everything)
    groups: dict[tuple[str, str], Group] = {}
    async with reading(settings) as reader:
        journal = await read_journal(reader, settings)
        async for page in reader.all_of(settings.prefix + LETTERS):
            for message in page:
                _count(groups, message, asked, settings.prefix, journal)
    found = sorted(groups.values(), key=lambda group: group.count, reverse=True)
    letters = [Letters(g.reason, g.topic, g.count, rfc3339(g.first), rfc3339(g.last)) for g in found]
    if as_json:
        show(letters)
    elif letters:
        say(*(f"{one.count:>8}  {one.reason:<13} {one.topic:<24} {one.first} to {one.last}" for one in letters))
    else:
        say("no dead letters")
    return 0


def _count(groups: dict[tuple[str, str], Group], message: Any, asked: Asked, prefix: str, journal: Journal) -> None:
    letter = letter_of(message)
    if not letter_chosen(message, letter, asked, prefix) or (_outcome(message, journal) and not asked.settled):
        return
    reason, topic = letter.reason or "(none)", letter.topic.removeprefix(prefix) or "(none)"
    group = groups.setdefault((reason, topic), Group(reason, topic))
    group.count += 1
    group.first, group.last = min(group.first, message.timestamp), max(group.last, message.timestamp)


def _outcome(message: Any, journal: Journal) -> str:
    marks = journal.settled.get(Letter(message.partition, message.offset, message.timestamp))
    return f"{marks.outcome} by {marks.run}" if marks else ""


async def show_letters(
    settings: Settings,
    at: Sequence[str],
    *,
    reasons: list[str],
    topics: list[str],
    users: list[str],
    everything: bool,
    limit: int,
    with_value: bool,
    as_json: bool,
) -> int:
    """Print letters, the named ones or the first that the filters take; return 0.

    Raises `RangeError` for a place where none lies.
    """
    asked = Asked(
        operation="drop", spans=[], reasons=reasons, topics=topics, users=users, settled=everything or bool(at)
    )
    async with reading(settings) as reader:
        journal = await read_journal(reader, settings)
        found: list[Shown] = []
        async for message in _letters(reader, settings.prefix + LETTERS, at):
            outcome = _outcome(message, journal)
            wanted = letter_chosen(message, letter_of(message), asked, settings.prefix)
            if wanted and (asked.settled or not outcome):
                found.append(_shown(message, outcome, with_value=with_value))
            if len(found) == limit and not at:
                break
    if as_json:
        show(found)
    else:
        say(*([line for one in found for line in _lines(one)] or ["no dead letters"]))
    return 0


async def _letters(reader: Reader, topic: str, at: Sequence[str]) -> AsyncIterator[Any]:
    if not at:
        async for page in reader.all_of(topic):
            for message in page:
                yield message
        return
    extent = await reader.extent(topic, LETTERS)
    for text in at:
        place = _PLACE.fullmatch(text)
        if place is None:
            raise RangeError(f"{text!r} is not the place of a letter; write partition:offset, such as 0:17")
        partition, offset = int(place[1]), int(place[2])
        resolve(extent, _only(partition, offset), _only(partition, offset + 1))
        async for page in reader.pages(topic, partition, offset, offset + 1):
            for message in page:
                yield message


def _only(partition: int, offset: int) -> Offsets:
    return Offsets(each={("", partition): offset})


def _shown(message: Any, outcome: str, *, with_value: bool) -> Shown:
    return Shown(
        at=f"{message.partition}:{message.offset}",
        time=rfc3339(message.timestamp),
        key=_text(message.key),
        headers={name: _text(text) for name, text in message.headers},
        bytes=len(message.value or b""),
        value=_text(message.value) if with_value else None,
        settled=outcome or None,
    )


def _lines(one: Shown) -> list[str]:
    content = f"bytes: {one.bytes}" if one.value is None else f"value: {one.value}"
    return [
        f"{one.at}  {one.time}  key {one.key}  {one.settled or ''}".rstrip(),
        *(f"    {name}: {text}" for name, text in one.headers.items()),
        f"    {content}",
    ]


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "backslashreplace")
