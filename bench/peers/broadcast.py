"""`websockets` as documented, with its own `broadcast`: `python -m bench.peers.broadcast PORT REDIS_URL`.

Fed by the Redis channel `bench`. A client asks for /?n=NUMBER. No tokens, no log: what is sent is gone.
"""

import sys
from urllib.parse import parse_qs, urlsplit

import redis.asyncio
import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

from bench.publish import CHANNEL, EVERYBODY
from bench.standin import items


async def main(port: int, url: str) -> None:
    """Serve until cancelled."""
    connections: dict[int, ServerConnection] = {}

    async def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        number = int(parse_qs(urlsplit(connection.request.path).query)["n"][0])
        connections[number] = connection
        try:
            await connection.wait_closed()
        finally:
            del connections[number]

    async with (
        serve(handle, "127.0.0.1", port, compression=None, ping_interval=25),
        redis.asyncio.Redis.from_url(url).pubsub() as pubsub,
    ):
        await pubsub.subscribe(CHANNEL)
        async for message in pubsub.listen():
            if message["type"] != "message":
                continue
            for number, payload in items(message["data"]):
                if number == EVERYBODY:
                    broadcast(connections.values(), payload.decode())
                elif (connection := connections.get(number)) is not None:
                    broadcast([connection], payload.decode())


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
