"""`tocsin worker --role inbox`: one worker process."""

import asyncio
import sys
from pathlib import Path
from typing import Final

import faust
import uvloop

from agents.worker import ROLE, InboxWorker
from cli.reach import require_entry
from cli.terminal import remark
from schemas.errors import SettingsError, TocsinError
from store.urls import open_store
from streams.app import data_folder
from streams.settings import Settings
from streams.topics import load_topics
from tables.folder import held
from telemetry import garbage
from telemetry.logs import setup_logging

# The clients of Kafka and Cassandra live in threads of their own, and each hop between them and the loop waits for the
# interpreter; at Python's 5 ms these waits are most of the latency of a busy worker.
SWITCH: Final = 0.0005  # s


def run_worker(settings: Settings, role: str) -> None:
    """Run a worker until a signal ends it.

    Exits with 0 after SIGTERM or SIGINT, with 1 if it crashed; the last line says why if that is one of our errors.
    """
    if role != ROLE:
        raise SettingsError(f"there is no role {role!r}; this version has {ROLE}")
    setup_logging(settings.log_level, f"worker-{role}")
    with held(data_folder(settings, role)):
        _run(settings)


def _run(settings: Settings) -> None:
    asyncio.run(require_entry(settings))
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    topics = load_topics(Path(settings.topics) if settings.topics else None)
    worker = InboxWorker(settings, topics, open_store(settings.store_url()))
    garbage.seldom()
    sys.setswitchinterval(SWITCH)
    process = faust.Worker(
        worker.app, worker.backends, loop=loop, quiet=True, override_logging=False, redirect_stdouts=False
    )
    process.spinner = None  # it writes escape codes also where there is no terminal
    try:
        process.execute_from_commandline()
    finally:
        if isinstance(worker.app.crash_reason, TocsinError):
            remark(f"tocsin: {worker.app.crash_reason}")
