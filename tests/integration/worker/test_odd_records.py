"""Records of every codec, size and shape that a broker takes: each is an entry or a letter, and its lane goes on."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.record.default_records import calc_crc32c
from confluent_kafka import Producer

from schemas.limits import KEPT_VALUE, MAX_HEADER_BYTES, MAX_HEADERS, MAX_VALUE
from tests.integration.worker.conftest import PARTITIONS, Deployment, home, until

CODECS = ("gzip", "snappy", "lz4", "zstd")
MIB = 1024 * 1024
MEMORY = 500 * MIB  # by which a worker may grow while it unpacks

Headers = Sequence[tuple[str, bytes | None]]
Record = tuple[bytes | None, bytes | None, Headers]


def value(user: str, **fields: Any) -> bytes:
    text = "".join(f',"{name}":"{text}"' for name, text in fields.items())
    return f'{{"user":"{user}","title":"t"{text}}}'.encode()


def write(
    deployment: Deployment,
    records: Sequence[Record],
    *,
    codec: str | None = None,
    partition: int,
    topic: str = "notifications.normal",
    changed: Callable[[bytearray], bytearray] = lambda batch: batch,
) -> tuple[int, int]:
    """Write records as one batch, which may be changed before, and return its partition and first offset."""

    async def written() -> tuple[int, int]:
        producer = AIOKafkaProducer(
            bootstrap_servers=deployment.kafka, acks="all", compression_type=codec, max_batch_size=1 << 28
        )
        await producer.start()
        try:
            batch = producer.create_batch()
            for key, content, headers in records:
                assert batch.append(timestamp=None, key=key, value=content, headers=list(headers))
            batch._buffer = changed(bytearray(batch._build()))
            done = await (await producer.send_batch(batch, deployment.prefix + topic, partition=partition))
            return partition, done.offset
        finally:
            await producer.stop()

    return asyncio.run(written())


def signed(batch: bytearray) -> bytearray:
    batch[8:12] = (len(batch) - 12).to_bytes(4, "big")
    batch[17:21] = calc_crc32c(bytes(batch[21:])).to_bytes(4, "big")
    return batch


@contextlib.contextmanager
def bounded(deployment: Deployment) -> Iterator[None]:
    """Fail if the worker's memory grows beyond what is bounded."""
    assert deployment.process
    (worker,) = psutil.Process(deployment.process.pid).children(recursive=True) or [
        psutil.Process(deployment.process.pid)
    ]
    before = worker.memory_info().rss
    yield
    assert worker.memory_info().rss < before + MEMORY


@pytest.mark.parametrize("codec", CODECS)
def test_records_of_librdkafka_in_every_codec_become_entries(running: Deployment, codec: str) -> None:
    user = f"rd-{codec}"
    options = {"bootstrap.servers": running.kafka, "partitioner": "murmur2_random", "linger.ms": 50}
    producer = Producer({**options, "compression.codec": codec})
    for number in range(50):
        producer.produce(f"{running.prefix}notifications.normal", value(user, id=str(number), body="x" * 2_000), user)
    assert producer.flush(20) == 0
    assert [row.key for row in running.expect_rows(user, 50)] == [str(number) for number in range(50)]


@pytest.mark.parametrize("codec", CODECS)
def test_records_of_the_topic_s_own_codec_become_entries(running: Deployment, codec: str) -> None:
    configure(running, "notifications.bulk", {"compression.type": codec})
    user = f"topic-{codec}"
    place = running.send(user.encode(), b"{", topic="notifications.bulk", partition=home(user))
    assert len(until(lambda: running.letters_of(place, "notifications.bulk"))) == 1
    configure(running, "connections", {"compression.type": codec})
    place = running.send(user.encode(), b"{", topic="connections", partition=home(user))
    assert len(until(lambda: running.letters_of(place, "connections"))) == 1


def configure(deployment: Deployment, topic: str, values: dict[str, str]) -> None:
    async def configured() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=deployment.kafka)
        await admin.start()
        try:
            name = deployment.prefix + topic
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=values)])
        finally:
            await admin.close()

    asyncio.run(configured())


