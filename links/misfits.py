"""Records that are not handed on as they are, since something is over the limits of a record, or cannot be read."""

from typing import Any, Final, Protocol, Self

from aiokafka.structs import ConsumerRecord

from links.records import Headers

UNREADABLE: Final = "unreadable"  # these two are reasons of dead letters
TOO_LARGE: Final = "too_large"


class Limits(Protocol):
    """What a record may have at most; see `schemas.limits.RecordLimits`."""

    @property
    def value(self) -> int: ...  # noqa: D102 - as its name says
    @property
    def kept(self) -> int: ...  # noqa: D102
    @property
    def key(self) -> int: ...  # noqa: D102
    @property
    def headers(self) -> int: ...  # noqa: D102
    @property
    def header_bytes(self) -> int: ...  # noqa: D102
    @property
    def apart(self) -> str: ...  # noqa: D102
    @property
    def apart_bytes(self) -> int: ...  # noqa: D102


class Misfit(bytes):
    """Stands as the value of a record that is not handed on as it is. It is empty, so nothing takes it for a value.

    `code` and `error` say why, `kept` is what there is of the value, `cut` names what is not whole (`value=20971520`:
    what it had), and `first` is the first offset that it stands for; its record's own is the last.
    """

    code: str
    error: str
    kept: bytes | None
    cut: str
    first: int

    @classmethod
    def of(cls, code: str, error: str, *, first: int, kept: bytes | None = None, cut: str = "value") -> Self:
        """Make one."""
        made = cls()
        made.code, made.error, made.kept, made.cut, made.first = code, error, kept, cut, first
        return made


def kept(value: bytes | None) -> bytes:
    """Return what there is of a value that is null, or empty."""
    return (value.kept if isinstance(value, Misfit) else value) or b""


def fitting(record: Any, limits: Limits) -> Any:
    """Return a `ConsumerRecord` as it is, or cut and as a `Misfit` where it is over the limits."""
    headers, said = fitting_headers(record.headers, limits) if record.headers else (record.headers, "")
    key, value = record.key, record.value
    cut = [said] if said else []
    if key is not None and len(key) > limits.key:
        cut.append(f"key={len(key)}")
        key = key[: limits.key]
    if value is not None and len(value) > limits.value:
        cut.append(f"value={len(value)}")
        value = value[: limits.kept]
    if not cut:
        return record
    error = f"over the limits of a record: {', '.join(cut)}"
    misfit = Misfit.of(TOO_LARGE, error, kept=value, cut=",".join(cut), first=record.offset)
    return record_of(record.topic, record.partition, record.offset, record.timestamp, key, misfit, headers)


def fitting_headers(headers: Headers, limits: Limits) -> tuple[Headers, str]:
    """Return the headers that fit, and what is said of the others, if there are any."""
    last = max((number for number, (name, _) in enumerate(headers) if name == limits.apart), default=-1)
    kept: list[tuple[str, bytes | None]] = []
    count = size = 0
    for number, (name, text) in enumerate(headers):
        if number == last:
            if len(text or b"") <= limits.apart_bytes:
                kept.append((name, text))
            continue
        size += len(name.encode("utf-8", "replace")) + len(text or b"")
        count += 1
        if count <= limits.headers and size <= limits.header_bytes:
            kept.append((name, text))
    return (headers, "") if len(kept) == len(headers) else (tuple(kept), f"headers={len(headers)}")


def record_of(topic: str, partition: int, offset: int, ts: int, key: Any, value: Any, headers: Any) -> Any:
    """Return a `ConsumerRecord`; `ts` is in ms."""
    return ConsumerRecord(
        topic, partition, offset, ts, 0, key, value, None, len(key or b""), len(value or b""), tuple(headers)
    )
