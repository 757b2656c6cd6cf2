"""The range of a replay: what an operator writes, and the offsets that it stands for. Pure.

A bound is offsets (`1500` of every partition, or `0:1500,1:200`), a time (RFC 3339, or `-2h`), or an id that was made
from a position. Named partitions, and the one of an id, narrow the range to them; where several topics are meant, a
partition is written with its topic (`notifications.bulk/0:1500`).
"""

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final, Literal

import msgspec

from schemas.errors import TocsinError
from schemas.ids import position_parts

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_OFFSET: Final = re.compile(r"\d{1,13}")
_PLACE: Final = re.compile(r"(?:([a-z0-9][a-z0-9.-]*)/)?(\d{1,4}):(\d{1,13})")
_AGO: Final = re.compile(r"-(\d{1,6})([smhd])")
_ID: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")


class RangeError(TocsinError):
    """The range of a replay names what is not there, or cannot be understood."""

    exit_code = 2


class Offsets(msgspec.Struct, frozen=True):
    """An offset for each (topic or "", partition), or one for all of them."""

    each: dict[tuple[str, int], int] = {}
    every: int | None = None

    def of(self, topic: str) -> dict[int, int]:
        """Return the offsets that are named for a topic, by partition."""
        return {partition: offset for (named, partition), offset in self.each.items() if named in ("", topic)}


class At(msgspec.Struct, frozen=True):
    """A time, ms since 1970."""

    ms: int


class Position(msgspec.Struct, frozen=True):
    """The one record that an id stands for; `number` is its topic's."""

    number: int
    partition: int
    offset: int


Bound = Offsets | At | Position


class Extent(msgspec.Struct, frozen=True):
    """What Kafka has of a topic: by partition the first offset that is kept and the one after the last.

    `at` holds, for each time that a bound names (ms), the first offset from then on.
    """

    topic: str
    begin: Mapping[int, int]
    end: Mapping[int, int]
    at: Mapping[int, Mapping[int, int]] = {}


def parse_bound(text: str, now_ms: int) -> Bound:
    """Return what `--from` or `--to` says. Raises `RangeError`."""
    if _OFFSET.fullmatch(text):
        return Offsets(every=int(text))
    places = [_PLACE.fullmatch(pair) for pair in text.split(",")]
    if all(places):
        return Offsets(each={(place[1] or "", int(place[2])): int(place[3]) for place in places if place})
    if found := _AGO.fullmatch(text):
        return At(now_ms - int(found[1]) * _UNITS[found[2]] * 1000)
    if _ID.fullmatch(text):
        return _position(text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        hint = "write offsets (1500, or 0:1500,1:200), a time (2026-01-31T12:00:00Z, or -2h) or an id"
        raise RangeError(f"{text!r} is no bound of a range; {hint}") from None
    if time.tzinfo is None:
        raise RangeError(f"the time {text} needs a zone, such as Z")
    return At(round(time.timestamp() * 1000))


def _position(text: str) -> Position:
    try:
        _, number, partition, offset = position_parts(text)
    except ValueError:
        raise RangeError(f"{text} is not an id that was made from a position") from None
    return Position(number, partition, offset)


def times(*bounds: Bound | None) -> list[int]:
    """Return the times that the bounds name, ms."""
    return [bound.ms for bound in bounds if isinstance(bound, At)]


def resolve(
    extent: Extent, first: Bound | None, last: Bound | None, only: Collection[int] | None = None
) -> dict[int, tuple[int, int]]:
    """Return {partition: (first, last)} with first <= offset < last; `only` narrows it to those partitions.

    An upper bound of offsets or of a time is not part of the range, the record of an id is. Empty ranges are left out.
    Raises `RangeError` for a partition or an offset that is not there.
    """
    chosen = _named(extent, first) & _named(extent, last)
    ranges = {
        partition: (_offset(extent, partition, first, "first"), _offset(extent, partition, last, "last"))
        for partition in sorted(chosen if only is None else chosen & set(only))
    }
    return {partition: (low, high) for partition, (low, high) in ranges.items() if low < high}


def _named(extent: Extent, bound: Bound | None) -> set[int]:
    match bound:
        case Offsets(each=each) if each:
            named = set(bound.of(extent.topic))
        case Position(partition=partition):
            named = {partition}
        case _:
            return set(extent.end)
    for partition in named - extent.end.keys():
        raise RangeError(f"{extent.topic} has no partition {partition}; it has 0 to {max(extent.end)}")
    return named


def _offset(extent: Extent, partition: int, bound: Bound | None, which: Literal["first", "last"]) -> int:
    begin, end = extent.begin[partition], extent.end[partition]
    match bound:
        case None:
            return begin if which == "first" else end
        case At(ms=ms):
            return extent.at[ms][partition]
        case Offsets(every=int(every)):  # partitions differ: what lies outside of one is no mistake but for the begin
            if which == "first" and 0 < every < begin:
                raise _gone(extent, partition, every)
            return min(max(every, begin), end)
        case Offsets():
            wanted, after = bound.of(extent.topic)[partition], 0
        case Position(offset=wanted):
            after = 1
    if wanted < begin and (which == "first" or after):
        raise _gone(extent, partition, wanted)
    if wanted + after > end:
        raise RangeError(f"offset {wanted} of partition {partition} is not there: {extent.topic} ends at {end} there")
    return max(begin, wanted + (after if which == "last" else 0))


def _gone(extent: Extent, partition: int, offset: int) -> RangeError:
    begin = extent.begin[partition]
    return RangeError(f"offset {offset} of partition {partition} is gone: {extent.topic} begins at {begin} there")
