"""`python -m proof.soak --minutes 60`: load for so long, with all other faults at random, on one deployment.

The time is cut into windows. Each is an experiment of its own, with new users and its own history, checker and judge,
so what is in memory does not grow with the length. One worker and one gateway are never ended on purpose; they meet
everything else, and their memory and descriptors have to be flat at the end. Processes that are ended count by life.

Faults come from a seed, which is printed. All that was seen lies in the folder: a history a window, `results.jsonl`,
`samples.jsonl` and `soak.json`.
"""

import argparse
import asyncio
import http.client
import random
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from cli.kafka import hush
from proof.cluster import Cluster
from proof.experiment import Run, experiment
from proof.publishes import dropping
from proof.samples import Life, Sampler, lives, table
from proof.servers import NAMES, Name, Servers
from schemas.errors import TocsinError

WINDOW: Final = 180.0  # s of load
BOUND: Final = 60.0  # s; Cassandra alone takes 30 s to start
CALM: Final = 20.0  # s at the end of a window without a new fault
FORGOTTEN: Final = 120.0  # s after which workers remember nothing of gateways that were ended
VICTIMS: Final = ("worker-0", "gateway-0")
USERS: Final = 40
RATE: Final = 100.0  # records a second

Act = Callable[["Soak"], Awaitable[None]]


class Soak:
    """A deployment that meets faults."""

    def __init__(self, cluster: Cluster, dice: random.Random) -> None:
        self.cluster = cluster
        self.dice = dice
        self.faults: dict[str, int] = {}
        self.deaf = False  # Redis loses every publish

    async def window(self, number: int, seconds: float, folder: Path) -> str:
        """Run one window; return what is wrong, empty if nothing is."""
        try:
            async with experiment(
                self.cluster, f"soak-{number}", out=folder, users=USERS, rate=RATE, seconds=seconds, bound=BOUND,
                late=5, cuts=0.5, throughout=True,
            ) as run:  # fmt: skip
                end = time.monotonic() + seconds - CALM
                while time.monotonic() < end:
                    await asyncio.sleep(self.dice.uniform(1, 8))  # when the next fault comes
                    await self.fault(run)
                await asyncio.sleep(max(0.0, end + CALM - time.monotonic()))  # the calm
        except (AssertionError, TimeoutError, TocsinError) as exc:
            return f"window {number}: {exc}"
        return ""

    async def fault(self, run: Run) -> None:
        """Let one fault happen, chosen at random, and end."""
        (act,) = self.dice.choices(list(ACTS), list(ACTS.values()))
        name = act.__name__.replace("_", " ").strip()
        self.faults[name] = self.faults.get(name, 0) + 1
        async with run.fault(name):
            await act(self)


async def _kill_a_process(soak: Soak) -> None:
    await soak.cluster.kill(soak.dice.choice(VICTIMS))


async def _restart_a_process(soak: Soak) -> None:
    await soak.cluster.restart(soak.dice.choice(VICTIMS))


async def _freeze_a_worker(soak: Soak) -> None:
    """Beyond its session timeout: another one takes over."""
    soak.cluster.freeze("worker-0")
    await asyncio.sleep(soak.dice.uniform(7, 10))  # the fault itself
    soak.cluster.thaw("worker-0")


async def _a_network_is_cut(soak: Soak) -> None:
    proxy = soak.cluster.proxies[soak.dice.choice(NAMES)]
    proxy.cut()
    proxy.refuse()
    await asyncio.sleep(soak.dice.uniform(0.5, 5))  # the fault itself
    await proxy.heal()


async def _a_network_hangs(soak: Soak) -> None:
    proxy = soak.cluster.proxies[soak.dice.choice(NAMES)]
    proxy.hang()
    await asyncio.sleep(soak.dice.uniform(1, 4))  # the fault itself; longer, and a worker loses its membership
    await proxy.heal()


async def _a_network_is_slow(soak: Soak) -> None:
    proxy = soak.cluster.proxies[soak.dice.choice(NAMES)]
    proxy.delay(soak.dice.uniform(0.05, 0.5))
    await asyncio.sleep(soak.dice.uniform(2, 8))  # the fault itself
    await proxy.heal()


async def _publishes_are_lost(soak: Soak) -> None:
    soak.deaf = True
    await asyncio.sleep(soak.dice.uniform(0.5, 5))  # the fault itself
    soak.deaf = False


async def _redis_is_killed(soak: Soak) -> None:
    await _down(soak, "redis", soak.dice.uniform(0, 5))


async def _the_broker_is_killed(soak: Soak) -> None:
    await _down(soak, "kafka", soak.dice.uniform(0, 5))


async def _cassandra_is_killed(soak: Soak) -> None:
    await _down(soak, "cassandra", 0)


