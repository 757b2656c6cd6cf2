"""A deployment whose gateways let in the pages of these tests, and which makes tokens for them."""

from collections.abc import Iterator

import pytest

from tests.browsers import Site, tokens_from
from tests.system import System, start, stop


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("browsers")
    stack = ("--stack", "embedded", "--gateways", "2")
    running = start(folder, *stack, TOCSIN_ORIGINS=site.origin, TOCSIN_DRAIN="1")
    with tokens_from(site, running):
        yield running
    stop(running.process)
