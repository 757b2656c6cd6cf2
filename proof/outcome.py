"""What workers wrote to Kafka about records that became no entry: read once, at the end of a run."""

import asyncio
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from proof.history import DeadLetter, History, Status

_WITHIN: Final = 30.0  # s


class _Said(msgspec.Struct):
    """What is looked at in a status, and in a notification that became a dead letter."""

    id: str | int | None = None
    user: str = ""
    state: str = ""
    reason: str | None = None


_decode = msgspec.json.Decoder(_Said).decode


async def read_outcome(history: History, brokers: str, prefix: str) -> None:
    """Add the statuses and the dead letters of a deployment to a history. Raises `TimeoutError`."""
    consumer = AIOKafkaConsumer(bootstrap_servers=brokers, enable_auto_commit=False, auto_offset_reset="earliest")
    async with asyncio.timeout(_WITHIN):
        await consumer.start()
        try:
            for topic, add in (("statuses", _status), ("dead-letters", _dead_letter)):
                for record in await _all(consumer, prefix + topic):
                    history.add(add(history.now(), record, prefix))
        finally:
            await consumer.stop()


async def _all(consumer: Any, topic: str) -> list[Any]:
    """Return the records that a topic holds now."""
    numbers = await _partitions(consumer, topic)
    places = [TopicPartition(topic, number) for number in numbers]
    consumer.assign(places)
    ends = await consumer.end_offsets(places)
    await consumer.seek_to_beginning(*places)
    found: list[Any] = []
    while any([await consumer.position(place) < end for place, end in ends.items()]):
        for records in (await consumer.getmany(timeout_ms=200)).values():
            found += records
    return found


async def _partitions(consumer: Any, topic: str) -> set[int]:
    """Return a topic's partitions; the client learns of a topic only when it is asked for."""
    await consumer._client.add_topic(topic)  # noqa: SLF001 - no public way without a subscription
    while not (numbers := consumer.partitions_for_topic(topic)):
        await consumer._client.force_metadata_update()  # noqa: SLF001 - the same
    return set(numbers)


def _said(value: bytes | None) -> _Said:
    try:
        return _decode(value or b"")
    except msgspec.MsgspecError:  # a dead letter may be anything
        return _Said()


def _status(at: float, record: Any, _prefix: str) -> Status:
    said = _said(record.value)
    return Status(at=at, user=said.user, id=str(said.id), state=said.state, reason=said.reason or "")


def _dead_letter(at: float, record: Any, prefix: str) -> DeadLetter:
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    said = _said(record.value)
    return DeadLetter(
        at=at,
        topic=headers["tocsin-topic"].removeprefix(prefix),
        partition=int(headers["tocsin-partition"]),
        offset=int(headers["tocsin-offset"]),
        reason=headers["tocsin-reason"],
        id=headers.get("tocsin-id") or ("" if said.id is None else str(said.id)),
        user=said.user,
    )
