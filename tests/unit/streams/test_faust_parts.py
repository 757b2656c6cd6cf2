"""What of Faust, mode and aiokafka our code reaches into: if a new version changes it, this says so first.

Where a test here fails after an update, read what the new version does in that place before anything else, then look
at `streams/consumer.py` and `tables/rocks.py`, and only then change the expectation.
"""

import inspect
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher
from faust.stores import rocksdb
from faust.tables.recovery import Recovery
from faust.transport import consumer as base
from faust.transport.drivers import aiokafka as driver
from mode.threads import MethodQueue
from mode.utils.queues import FlowControlQueue

from streams.app import make_app
from streams.consumer import Consumer, Transport
from streams.delivery import Delivery
from streams.settings import Settings
from tables.rocks import RocksTable

OVERRIDDEN = {
    "on_partitions_revoked": "self, revoked",
    "on_partitions_assigned": "self, assigned, generation_id",
    "resume_partitions": "self, tps",
    "resume_flow": "self",
    "subscribe": "self, topics",
    "perform_seek": "self",
    "on_buffer_full": "self, tp",
    "on_buffer_drop": "self, tp",
    "verify_all_partitions_active": "self",
    "_drain_messages": "self, fetcher",
    "_filter_tps_with_pending_acks": "self, topics",
    "_new_offset": "self, tp",
    "_should_commit": "self, tp, offset",
    "_commit_offsets": "self, offsets, start_new_transaction",
    "_new_consumer_thread": "self",
}
CALLED = {
    "_getmany": "self, active_partitions, timeout",
    "_commit": "self, offsets",
    "_to_message": "self, tp, record",
    "_is_changelog_tp": "self, tp",
    "seek_to_committed": "self",
    "earliest_offsets": "self, partitions",
    "seek_wait": "self, partitions",
    "stop_flow": "self",
    "wait_empty": "self",
    "commit": "self, topics, start_new_transaction",
    "highwater": "self, tp",
    "assignment": "self",
    "topic_partitions": "self, topic",
    "wait": "self, coros, timeout",
    "wait_first": "self, coros, timeout",
    "add_future": "self, coro",
    "crash": "self, reason",
}


def parameters(function: Any) -> str:
    return ", ".join(inspect.signature(function).parameters)


@pytest.mark.parametrize("package", ["faust-streaming", "aiokafka", "rocksdict"])
def test_the_installed_version_is_the_one_that_was_read(package: str) -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    assert f"{package}=={version(package)}" in project["project"]["dependencies"]


@pytest.mark.parametrize(("name", "expected"), [*OVERRIDDEN.items(), *CALLED.items()])
def test_methods_of_the_consumer_are_as_they_were(name: str, expected: str) -> None:
    assert parameters(getattr(driver.Consumer, name)) == expected


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_what_we_override_takes_what_it_did(name: str) -> None:
    ours, theirs = (list(inspect.signature(getattr(owner, name)).parameters) for owner in (Consumer, driver.Consumer))
    assert [p.strip("_") for p in ours] == [p.strip("_") for p in theirs]
    assert inspect.iscoroutinefunction(getattr(Consumer, name)) == inspect.iscoroutinefunction(
        getattr(driver.Consumer, name)
    )


def test_every_method_that_looks_overridden_is() -> None:
    """A method of ours under a name that Faust does not know would never be called by it."""
    ours = vars(Delivery) | vars(Consumer)
    own = {name for name, value in ours.items() if inspect.isfunction(value) and not name.startswith("__")}
    new = {
        "track", "ack_all", "ack_through", "abandon", "_stop_all_flow", "_next_epoch", "_torn", "_drain_once",
        "_deliver", "_deliver_all", "_deliver_each", "_deliver_one", "_read_again", "_recover", "_nothing_came",
        "_without_changelogs", "_check_ends", "_end",
        "_beginnings", "_look_for_deleted", "_skip_deleted", "on_deleted",
    }  # fmt: skip
    assert own - new == set(OVERRIDDEN)
    assert not any(hasattr(driver.Consumer, name) for name in new)


