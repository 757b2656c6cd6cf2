"""A Kafka client that outlives resets of its connections under uvloop.

What is written to a connection that has just been reset raises RuntimeError with uvloop, where asyncio's own loop says
nothing. aiokafka expects OSError there, so the error ends whatever task of the client comes first. Mostly that is the
one that keeps the metadata: then everything that needs them waits for ever, without a word in the log.
"""

import weakref
from typing import Any

from aiokafka.conn import CloseReason
from aiokafka.errors import KafkaConnectionError


def guard(client: Any) -> None:
    """Let the connections of an `AIOKafkaClient` fail as it expects; said once, before the client is started."""
    get = client._get_conn  # noqa: SLF001 - there is no public way; aiokafka is pinned, and a test looks

    async def guarded(node: Any, **options: Any) -> Any:
        connection = await get(node, **options)
        if connection is not None and not isinstance(connection.send, _Send):
            connection.send = _Send(connection)
        return connection

    client._get_conn = guarded  # noqa: SLF001 - see above


class _Send:
    """`send` of one connection, which must not be kept alive by it."""

    def __init__(self, connection: Any) -> None:
        self._connection = weakref.ref(connection)
        self._send = type(connection).send

    def __call__(self, request: Any, expect_response: bool = True) -> Any:
        connection = self._connection()
        if connection is None:
            raise KafkaConnectionError("the connection is gone")
        try:
            return self._send(connection, request, expect_response)
        except RuntimeError as exc:
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"the connection was reset: {exc}") from exc
