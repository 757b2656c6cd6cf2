"""The Faust app of a role, with everything that must not be left at Faust's defaults."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import faust
from faust.auth import SASLCredentials, SSLCredentials

from streams.consumer import Transport
from streams.recovery import Tables
from streams.settings import Settings
from streams.topics import app_id

POLL: Final = 64  # records handed over at once: while they are, what is more urgent waits
FETCH_BYTES: Final = 128 * 1024  # of one partition in one fetch: a backlog of `bulk` must not fill the connection


def data_folder(settings: Settings, role: str) -> Path:
    """Return where a worker keeps its tables. Two workers never share one: RocksDB locks what has a changelog."""
    return Path(settings.data).absolute() / "tables" / (settings.instance or role)


def make_app(settings: Settings, role: str, *, partitions: int) -> Any:
    """Return the app of a role: at least once, no web server, topics never declared by Faust, our consumer."""
    folder = data_folder(settings, role)
    folder.mkdir(parents=True, exist_ok=True)
    app = faust.App(
        app_id(settings.prefix, role),
        broker=[f"kafka://{address.strip()}" for address in settings.kafka.split(",")],
        broker_credentials=_credentials(settings),
        store="rocksdb://?driver=rocksdict",
        datadir=str(folder),
        key_serializer="raw",
        value_serializer="raw",
        topic_partitions=partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        broker_session_timeout=settings.session_timeout,
        broker_heartbeat_interval=min(1.0, settings.session_timeout / 3.3),  # how soon all notice a rebalance
        broker_rebalance_timeout=60.0,
        broker_request_timeout=max(15.0, settings.session_timeout * 1.5),
        broker_commit_interval=0.5,
        broker_max_poll_records=POLL,
        consumer_max_fetch_size=FETCH_BYTES,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=settings.instance or None,
        stream_buffer_maxsize=4096,
        stream_wait_empty=True,
        stream_recovery_delay=0.0,
        producer_acks=-1,
        table_cleanup_interval=3600.0,
        TableManager=Tables,
    )
    app.transport = Transport(app.conf.broker_consumer, app)
    return app


def _credentials(settings: Settings) -> SSLCredentials | SASLCredentials | None:
    options = settings.kafka_options()
    context = options.get("ssl_context")
    if "sasl_mechanism" not in options:
        return SSLCredentials(context) if context else None
    return SASLCredentials(
        username=options["sasl_plain_username"],
        password=options["sasl_plain_password"],
        ssl_context=context,
        mechanism=options["sasl_mechanism"],
    )


def raw_topic(app: Any, name: str) -> Any:
    """Return a topic whose keys and values stay bytes: what does not decode must not be acked by Faust."""
    return app.topic(
        name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", internal=False
    )


def declare_agent(app: Any, name: str, topic: str, loop: Callable[[Any], Any]) -> None:
    """Declare a Faust agent on `topic` whose body is `loop(stream)`; concurrency 1, since more loses records."""
    app.agent(raw_topic(app, topic), concurrency=1, name=name)(loop)
