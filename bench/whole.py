"""The whole at work: records for many users, some connected with two devices, the rest connecting later."""

import asyncio
import random
import time

import msgspec
from aiokafka import AIOKafkaConsumer

from bench.device import Device, Seen
from bench.load import Load
from bench.measure import cpu_seconds, percentile, show
from bench.swarm import Swarm, created_ms, until
from cli.deployment import Ready


class Result(msgspec.Struct):
    """What came out of a run."""

    records: int
    seconds: float
    late_seconds: float
    cpu: dict[str, float]
    p50: float
    p99: float
    faults: list[str]
    dead_letters: int
    deliveries: int

    def print(self) -> None:
        """Show the figures."""
        show(
            f"{self.records:,} records, {self.deliveries:,} deliveries, {self.dead_letters} dead letters, "
            f"{len(self.faults)} faults",
            ("what", "figure"),
            [
                ("records/s, from the first produce to the last delivery", self.records / self.seconds),
                ("append to client, p50 ms (as fast as it goes)", self.p50),
                ("append to client, p99 ms", self.p99),
                ("seconds until all late devices had everything", self.late_seconds),
                *((f"CPU-seconds {name}", used) for name, used in self.cpu.items()),
            ],
        )


async def run(ready: Ready, *, records: int, users: int, connected: int, seed: int = 1) -> Result:
    """Produce `records` for `users`, of whom `connected` have two devices from the start; check every device."""
    rng = random.Random(seed)
    latencies: list[float] = []

    def on_entry(_device: Device, frame: Seen) -> None:
        latencies.append(time.time() * 1000 - created_ms(frame))

    names = [f"u{i}" for i in range(users)]
    swarm = Swarm(ready.gateway, ready.secret(), on_entry=on_entry)
    acks = asyncio.create_task(swarm.acknowledge_for_ever())
    before = cpu_seconds(ready.pids)
    try:
        early = await swarm.join((name, device) for name in names[:connected] for device in ("phone", "web"))
        begun = time.monotonic()
        async with Load(ready.kafka) as load:
            await load.burst(rng.choice(names) for _ in range(records))
        await until(lambda: _complete(early, load), 240, "connected devices have everything")
        seconds = time.monotonic() - begun
        live = list(latencies)
        begun = time.monotonic()
        late = await swarm.join((name, "phone") for name in names[connected:])
        await until(lambda: _complete(late, load), 240, "late devices have everything")
        late_seconds = time.monotonic() - begun
        used = {name: after - before.get(name, 0) for name, after in cpu_seconds(ready.pids).items()}
        faults = [*swarm.faults, *_wrong(swarm.devices, load)]
        return Result(
            records=records,
            seconds=seconds,
            late_seconds=late_seconds,
            cpu=used,
            p50=percentile(live, 0.5),
            p99=percentile(live, 0.99),
            faults=faults,
            dead_letters=await dead_letters(ready.kafka),
            deliveries=swarm.received,
        )
    finally:
        acks.cancel()
        await swarm.leave()


def _complete(devices: list[Device], load: Load) -> bool:
    return all(len(device.ids) >= len(load.acknowledged[device.user]) for device in devices)


def _wrong(devices: list[Device], load: Load) -> list[str]:
    """Return the devices whose ids are not just those that Kafka acknowledged, in its order."""
    return [
        f"{device.user}/{device.name}: {len(device.ids)} ids for {len(load.acknowledged[device.user])} records"
        for device in devices
        if device.ids != load.acknowledged[device.user]
    ]


async def dead_letters(brokers: str) -> int:
    """Return how many dead letters there are."""
    consumer = AIOKafkaConsumer("dead-letters", bootstrap_servers=brokers)
    await consumer.start()
    try:
        return sum((await consumer.end_offsets(list(consumer.assignment()))).values())
    finally:
        await consumer.stop()
