"""Logging: one line a record to stderr. What is logged are ids; never a body and never a token.

Ids are chosen by others, so control characters in them are escaped.
"""

import logging
import sys
import time
from typing import Any, Final

from schemas.errors import TocsinError
from schemas.text import printable

QUIET: Final = ("faust", "mode", "aiokafka", "kafka", "websockets", "cassandra", "asyncio", "aiohttp", "redis")
QUIET_TIME: Final = 10.0  # s
MAX_SAID: Final = 1000  # things that are remembered to have been said


class _Seldom(logging.Filter):
    """Lets a library say the same thing once in `QUIET_TIME`: while a server is away they say it ten times a second."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in QUIET:
            return True
        key = (record.name, str(record.msg))
        if record.created - self._said.get(key, -QUIET_TIME) < QUIET_TIME:
            return False
        if len(self._said) >= MAX_SAID:
            self._said.clear()
        self._said[key] = record.created
        return True


class _Brief(logging.Filter):
    """Takes the traceback from what Cassandra's driver says of a node that is away, and leaves the reason."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith("cassandra") and record.exc_info:
            record.msg, record.args = f"{record.getMessage().rstrip(': ')}: {record.exc_info[1]}", None
            record.exc_info = record.exc_text = None
        return True


class _OneLine(logging.Formatter):
    """Times in UTC; a traceback follows only where an exception is logged that does not say itself what to do."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        return "" if ei[0] is None or isinstance(ei[1], TocsinError) else super().formatException(ei)


def setup_logging(level: str, process: str) -> None:
    """Log to stderr from `level` (debug, info, warning, error); `process` is named in each line, such as gateway.

    Libraries are heard from WARNING on, and say the same thing at most once in 10 s.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Seldom())
    handler.addFilter(_Brief())
    handler.setFormatter(_OneLine(f"%(asctime)s %(levelname)s {process} %(name)s: %(message)s"))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
