"""Kafka: one node that is broker and controller (KRaft)."""

import base64
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import ClassVar, Final

from stack.jars import Jars, run
from stack.ports import LOOPBACK, free_port
from stack.servers.java_server import JavaServer
from stack.servers.jvm import FRUGAL, find_java
from stack.servers.probes import KAFKA_ANSWER, KAFKA_QUESTION, is_kafka

_JARS: Final = Jars(
    name="kafka",
    version="4.4.0",
    # Kafka brings log4j but not the binding that makes it log
    artifacts=("org.apache.kafka:kafka_2.13:4.4.0", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5"),
)
_FORMAT_WITHIN: Final = 60.0  # s

_PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
# topics are made by `tocsin topics apply`, with the right number of partitions
auto.create.topics.enable=false
num.partitions=4
# one node holds the only copy of everything
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
# a lone worker does not wait for others, and a test may lose one quickly
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# after kill -9 the broker may register again only when its old session is over
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
# small
num.network.threads=2
num.io.threads=2
num.recovery.threads.per.data.dir=1
log.segment.bytes=67108864
log.cleaner.dedupe.buffer.size=16777216
log.cleaner.threads=1
"""

_LOGGING: Final = """\
status=warn
rootLogger.level=WARN
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %-5p %c{1} %m%n
"""

_META: Final = "version=1\nnode.id=1\ncluster.id={cluster}\ndirectory.id={directory}\n"


class Kafka(JavaServer):
    """A broker with its data in `folder/data`."""

    name = "kafka"
    role = "kafka"
    stop_within: ClassVar[float] = 60.0
    jars: ClassVar[Jars] = _JARS
    heap: ClassVar[tuple[str, ...]] = ("-Xms256m", "-Xmx512m")

    def __init__(self, folder: Path, port: int = 0, *, log: Path | None = None) -> None:
        super().__init__(folder, port, log=log)
        self._controller = free_port()

    def _finish(self, home: Path) -> None:
        """Format an empty data folder once: every new broker gets a copy of it, which saves a start of Java."""
        with tempfile.TemporaryDirectory() as folder:
            properties = Path(folder) / "server.properties"
            properties.write_text(self._properties(home / "blank"))
            command = [find_java(), *FRUGAL, "-cp", f"{home}/lib/*", "kafka.tools.StorageTool",
                       "format", "--cluster-id", _new_id(), "--config", str(properties)]  # fmt: skip
            run("formatting kafka", command, log=self.jars.log("format"), within=_FORMAT_WITHIN)

    def _configure(self) -> list[str]:
        data = self.folder / "data"
        if not (data / "meta.properties").exists():
            _new_data(self.jars.home() / "blank", data)
        (self.folder / "server.properties").write_text(self._properties(data))
        logging = self.folder / "log4j2.properties"
        logging.write_text(_LOGGING)
        return [f"-Dlog4j2.configurationFile={logging.as_uri()}"]

    def _properties(self, data: Path) -> str:
        return _PROPERTIES.format(host=LOOPBACK, port=self.port, controller=self._controller, data=data)

    def _main(self) -> list[str]:
        return ["kafka.Kafka", str(self.folder / "server.properties")]

    def _answers(self) -> bool:
        return is_kafka(self._ask(KAFKA_QUESTION, KAFKA_ANSWER))


def _new_data(blank: Path, data: Path) -> None:
    """Copy the formatted folder under an identity of its own; `meta.properties` comes last and says: it is whole."""
    shutil.rmtree(data, ignore_errors=True)
    shutil.copytree(blank, data, ignore=shutil.ignore_patterns("meta.properties"))
    (data / "meta.properties").write_text(_META.format(cluster=_new_id(), directory=_new_id()))


def _new_id() -> str:
    """Return a random id as Kafka writes it: 22 characters, not beginning with a dash."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        continue
    return text