async def _down(soak: Soak, name: Name, seconds: float) -> None:
    await soak.cluster.servers.kill(name)
    await asyncio.sleep(seconds)  # the fault itself
    await soak.cluster.servers.start(name)


ACTS: Final[dict[Act, float]] = {  # with their weights
    _kill_a_process: 5,
    _restart_a_process: 3,
    _freeze_a_worker: 1.5,
    _a_network_is_cut: 3,
    _a_network_hangs: 2,
    _a_network_is_slow: 2,
    _publishes_are_lost: 2,
    _redis_is_killed: 2,
    _the_broker_is_killed: 0.7,
    _cassandra_is_killed: 0.5,
}


class Report(msgspec.Struct):
    """How a soak ended."""

    minutes: float
    seed: int
    windows: int
    faults: dict[str, int]
    wrong: list[str]
    lives: list[Life]


async def soak(minutes: float, seed: int, folder: Path, servers: Servers) -> Report:
    """Run it and return the report."""
    begin, wrong, windows = time.monotonic(), [], 0
    cluster = Cluster(servers, folder / "cluster", workers=2, gateways=2, proxies=NAMES, TOCSIN_DRAIN="2")
    soaking = Soak(cluster, random.Random(seed))  # noqa: S311 - which fault comes next, no secret
    cluster.proxies["redis"].alter(dropping(lambda channel, _: soaking.deaf and b"gw:" in channel))
    async with cluster, Sampler(folder / "samples.jsonl", lambda: _pids(cluster), _sessions_of(cluster)) as sampler:
        while (left := minutes * 60 - (time.monotonic() - begin)) > 0:
            windows += 1
            if what := await soaking.window(windows, min(WINDOW, max(CALM + 10, left)), folder):
                wrong.append(what)
                print(what, flush=True)
            gone = (time.monotonic() - begin) / 60
            print(f"{gone:.1f} of {minutes:g} min: {windows} windows, {counted(soaking.faults)}", flush=True)
        if what := await remembered(cluster):
            wrong.append(what)
            print(what, flush=True)
    return Report(minutes, seed, windows, soaking.faults, wrong, lives(sampler.samples))


def _pids(cluster: Cluster) -> dict[str, int]:
    ours = {name: cluster.pid(name) for name in (*cluster.workers, *cluster.gateways)}
    return {**ours, **{name: cluster.servers.pid(name) for name in NAMES}}


def _sessions_of(cluster: Cluster) -> Callable[[str], Awaitable[int]]:
    async def sessions(name: str) -> int:
        if not name.startswith("gateway"):
            return 0
        try:
            return int(await cluster.metric(name, "tocsin_connections "))
        except (OSError, http.client.HTTPException):  # it does not run just now
            return 0

    return sessions


async def remembered(cluster: Cluster) -> str:
    """Return what workers still remember of gateways that were ended, empty if nothing; memory alone would not show."""
    end = time.monotonic() + FORGOTTEN
    while True:
        found = {name: await _gateways_of(cluster, name) for name in cluster.workers}
        if all(known <= len(cluster.gateways) and not dead for known, dead in found.values()):
            return ""
        if time.monotonic() > end:
            return f"workers remember gateways that ended (known, dead): {found}"
        await asyncio.sleep(1.0)


async def _gateways_of(cluster: Cluster, worker: str) -> tuple[float, float]:
    try:
        known, dead = [await cluster.metric(worker, f"tocsin_gateways_{what} ") for what in ("known", "dead")]
    except (OSError, http.client.HTTPException):  # it does not run just now
        return float("inf"), 0.0
    return known, dead


def grown(report: Report) -> list[Life]:
    """Return the lives of our own processes that grow; servers are shown and not judged."""
    return [life for life in report.lives if life.grows and life.name.startswith(("worker", "gateway"))]


def counted(faults: dict[str, int]) -> str:
    """Return how many faults there were, and of which kind."""
    kinds = ", ".join(f"{kind} {times}" for kind, times in sorted(faults.items(), key=lambda item: -item[1]))
    return f"{sum(faults.values())} faults" + (f": {kinds}" if kinds else "")


def main(arguments: list[str]) -> int:
    """Return 0 if every window kept every promise and nothing grows, else 1."""
    parser = argparse.ArgumentParser(prog="python -m proof.soak")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 100_000)
    parser.add_argument("--folder", type=Path, default=Path(".tocsin") / "soak")
    given = parser.parse_args(arguments)
    hush()
    folder = given.folder / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    print(f"seed {given.seed}; histories and samples: {folder}", flush=True)
    with Servers(folder / "servers") as servers:
        report = asyncio.run(soak(given.minutes, given.seed, folder, servers))
    (folder / "soak.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    print(table(report.lives))
    print(f"{report.windows} windows, {len(report.wrong)} broken; {counted(report.faults)}")
    return int(bool(report.wrong or grown(report)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
