"""`tocsin send`: writes notifications to Kafka and prints where they stand once every replica has them."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from cli.kafka import producer, require_topic
from cli.outputs import Sent, time_of
from cli.terminal import say, show
from schemas.errors import BadRecord, SettingsError
from schemas.ids import position_id
from schemas.logs import LANES
from schemas.records import Notification, decode_notification, encode, is_device
from streams.settings import Settings
from streams.topics import load_topics

WINDOW: Final = 2_000  # records under way at most


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent: `count` notifications, `rate` a second (0: as fast as possible), `expires_in` in seconds."""

    user: str
    text: str
    lane: str = "normal"
    key: str | None = None
    kind: str = ""
    title: str | None = None
    data: str | None = None
    device: str | None = None
    expires_in: float | None = None
    count: int = 1
    rate: float = 0.0


def value_of(sending: Sending, number: int, now: datetime) -> bytes:
    """Return the record's value of the `number`-th notification (from 1). Raises `BadRecord` if it would not be taken.

    With a count, texts and keys carry the number, so that they are told apart.
    """
    many = sending.count > 1
    record = Notification(
        user=sending.user,
        id=f"{sending.key}-{number}" if sending.key and many else sending.key,
        kind=sending.kind,
        title=sending.title,
        body=f"{sending.text} {number}" if many else sending.text,
        data=msgspec.UNSET if sending.data is None else msgspec.Raw(sending.data.encode()),
        device=sending.device,
        expires_at=None if sending.expires_in is None else now + timedelta(seconds=sending.expires_in),
    )
    value = encode(record)
    decode_notification(sending.user.encode(), value)
    return value


async def send(settings: Settings, sending: Sending, *, as_json: bool) -> int:
    """Send and print each one when Kafka has it; return 0.

    Raises `SettingsError`, `BadRecord`, `Unreachable` or `Refused`; what was printed before is safe.
    """
    if sending.lane not in LANES:
        raise BadRecord("bad_request", f"there is no lane {sending.lane!r}; the lanes are {', '.join(LANES)}")
    check(sending)
    value_of(sending, 1, datetime.now(UTC))
    name = f"notifications.{sending.lane}"
    number = load_topics(Path(settings.topics) if settings.topics else None).number_of(name)
    await require_topic(settings, settings.prefix + name)
    async with producer(settings.kafka_options(), idempotent=settings.idempotence) as kafka:
        outbox = _Outbox(kafka, settings.prefix + name, number, as_json=as_json)
        await _send_all(outbox, sending)
    return 0


def check(sending: Sending) -> None:
    """Raise `SettingsError` for options that are wrong by themselves."""
    if sending.device is not None and not is_device(sending.device):
        raise SettingsError("--device: an id has 1 to 64 characters of A-Z, a-z, 0-9 and . _ : -")
    if sending.data is not None:
        try:
            msgspec.json.decode(sending.data, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeEncodeError):
            raise SettingsError("--data: this is not a JSON object") from None


async def _send_all(outbox: "_Outbox", sending: Sending) -> None:
    key = sending.user.encode()
    start = time.monotonic()
    for number in range(1, sending.count + 1):
        if sending.rate:
            await asyncio.sleep(max(0.0, start + (number - 1) / sending.rate - time.monotonic()))
        await outbox.put(key, value_of(sending, number, datetime.now(UTC)))
    await outbox.flush()


class _Outbox:
    """Records under way, bounded; they are reported in the order in which they were sent."""

    def __init__(self, kafka: AIOKafkaProducer, topic: str, number: int, *, as_json: bool) -> None:
        self._kafka = kafka
        self._topic = topic
        self._number = number
        self._as_json = as_json
        self._waiting: deque[tuple[bytes, asyncio.Future[RecordMetadata]]] = deque()

    async def put(self, key: bytes, value: bytes) -> None:
        self._waiting.append((value, await self._kafka.send(self._topic, value, key)))
        while self._waiting and (len(self._waiting) > WINDOW or self._waiting[0][1].done()):
            await self._report(*self._waiting.popleft())

    async def flush(self) -> None:
        while self._waiting:
            await self._report(*self._waiting.popleft())

    async def _report(self, value: bytes, acknowledged: Awaitable[Any]) -> None:
        meta = await acknowledged
        own = msgspec.json.decode(value, type=Notification).id
        id_ = str(own) if own is not None else position_id(meta.timestamp, self._number, meta.partition, meta.offset)
        sent = Sent(id_, meta.topic, meta.partition, meta.offset, time_of(meta.timestamp))
        if self._as_json:
            show(sent)
        else:
            say(f"sent {sent.id} to {sent.topic}, partition {sent.partition}, offset {sent.offset}")