@pytest.mark.parametrize("codec", CODECS)
def test_a_record_that_unpacks_to_20_mib_is_a_letter_that_says_what_was_cut(running: Deployment, codec: str) -> None:
    user = f"bomb-{codec}"
    partition = home(user)
    with bounded(running):
        place = write(running, [(user.encode(), bytes(20 * MIB), ())], codec=codec, partition=partition)
        running.send_note(user)
        running.expect_rows(user, 1)
        (letter,) = until(lambda: running.letters_of(place))
    assert letter.value == bytes(KEPT_VALUE)
    assert (letter.key, letter.headers["tocsin-reason"]) == (user.encode(), b"too_large")
    assert letter.headers["tocsin-truncated"] == b"value=%d" % (20 * MIB)


def test_a_batch_that_unpacks_to_more_than_is_taken_is_one_letter(running: Deployment) -> None:
    user = "great-bomb"
    records = [(user.encode(), bytes(100_000), ())] * 1_000
    with bounded(running):
        partition, offset = place = write(running, records, codec="zstd", partition=home(user))
        running.send_note(user)
        running.expect_rows(user, 1)
        (letter,) = until(lambda: running.letters_of(place))
    assert not letter.value
    assert (letter.headers["tocsin-reason"], letter.headers["tocsin-last-offset"]) == (
        b"too_large",
        b"%d" % (offset + 999),
    )
    assert letter.headers["tocsin-truncated"] == b"key,value,headers"
    until(lambda: running.committed("notifications.normal", partition) >= offset + 1_001)


