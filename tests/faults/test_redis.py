"""Redis goes, forgets and loses: experiments 8 and 20 of the fault matrix."""

import asyncio
from pathlib import Path

import redis.asyncio

from agents.publisher import BEAT_AGAIN, BEAT_SOON
from proof.experiment import Run, experiment
from proof.publishes import dropping
from tests.faults.conftest import MakeCluster

AWAY = 3.0  # s
FROZEN = 10.0  # s
FLUSHES = 20
ROUNDS = 10
BEATS = BEAT_SOON + BEAT_AGAIN + 2.5  # s; two beats, and the answers to what they make gateways ask


class Loss:
    """Which publishes get lost; for `dropping`."""

    def __init__(self) -> None:
        self.every = 0  # each so-many-th message of any channel; 0: none
        self.all = False
        self.next = 0  # so many of the messages to a gateway
        self.lost = 0
        self._seen = 0

    def __call__(self, channel: bytes, _message: bytes) -> bool:
        """Return whether this one gets lost."""
        self._seen += 1
        lost = self.all or (self.every > 0 and self._seen % self.every == 0)
        if b"gw:" in channel and self.next:
            self.next -= 1
            lost = True
        self.lost += lost
        return lost


async def test_redis_killed_flushed_and_frozen_loses_and_repeats_nothing(cluster: MakeCluster, out: Path) -> None:
    async with (
        cluster(workers=2, gateways=1) as running,
        experiment(running, "redis-away", out=out, rate=200, seconds=55, cuts=1, at_least=10_000) as run,
    ):
        await run.progress(1_000)
        async with run.fault(f"Redis killed, back after {AWAY:.0f} s"):
            await running.servers.kill("redis")
            await asyncio.sleep(AWAY)  # the fault itself
            await running.servers.start("redis")
        await run.progress(1_000)
        async with (
            run.fault(f"FLUSHALL, {FLUSHES} times"),
            redis.asyncio.Redis.from_url(running.servers.redis.url) as to,
        ):
            for _ in range(FLUSHES):
                await to.flushall()
                await run.progress(50)
        await run.progress(1_000)
        async with run.fault(f"SIGSTOP of Redis for {FROZEN:.0f} s"):
            running.servers.freeze("redis")
            await asyncio.sleep(FROZEN)  # the fault itself
            running.servers.thaw("redis")


async def test_publishes_that_get_lost_are_noticed_and_asked_for(cluster: MakeCluster, out: Path) -> None:
    loss = Loss()
    prepared = cluster(workers=2, gateways=1, proxies=("redis",))
    prepared.proxies["redis"].alter(dropping(loss))
    async with (
        prepared as running,
        experiment(running, "publishes-lost", out=out, rate=200, seconds=52, at_least=10_000) as run,
    ):
        await run.progress(1_000)
        async with run.fault("every third publish gets lost"):
            loss.every = 3
            await run.progress(6_000)
            loss.every = 0
        await run.progress(1_000)
        async with run.fault("all publishes get lost for 5 s"):
            loss.all = True
            await asyncio.sleep(5)  # the fault itself
            loss.all = False
        run.notes["publishes lost"] = loss.lost


async def test_the_last_publish_before_silence_is_noticed_within_two_beats(cluster: MakeCluster, out: Path) -> None:
    loss = Loss()
    prepared = cluster(workers=1, gateways=1, store="sqlite", proxies=("redis",))
    prepared.proxies["redis"].alter(dropping(loss))
    async with (
        prepared as running,
        experiment(running, "last-publish-lost", out=out, users=10, rate=100, seconds=3, bound=BEATS) as run,
    ):
        for number in range(ROUNDS):
            await _silence(run)
            loss.next = 1
            run.load.send(f"u{number}", "critical")
            await run.wait(lambda: loss.next == 0, "the message is lost")
            async with run.fault(f"round {number}: nothing comes after it"):
                pass
            assert await run.until_all_shown(BEATS, lambda _device, _id: True)
        run.notes["publishes lost"] = loss.lost
        assert loss.lost >= ROUNDS


async def _silence(run: Run) -> None:
    """Return when nothing has been shown for longer than beats follow traffic."""
    quiet, seen = 0.0, -1
    while quiet < BEAT_AGAIN:
        await run.load.settle()
        quiet, seen = (quiet + 0.25, seen) if run.devices.swarm.received == seen else (0.0, run.devices.swarm.received)
        await asyncio.sleep(0.25)  # silence itself
