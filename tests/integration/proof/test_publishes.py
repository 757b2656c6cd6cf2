"""Publishes that a proxy takes away, with the real client on a real Redis."""

import asyncio

import redis.asyncio
import redis.asyncio.client

from proof.proxy import Proxy
from proof.publishes import dropping
from stack.servers import Redis

SOON = 5.0  # s


async def heard(subscription: redis.asyncio.client.PubSub, count: int) -> list[bytes]:
    async def read() -> list[bytes]:
        found: list[bytes] = []
        while len(found) < count:
            if (message := await subscription.get_message(ignore_subscribe_messages=True, timeout=SOON)) is not None:
                found.append(message["data"])
        return found

    return await asyncio.wait_for(read(), SOON)


async def test_chosen_publishes_are_lost_and_the_publisher_does_not_notice(redis_server: Redis) -> None:
    async with Proxy(redis_server.address) as proxy:
        proxy.alter(dropping(lambda channel, message: channel == b"a" and message.startswith(b"drop")))
        direct = redis.asyncio.from_url(redis_server.url)
        client = redis.asyncio.from_url(f"redis://{proxy.address}/0")
        subscription = direct.pubsub()
        await subscription.subscribe("a", "b")
        assert (await subscription.get_message(timeout=SOON))["type"] == "subscribe"
        assert (await subscription.get_message(timeout=SOON))["type"] == "subscribe"
        async with client.pipeline(transaction=False) as pipe:
            for channel, message in (("a", "keep 1"), ("a", "drop 2"), ("b", "drop 3"), ("a", b"drop\r\n" * 50_000)):
                pipe.publish(channel, message)
            pipe.set("key", "value")
            answers = await pipe.execute()
        assert answers == [1, 1, 1, 1, True]
        assert await client.get("key") == b"value"
        assert await heard(subscription, 2) == [b"keep 1", b"drop 3"]
        await subscription.aclose()  # type: ignore[no-untyped-call]  # redis has no type here
        await client.aclose()
        await direct.aclose()


def test_a_command_in_pieces_waits_for_its_end() -> None:
    hears = dropping(lambda _channel, message: message == b"lost")()
    command = b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$4\r\nlost\r\n"
    kept = command.replace(b"lost", b"kept")
    said = b"".join(hears(bytes((byte,))) for byte in kept + command + b"PING\r\n")
    assert said == kept + b"*3\r\n$4\r\nEVAL\r\n$8\r\nreturn 1\r\n$1\r\n0\r\n" + b"PING\r\n"
