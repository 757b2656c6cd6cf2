"""What a node fails at or refuses is put down to the request only if a witness is taken; the driver is played here."""

import asyncio
from collections.abc import Callable
from typing import Any

import cassandra
import pytest

from schemas.errors import StoreAway, StoreBarred, StoreRefused
from store import requests as module
from store.requests import DOUBTED, Request, Requests


class Future:
    """A request of the driver, answered at once."""

    has_more_pages = False

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def add_callbacks(
        self,
        callback: Callable[..., None],
        errback: Callable[..., None],
        callback_args: tuple[Any, ...],
        errback_args: tuple[Any, ...],
    ) -> None:
        if self._error:
            errback(self._error, *errback_args)
        else:
            asyncio.get_running_loop().call_soon(lambda: callback([], *callback_args))


class Session:
    """Fails at statements as it is told to; counts how often each is asked."""

    def __init__(self, failures: dict[str, Exception]) -> None:
        self.failures = failures
        self.asked: list[str] = []

    def execute_async(self, statement: str) -> Any:
        self.asked.append(statement)
        return Future(self.failures.get(statement))


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.001)


def requests(session: Session, deadline: float = 5.0) -> Requests:
    made = Requests(session, deadline)
    made.witness = lambda: [Request("witness")]
    return made


async def test_what_is_invalid_is_refused_at_once() -> None:
    session = Session({"bad": cassandra.InvalidRequest("too large")})
    with pytest.raises(StoreRefused, match="too large"):
        await requests(session).run([Request("good"), Request("bad")])
    assert session.asked == ["good", "bad", "witness"]


async def test_what_a_node_fails_at_is_asked_a_few_times_and_then_refused() -> None:
    session = Session({"bad": cassandra.WriteFailure("failed")})
    with pytest.raises(StoreRefused, match="failed"):
        await requests(session).run([Request("bad")])
    assert session.asked == ["bad"] * (DOUBTED + 1) + ["witness"]


@pytest.mark.parametrize("failure", [cassandra.WriteFailure("sick"), cassandra.InvalidRequest("unconfigured table")])
async def test_a_store_that_takes_nothing_else_either_is_waited_for(failure: Exception) -> None:
    session = Session({"bad": failure, "witness": failure})
    with pytest.raises(StoreBarred, match="takes nothing else"):
        await requests(session).run([Request("bad")])


async def test_a_failure_that_passes_is_no_refusal() -> None:
    session = Session({"shaky": cassandra.ReadFailure("for a moment")})
    asyncio.get_running_loop().call_later(0.003, session.failures.clear)
    assert await requests(session).run([Request("shaky")]) == [[]]


async def test_a_store_that_is_away_is_away() -> None:
    session = Session({"any": cassandra.OperationTimedOut("no answer")})
    with pytest.raises(StoreAway, match="did not answer"):
        await requests(session, 0.05).run([Request("any")])


async def test_who_is_not_let_in_says_so_and_may_ask_again() -> None:
    session = Session({"any": cassandra.Unauthorized("no MODIFY")})
    with pytest.raises(StoreBarred, match="MODIFY"):
        await requests(session).run([Request("any")])
