"""Records in every codec, by clients that nobody here wrote, on both stacks: entries, and commands that read them."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.record.default_records import calc_crc32c
from confluent_kafka import Producer

from streams.partitions import home_partition
from tests import system as systems
from tests.system import System
from tests.terminal import Listener

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
COUNT = 20


@pytest.fixture(params=["real", "embedded"])
def deployment(request: pytest.FixtureRequest) -> System:
    running: System = request.getfixturevalue("system" if request.param == "real" else "embedded_system")
    return running


def notes(user: str, codec: str) -> list[bytes]:
    return [
        json.dumps({"id": f"{user}-{number}", "user": user, "kind": codec, "title": "t" * 500}).encode()
        for number in range(COUNT)
    ]


def by_librdkafka(system: System, user: str, codec: str, lane: str) -> None:
    options = {"bootstrap.servers": system.kafka, "partitioner": "murmur2_random", "linger.ms": 20}
    producer = Producer({**options, "compression.codec": codec})
    for value in notes(user, codec):
        producer.produce(f"notifications.{lane}", value, user)
    assert producer.flush(30) == 0


def by_aiokafka(system: System, user: str, codec: str, lane: str) -> None:
    async def send() -> None:
        packed = None if codec == "none" else codec
        async with AIOKafkaProducer(bootstrap_servers=system.kafka, compression_type=packed, linger_ms=20) as producer:
            sent = [await producer.send(f"notifications.{lane}", one, user.encode()) for one in notes(user, codec)]
            await asyncio.gather(*sent)

    asyncio.run(send())


def by_kcat(system: System, user: str, codec: str, lane: str) -> None:
    lines = b"".join(f"{user}:".encode() + value + b"\n" for value in notes(user, codec))
    subprocess.run(
        ["kcat", "-P", "-b", system.kafka, "-t", f"notifications.{lane}", "-K", ":", "-z", codec,
         "-X", "partitioner=murmur2_random", "-X", "linger.ms=20"],
        input=lines, check=True, timeout=30,
    )  # fmt: skip


CLIENTS = {"librdkafka": by_librdkafka, "aiokafka": by_aiokafka, "kcat": by_kcat}


@pytest.mark.parametrize("client", CLIENTS)
def test_records_in_every_codec_are_shown_once_and_in_order(deployment: System, client: str) -> None:
    if client == "kcat" and (shutil.which("kcat") is None or deployment.ready["store"].startswith("sqlite")):
        pytest.skip(
            "kcat is not installed, or the stack is embedded: librdkafka before 2.1 does not understand its Kafka"
        )
    for lane, codec in zip(("normal", "critical", "normal", "critical", "normal"), CODECS, strict=True):
        user = f"codec-{client}-{codec}"
        CLIENTS[client](deployment, user, codec, lane)
        with Listener(deployment, user) as listener:
            shown = listener.wait(COUNT)
        assert [entry["id"] for entry in shown] == [f"{user}-{number}" for number in range(COUNT)]


def told(system: System, *arguments: str) -> Any:
    done = system.tocsin(*arguments, "--json", within=120)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def test_commands_read_records_in_every_codec(deployment: System) -> None:
    for codec in CODECS:
        by_librdkafka(deployment, f"read-{codec}", codec, "normal")
        with Listener(deployment, f"read-{codec}") as listener:
            listener.wait(COUNT)
        answer = told(deployment, "replay", "redeliver", "--lane", "normal", "--kind", codec, "--again", "--yes")
        assert json.loads(answer)["counts"].get("taken")  # of the embedded Kafka not all is seen
    told(deployment, "lag")
    told(deployment, "dlq", "ls")
    assert "codec" not in deployment.tocsin("doctor", within=120).stdout.lower()


# -- what the embedded Kafka takes although no consumer can read it ----------------------------------------------------


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A deployment of its own: what cannot be read stays in its topics."""
    running = systems.start(tmp_path_factory.mktemp("broken"), "--stack", "embedded")
    yield running
    systems.stop(running.process)


def broken(data: bytes, how: str) -> bytearray:
    batch = bytearray(data)
    if how == "checksum":
        batch[-1] ^= 1
        return batch
    batch[22] |= {"unknown codec": 5, "no zstd": 4, "no lz4": 3, "no snappy": 2, "no gzip": 1}[how]
    batch[17:21] = calc_crc32c(bytes(batch[21:])).to_bytes(4, "big")
    return batch


@pytest.mark.parametrize("how", ["checksum", "unknown codec", "no zstd", "no lz4", "no snappy", "no gzip"])
def test_a_batch_that_cannot_be_unpacked_is_one_dead_letter_and_its_lane_goes_on(own: System, how: str) -> None:
    user = f"broken {how}"
    partition = home_partition(user.encode(), 4)

    async def send() -> int | None:
        async with AIOKafkaProducer(bootstrap_servers=own.kafka, request_timeout_ms=2_000) as producer:
            batch = producer.create_batch()
            for value in notes(user, "none"):
                batch.append(key=user.encode(), value=value, timestamp=None)
            batch._buffer = broken(batch._build(), how)
            try:
                done = await (await producer.send_batch(batch, "notifications.normal", partition=partition))
            except KafkaError:
                return None
            return int(done.offset)

    first = asyncio.run(send())
    by_aiokafka(own, user, "lz4", "normal")
    with Listener(own, user) as listener:
        assert len(listener.wait(COUNT)) == COUNT
    if first is not None:  # of a codec that does not exist it says so, and leaves a hole in the offsets
        asyncio.run(told_unreadable(own, partition, first, first + COUNT - 1))
    told(own, "dlq", "ls")
    told(own, "lag")


async def told_unreadable(system: System, partition: int, first: int, last: int) -> None:
    """Wait for the dead letter that says that a batch cannot be read."""
    wanted = {"tocsin-partition": partition, "tocsin-offset": first, "tocsin-last-offset": last}
    consumer = AIOKafkaConsumer("dead-letters", bootstrap_servers=system.kafka, auto_offset_reset="earliest")
    async with consumer, asyncio.timeout(30):
        async for letter in consumer:
            said = dict(letter.headers)
            if said["tocsin-reason"] == b"unreadable" and all(int(said.get(n, b"-1")) == v for n, v in wanted.items()):
                return
