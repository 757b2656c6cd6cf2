"""Table `logs`: the state of every log that this worker appends to.

Single writer: the inbox agents (`agents/inbox.py`), under the turnstile. The connections agent only reads it.

The table is a cache of a fold of the store's rows. A value says under which epoch of the partition it was written; only
the epoch that the worker holds now is believed, and everything else is read from the store again at first touch. So a
value that a frozen former owner wrote late to the changelog can be recovered, but never believed.
"""

from typing import Any

import msgspec

from streams.inbox import LogState
from streams.producer import BatchProducer
from tables.rocks import RocksTable
from tables.values import Values

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(LogState).decode


class LogTable:
    """States of logs by the log's key."""

    def __init__(self, app: Any, *, partitions: int) -> None:
        self._values = Values(RocksTable(app, "logs", partitions=partitions), _encode, _decode)

    def get(self, partition: int, log: str, epoch: int) -> LogState | None:
        """Return the state of a log if it was written under `epoch`, else None: ask the store."""
        state = self._values.get(partition, log.encode())
        return state if state is not None and state.epoch == epoch else None

    async def write(self, producer: BatchProducer, states: dict[int, dict[str, LogState]]) -> None:
        """Write states by partition and log, and return when the changelog has them."""
        await self._values.write(
            producer,
            {
                partition: [(log.encode(), state) for log, state in changed.items()]
                for partition, changed in states.items()
            },
        )