async def test_attributes_of_the_consumer_and_the_app_are_there(tmp_path: Path) -> None:
    app = make_app(Settings(data=str(tmp_path)), "inbox", partitions=2)
    consumer = app.consumer
    assert isinstance(app.transport, Transport)
    assert type(consumer) is Consumer
    for name in ("_active_partitions", "_paused_partitions", "_buffered_partitions"):
        assert isinstance(getattr(consumer, name), set), name
    for name in ("_unacked_messages", "_waiting_for_ack", "flow_active", "can_resume_flow", "suspend_flow"):
        assert hasattr(consumer, name), name
    assert hasattr(consumer, "scheduler")
    for name in ("is_active", "suspend", "resume", "acquire"):
        assert callable(getattr(app.flow_control, name)), name
    assert callable(app.topics.acks_enabled_for)
    assert isinstance(app.consumer_generation_id, int)
    assert isinstance(app.tables.recovery, Recovery)
    assert app.tables.recovery.active_tps == set()
    for owner, names in ((app.tables, ("on_commit",)), (app.monitor, ("on_tp_commit", "track_tp_end_offset"))):
        for name in names:
            assert callable(getattr(owner, name)), name
    consumer._thread.thread_loop.close()  # the loop of a thread that was never started


async def test_a_thread_that_has_crashed_is_stopped_without_a_traceback(tmp_path: Path) -> None:
    thread = make_app(Settings(data=str(tmp_path)), "inbox", partitions=2).consumer._thread
    thread.thread_loop.close()
    thread._stopped_set()
    assert thread._stopped.is_set()


def test_the_thread_that_makes_the_client_is_as_it_was() -> None:
    assert parameters(driver.AIOKafkaConsumerThread._create_worker_consumer) == "self, transport"
    assert "_fetch_max_wait_ms" in inspect.getsource(AIOKafkaConsumer.__init__)
    assert "self._fetch_max_wait_ms" in inspect.getsource(AIOKafkaConsumer.start)
    assert parameters(driver.AIOKafkaConsumerThread.call_thread) == "self, fun, args, kwargs"
    assert parameters(driver.AIOKafkaConsumerThread.on_thread_stop) == "self"
    assert parameters(MethodQueue.call) == "self, promise, fun, args, kwargs"
    fetch = driver.AIOKafkaConsumerThread._fetch_records
    assert parameters(fetch) == "self, consumer, active_partitions, timeout, max_records"
    assert "self._records = collections.OrderedDict()" in inspect.getsource(Fetcher.__init__)
    assert "for tp in list(self._records.keys())" in inspect.getsource(Fetcher.fetched_records)
    assert str(inspect.signature(Fetcher._get_actions_per_node)) == "(self, assignment)"
    routine = " ".join(inspect.getsource(Fetcher._fetch_requests_routine).split())
    assert "fetch_requests, reset_requests, timeout, invalid_metadata, resume_futures, ) = self._get" in routine
    assert "timeout=timeout" in routine


async def test_records_come_by_the_consumer_s_callback_and_queues_tell_of_pressure(tmp_path: Path) -> None:
    consumer = make_app(Settings(data=str(tmp_path)), "inbox", partitions=2).consumer
    assert consumer.callback is consumer.inlet
    assert "self.callback(" not in inspect.getsource(driver.Consumer)
    assert parameters(FlowControlQueue.put_nowait_enhanced) == "self, value, on_pressure_high, on_pressure_drop"
    consumer._thread.thread_loop.close()  # the loop of a thread that was never started


def test_helpers_of_the_transport_are_there() -> None:
    assert parameters(base.ensure_TP) == "tp"
    assert parameters(base.ensure_TPset) == "tps"
    assert driver.Consumer.consumer_stopped_errors


async def test_parts_of_the_store_are_as_they_were(tmp_path: Path) -> None:
    app = make_app(Settings(data=str(tmp_path)), "inbox", partitions=2)
    store = RocksTable(app, "sums", partitions=2)._faust.data
    assert type(store) is rocksdb.Store
    assert store.offset_key == b"__faust\0offset__"
    assert parameters(store._db_for_partition) == "partition"
    assert parameters(store.partition_path) == "partition"
    assert parameters(rocksdb.RocksDBOptions.open) == "self, path, read_only"
    source = inspect.getsource(rocksdb.Store._open_for_partition)
    assert "self.rocksdb_options.open(" in source
    assert store.partition_path(1).name == "sums-1.db"