ODD: dict[str, tuple[Callable[[str], Record], bytes, bytes | None]] = {
    "key": (lambda u: (b"k" * 900_000, value(u), ()), b"too_large", b"key=900000"),
    "headers": (lambda u: (u.encode(), value(u), [("a", b"b")] * 10_000), b"too_large", b"headers=10000"),
    "header": (lambda u: (u.encode(), value(u), [("a", bytes(1_000_000))]), b"too_large", b"headers=1"),
    "name": (lambda u: (u.encode(), value(u), [("a" * 500_000, None)]), b"too_large", b"headers=1"),
    "value": (lambda u: (u.encode(), b"x" * 1_048_400, ()), b"too_large", b"value=1048400"),
    "a little": (lambda u: (u.encode(), b"x" * (MAX_VALUE + 1), ()), b"too_large", None),
    "id": (lambda u: (u.encode(), value(u), [("tocsin-id", bytes(100_000))]), b"too_large", b"headers=1"),
    "id of many characters": (lambda u: (u.encode(), value(u), [("tocsin-id", b"i" * 257)]), b"bad_request", None),
    "id that is not UTF-8": (lambda u: (u.encode(), value(u), [("tocsin-id", b"\xff")]), b"bad_request", None),
    "id with a surrogate": (lambda u: (u.encode(), value(u), [("tocsin-id", b"\xed\xa0\x80")]), b"bad_request", None),
    "id that steers": (lambda u: (u.encode(), value(u), [("tocsin-id", b"\x1b[2J")]), b"bad_request", None),
    "number": (lambda u: (u.encode(), value(u)[:-1] + b',"id":' + b"9" * 300 + b"}", ()), b"bad_request", None),
    "surrogate": (lambda u: (u.encode(), value(u, id="\\ud800"), ()), b"not_json", None),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("codec", [None, "zstd"])
def test_an_odd_record_is_one_letter_and_its_neighbours_are_entries(
    running: Deployment, odd: str, codec: str | None
) -> None:
    made, reason, cut = ODD[odd]
    user = f"odd-{odd}-{codec}".replace(" ", "-")
    partition, offset = write(running, [made(user)], codec=codec, partition=home(user))
    running.send_note(user)
    running.expect_rows(user, 1)
    (letter,) = until(lambda: running.letters_of((partition, offset)))
    assert letter.headers["tocsin-reason"] == reason
    assert letter.headers.get("tocsin-truncated") == cut
    assert len(letter.value or b"") <= KEPT_VALUE


def test_a_batch_with_a_header_whose_name_is_not_utf8_becomes_entries(running: Deployment) -> None:
    user = "name"

    def renamed(batch: bytearray) -> bytearray:
        at = batch.index(b"zz")
        batch[at : at + 2] = b"\xff\xff"
        return signed(batch)

    records: list[Record] = [
        (user.encode(), value(user, id=str(n)), [("zz", b"1")] if n == 1 else ()) for n in range(3)
    ]
    write(running, records, partition=home(user), changed=renamed)
    assert [row.key for row in running.expect_rows(user, 3)] == ["0", "1", "2"]


def test_headers_that_only_we_write_are_not_believed_of_a_producer(running: Deployment) -> None:
    user = "forged"
    forged = [
        ("tocsin-topic", b"revocations"),
        ("tocsin-truncated", b"value"),
        ("tocsin-reason", b"none"),
        ("trace", b"1"),
    ]
    place = write(running, [(user.encode(), b"{", forged)], partition=home(user))
    (letter,) = until(lambda: running.letters_of(place))
    assert letter.headers["tocsin-reason"] == b"not_json"
    assert letter.headers["trace"] == b"1"
    assert "tocsin-truncated" not in letter.headers


def test_the_largest_record_in_the_wrong_partition_reaches_its_home(running: Deployment) -> None:
    user = "far" * 85
    text = value(user, body="b" * (MAX_VALUE - len(value(user, body=""))))
    headers = [("h" * 10, b"x" * (MAX_HEADER_BYTES // MAX_HEADERS - 10))] * MAX_HEADERS
    assert len(text) == MAX_VALUE
    write(running, [(user.encode(), text, headers)], partition=(home(user) + 1) % PARTITIONS)
    (row,) = running.expect_rows(user, 1)
    assert len(row.frame) > MAX_VALUE - 1_000


def test_a_topic_of_letters_that_takes_little_is_told_where_the_record_lies(running: Deployment) -> None:
    configure(running, "dead-letters", {"max.message.bytes": "2000"})
    try:
        user = "little"
        place = running.send(user.encode(), b"x" * 50_000, partition=home(user))
        running.send_note(user)
        running.expect_rows(user, 1)
        (letter,) = until(lambda: running.letters_of(place))
        assert (letter.value, letter.headers["tocsin-reason"]) == (b"", b"not_json")
        assert letter.headers["tocsin-truncated"] == b"key,value,headers"
        place = running.send(user.encode(), b"x", partition=home(user))
        (letter,) = until(lambda: running.letters_of(place))  # the producer is not out of step
        assert letter.value == b"x"
    finally:
        configure(running, "dead-letters", {"max.message.bytes": "2097152"})


def test_a_batch_that_the_disk_broke_is_passed_over(deployment: Deployment, server_folder: Path) -> None:
    user = "disk"
    partition, first = write(deployment, [(user.encode(), value(user), ())] * 3, partition=home(user))
    name = f"{deployment.prefix}notifications.normal-{partition}"
    (segment,) = server_folder.glob(f"kafka/**/{name}/*.log")
    data = segment.read_bytes()
    with segment.open("r+b") as file:
        file.seek(data.rindex(b'"title"'))
        file.write(b"X")
    deployment.start()
    deployment.wait_until_ready()
    deployment.send_note(user, id="next")
    assert [row.key for row in deployment.expect_rows(user, 1)] == ["next"]
    (letter,) = until(lambda: deployment.letters_of((partition, first)))
    assert letter.headers["tocsin-reason"] == b"unreadable"
    assert letter.headers["tocsin-last-offset"] == b"%d" % (first + 2)
    assert b"checksum" in letter.headers["tocsin-error"]
    until(lambda: deployment.committed("notifications.normal", partition) == first + 4)
    assert f"offsets {first} to {first + 2} cannot be read" in deployment.said()
