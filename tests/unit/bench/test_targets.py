"""What targets of benchmarks are started with."""

from pathlib import Path
from typing import Any

import pytest

from bench import chain
from bench.targets import EACH, processes_for
from schemas.errors import ServerFailed


@pytest.mark.parametrize(("connections", "processes"), [(1, 1), (EACH, 1), (EACH + 1, 2), (100_000, 6)])
def test_a_target_has_as_many_processes_as_its_connections_need(connections: int, processes: int) -> None:
    assert processes_for(connections) == processes


async def test_a_peer_of_one_process_refuses_more_than_it_can_hold() -> None:
    servers: Any = None  # it is refused before any is needed
    with pytest.raises(ServerFailed, match="one process here and holds at most 17,000 connections"):
        async with chain.theirs(servers, Path(), processes=2):
            pass
