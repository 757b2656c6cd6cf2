"""Cassandra: one node that owns the whole ring."""

from pathlib import Path
from typing import ClassVar, Final

from stack.jars import Jars
from stack.ports import LOOPBACK, free_ports
from stack.servers.java_server import JavaServer
from stack.servers.probes import CQL_ANSWER, CQL_QUESTION, is_cql

_JARS: Final = Jars(name="cassandra", version="5.0.9", artifacts=("org.apache.cassandra:cassandra-all:5.0.9",))

# `commitlog_sync: batch`: what was acknowledged is there after kill -9, which `periodic` does not promise. As long as
# fewer than `concurrent_writes` write at once, the thread that has read a request writes its logs one after the other,
# and waits for a sync with each; with `group` that would be a window with each.
_YAML: Final = """\
cluster_name: tocsin
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
num_tokens: 1
initial_token: "0"
auto_bootstrap: false
endpoint_snitch: SimpleSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{{seeds: "{host}:{storage}"}}]
listen_address: {host}
storage_port: {storage}
ssl_storage_port: {ssl}
start_native_transport: true
rpc_address: {host}
native_transport_port: {port}
data_file_directories: ["{folder}/data"]
commitlog_directory: "{folder}/commitlog"
saved_caches_directory: "{folder}/saved_caches"
hints_directory: "{folder}/hints"
cdc_raw_directory: "{folder}/cdc_raw"
authenticator: AllowAllAuthenticator
authorizer: AllowAllAuthorizer
hinted_handoff_enabled: false
commitlog_sync: batch
commitlog_disk_access_mode: mmap
commitlog_segment_size: 16MiB
commitlog_total_space: 256MiB
memtable_heap_space: 192MiB
memtable_offheap_space: 192MiB
memtable_allocation_type: offheap_objects
memtable:
  configurations:
    trie: {{class_name: TrieMemtable}}
    skiplist: {{class_name: SkipListMemtable}}
    default: {{inherits: trie}}
storage_compatibility_mode: NONE
sstable: {{selected_format: bti}}
default_compaction: {{class_name: UnifiedCompactionStrategy, parameters: {{scaling_parameters: T4}}}}
concurrent_reads: 8
concurrent_writes: 128
concurrent_counter_writes: 2
concurrent_compactors: 1
compaction_throughput: 32MiB/s
key_cache_size: 8MiB
file_cache_size: 64MiB
networking_cache_size: 32MiB
native_transport_max_threads: 16
batch_size_warn_threshold: 64KiB
batch_size_fail_threshold: 640KiB
unlogged_batch_across_partitions_warn_threshold: 64
paxos_variant: v2
cas_contention_timeout: 5s
read_request_timeout: 10s
write_request_timeout: 10s
range_request_timeout: 10s
auto_snapshot: false
trickle_fsync: false
disk_failure_policy: die
commit_failure_policy: die
"""

_LOGGING: Final = """\
<configuration scan="false">
  <statusListener class="ch.qos.logback.core.status.NopStatusListener"/>
  <appender name="console" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{ISO8601} %-5level %logger{0} %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="console"/></root>
</configuration>
"""

# Parts of Java that Cassandra reaches into.
_EXPORTS: Final = (
    "java.base/java.lang.ref", "java.base/jdk.internal.misc", "java.base/sun.nio.ch", "java.rmi/sun.rmi.registry",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi", "java.rmi/sun.rmi.server", "java.sql/java.sql",
    "jdk.unsupported/sun.misc",
)  # fmt: skip
_OPENS: Final = (
    "java.base/java.io", "java.base/java.lang", "java.base/java.lang.module", "java.base/java.lang.reflect",
    "java.base/java.nio", "java.base/java.util", "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic", "java.base/jdk.internal.loader", "java.base/jdk.internal.math",
    "java.base/jdk.internal.module", "java.base/jdk.internal.ref", "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.util.jar", "java.base/sun.nio.ch",
    "jdk.management/com.sun.management.internal",
)  # fmt: skip

# A ring of one node waits for nobody. Without a JMX port: nothing here uses it, and it would need one more.
_OPTIONS: Final = (
    "-Xss512k", "-XX:MaxDirectMemorySize=512m", "-XX:+PerfDisableSharedMem",
    "-Djava.net.preferIPv4Stack=true", "-Djdk.attach.allowAttachSelf=true",
    "-Dio.netty.tryReflectionSetAccessible=true", "-Dio.netty.allocator.useCacheForAllThreads=true",
    "-Dio.netty.allocator.maxOrder=11",
    "-Dcassandra.skip_wait_for_gossip_to_settle=0", "-Dcassandra.ring_delay_ms=0",
    "-Dcassandra.superuser_setup_delay_ms=0", "-Dcassandra.shutdown_announce_in_ms=0",
    "-Dcassandra.disable_tcactive_openssl=true", "-Dcassandra-foreground=yes",
    *(f"--add-exports={part}=ALL-UNNAMED" for part in _EXPORTS),
    *(f"--add-opens={part}=ALL-UNNAMED" for part in _OPENS),
)  # fmt: skip


class Cassandra(JavaServer):
    """A store with all its data in `folder`."""

    name = "cassandra"
    role = "cassandra"
    start_within: ClassVar[float] = 120.0
    stop_within: ClassVar[float] = 90.0
    jars: ClassVar[Jars] = _JARS
    heap: ClassVar[tuple[str, ...]] = ("-Xms512m", "-Xmx512m")

    def __init__(self, folder: Path, port: int = 0, *, log: Path | None = None) -> None:
        super().__init__(folder, port, log=log)
        self._storage, self._ssl = free_ports(2)

    @property
    def url(self) -> str:
        """Where the store is, as the settings name it: cassandra://host:port/tocsin."""
        return f"cassandra://{self.address}/tocsin"

    def _configure(self) -> list[str]:
        temporary = (
            self.folder / "tmp"
        )  # native libraries are unpacked here; the system's folder may forbid running them
        temporary.mkdir(parents=True, exist_ok=True)
        yaml = self.folder / "cassandra.yaml"
        ports = {"port": self.port, "storage": self._storage, "ssl": self._ssl}
        yaml.write_text(_YAML.format(host=LOOPBACK, folder=self.folder, **ports))
        logging = self.folder / "logback.xml"
        logging.write_text(_LOGGING)
        return [
            *_OPTIONS,
            f"-Djava.io.tmpdir={temporary}",
            f"-Djna.tmpdir={temporary}",
            f"-Dcassandra.storagedir={self.folder}",
            f"-Dcassandra.logdir={self.folder}",
            f"-Dcassandra.config={yaml.as_uri()}",
            f"-Dlogback.configurationFile={logging.as_uri()}",
        ]

    def _main(self) -> list[str]:
        return ["org.apache.cassandra.service.CassandraDaemon"]

    def _answers(self) -> bool:
        return is_cql(self._ask(CQL_QUESTION, CQL_ANSWER))
