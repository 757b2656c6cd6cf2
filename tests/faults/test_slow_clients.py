"""A client that stops reading: experiment 11 of the fault matrix."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Final

from bench.measure import percentile
from gateway.reading import HARD
from proof.cluster import Cluster
from proof.devices import not_reading
from proof.experiment import experiment
from proof.history import AnyEvent, Entry, Fault, Produce, read
from tests.faults.conftest import MakeCluster

CLIENTS: Final = 200
VICTIM: Final = "u0"
PAGE: Final = 256 * 1024  # bytes of one answer: what may come on top of what is nearly full
CAP: Final = HARD + PAGE + 64 * 1024
NOISE: Final = 0.05  # s; what a busy machine may add to a percentile
MOST: Final = 3_000  # records
BODY: Final = "x" * 12_000  # the kernel itself holds some MB for a client on the same machine


@contextlib.asynccontextmanager
async def noting_the_most(cluster: Cluster, found: list[float]) -> AsyncIterator[None]:
    """Look at what waits in the gateway's sockets as long as the context lasts."""

    async def look() -> None:
        while True:
            found.append(await cluster.metric("gateway-0", "tocsin_socket_bytes_waiting"))
            await asyncio.sleep(0.2)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking


def latencies(events: Iterable[AnyEvent]) -> Iterator[tuple[bool, float]]:
    """Give (while the fault lasted, s from the producer to a screen) for entries of all but the victim."""
    asked: dict[str, tuple[float, bool]] = {}
    fault = False
    for event in events:
        match event:
            case Fault():
                fault = event.phase == "begin"
            case Produce():
                asked[event.id] = (event.at, fault)
            case Entry(shown=True) if event.user != VICTIM:
                at, during = asked[event.id]
                yield during, event.at - at


async def test_a_client_that_stops_reading_costs_its_buffer_and_nobody_else(cluster: MakeCluster, out: Path) -> None:
    waiting: list[float] = []
    async with (
        cluster(workers=1, gateways=1) as running,
        experiment(
            running, "not-reading", out=out, users=CLIENTS, devices=("phone",), rate=150, seconds=70, at_least=10_000
        ) as run,
    ):
        await run.progress(4_000)
        victim = run.devices.swarm.devices[0]
        assert victim.user == VICTIM
        async with run.fault("a client reads nothing"), noting_the_most(running, waiting):
            with not_reading(victim):
                for _ in range(MOST):
                    run.load.send(VICTIM, body=BODY)
                    await asyncio.sleep(0.02)  # the pace of the flood
                    if max(waiting, default=0) > HARD / 2:
                        break
                assert max(waiting) > HARD / 2, "the gateway's buffer for it does not fill up"
                await run.progress(2_000)  # the others go on meanwhile
        await run.wait(lambda: victim.welcomed, "it is back, if it was sent away")
        run.notes["buffer"] = int(max(waiting))
    assert max(waiting) <= CAP
    events = list(latencies(read(run.history.path)))
    before = percentile([seconds for during, seconds in events if not during], 0.99)
    during = percentile([seconds for during, seconds in events if during], 0.99)
    assert during <= 2 * before + NOISE, (
        f"p99 of the others: {before * 1000:.0f} ms before, {during * 1000:.0f} ms then"
    )
