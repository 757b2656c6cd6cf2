"""Table `connections`: the open sessions of every user, by user.

Single writer: the connections agent (`agents/connections.py`), under the turnstile. The inbox agents only read it.

Sessions are soft state: gateways announce them again under each new epoch of the partition, so a stale or lost value
heals by itself.
"""

from typing import Any

import msgspec

from streams.connections import Sessions
from streams.producer import BatchProducer
from tables.rocks import RocksTable
from tables.values import Values

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Sessions).decode


def _key(user: str) -> bytes:
    return b"user/" + user.encode()  # a user may be called like one of the keys that a table keeps for itself


class ConnectionTable:
    """Sessions by user id."""

    def __init__(self, app: Any, *, partitions: int) -> None:
        self._values = Values(RocksTable(app, "connections", partitions=partitions), _encode, _decode)

    def get(self, partition: int, user: str) -> Sessions:
        """Return the open sessions of a user; they are shared and must not be changed."""
        return self._values.get(partition, _key(user)) or {}

    async def write(self, producer: BatchProducer, states: dict[int, dict[str, Sessions]]) -> None:
        """Write sessions by partition and user, and return when the changelog has them."""
        await self._values.write(
            producer,
            {
                partition: [(_key(user), sessions or None) for user, sessions in changed.items()]
                for partition, changed in states.items()
            },
        )
