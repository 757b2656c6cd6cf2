"""The gateway's connections to Redis, when Redis goes away in the worst moment; the rest is tested against Redis."""

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError as ClosedError

from gateway.bus import Lease, Replies, Subscription
from schemas.errors import TocsinError


class ClosedUnder:
    """A connection that Redis has just closed, as `links.redis.guard` lets it fail."""

    async def fail(self, *_: Any, **__: Any) -> None:
        raise ClosedError("the connection was closed")

    set = delete = publish = connect = fail

    async def aclose(self) -> None:
        return

    async def disconnect(self, *, nowait: bool) -> None:
        return


async def test_a_lease_over_a_closed_connection_is_renewed_later() -> None:
    lease = Lease("redis://127.0.0.1:1/0", "", "gateway-1", dict)
    lease._redis = ClosedUnder()
    with pytest.raises(TocsinError, match="cannot be renewed"):
        await lease.renew()
    lease._taken = True
    await lease.release()


async def test_an_answer_to_an_operator_over_a_closed_connection_is_lost() -> None:
    replies = Replies("redis://127.0.0.1:1/0")
    replies._redis = ClosedUnder()
    await replies.publish("channel", b"")


async def test_a_subscription_over_a_closed_connection_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    subscription = Subscription("redis://127.0.0.1:1/0", ["channel"])
    made = asyncio.Event()
    connections = iter([ClosedUnder(), ClosedUnder()])

    def make() -> Any:
        try:
            return next(connections)
        except StopIteration:
            made.set()
            return ClosedUnder()

    monkeypatch.setattr(subscription._pool, "make_connection", make)
    running = asyncio.create_task(subscription.run(lambda: None, lambda _: asyncio.sleep(0)))
    await asyncio.wait([asyncio.ensure_future(made.wait()), running], timeout=10, return_when=asyncio.FIRST_COMPLETED)
    assert not running.done()
    running.cancel()
