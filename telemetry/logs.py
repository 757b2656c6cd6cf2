"""Logging: one line a record to stderr. What is logged are ids; never a body and never a token."""

import logging
import sys
import time
from typing import Final

QUIET: Final = ("faust", "mode", "aiokafka", "kafka", "websockets", "cassandra", "asyncio", "aiohttp", "redis")


class _OneLine(logging.Formatter):
    """Times in UTC; a traceback follows only where an exception is logged."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        return super().formatMessage(record).replace("\n", "\\n")


def setup_logging(level: str, process: str) -> None:
    """Log to stderr from `level` (debug, info, warning, error); `process` is named in each line, such as gateway.

    Libraries are heard from WARNING on.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine(f"%(asctime)s %(levelname)s {process} %(name)s: %(message)s"))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
