"""Where a crowd meets a target: gateways alone, fed by Redis, or the whole chain, fed by Kafka."""

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from bench import chain, tier
from bench.measure import rested
from bench.targets import LOAD, SECRET, Target, centrifuge, gateway, processes_for
from proof.servers import Servers

PATIENCE: Final = 180.0  # s


class Place(msgspec.Struct, frozen=True):
    """A target that runs, its servers, who signs its tokens, and what tells `publish` how to reach its clients."""

    target: Target
    where: tuple[str, ...]
    secret: str
    stores: Mapping[str, int]

    async def rest(self) -> None:
        """Wait until the target has nothing to do. Raises `TimeoutError`."""
        await rested(self.target.pids, seconds=1.0, within=PATIENCE)


@asynccontextmanager
async def gateways(clients: int, start: Callable[..., AbstractAsyncContextManager[Target]]) -> AsyncIterator[Place]:
    """Start a target of `bench tier` with as many processes as so many clients take."""
    with tier.stage() as stage:
        async with start(stage, False, processes=processes_for(clients)) as target:
            yield Place(target, ("--redis", stage.redis.url), SECRET, {"redis": stage.redis.pid})


@asynccontextmanager
async def whole(clients: int, name: str) -> AsyncIterator[Place]:
    """Start a target of `bench chain`, with as many gateways as so many clients take."""
    os.sched_setaffinity(0, LOAD)
    start, needed = chain.TARGETS[name]
    with tempfile.TemporaryDirectory(prefix="tocsin-bench-") as folder, Servers(Path(folder) / "servers") as servers:
        await servers.start(*needed)
        async with start(servers, Path(folder), processes=processes_for(clients)) as fed:
            where = ("--kafka", servers.address("kafka"), "--topic", fed.topic)
            yield Place(fed.target, where, fed.secret, {each: servers.pid(each) for each in needed})


PLACES: Final[Mapping[str, Callable[[int], AbstractAsyncContextManager[Place]]]] = {  # of so many clients
    "gateway": partial(gateways, start=gateway),
    "centrifuge": partial(gateways, start=centrifuge),
    "chain-cassandra": partial(whole, name="cassandra"),
    "chain-sqlite": partial(whole, name="sqlite"),
    "chain-centrifuge": partial(whole, name="centrifuge"),
}
