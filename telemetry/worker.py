"""Metrics of a worker process."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from schemas.records import REASONS
from telemetry.fast import Tally

BATCHES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # records
BATCH_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)


class WorkerMetrics:
    """What a worker counts; one object a process."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._batch_records = Histogram(
            "tocsin_batch_records", "Records that a micro-batch took", ["agent"], buckets=BATCHES, registry=registry
        )
        self._batch_seconds = Histogram(
            "tocsin_batch_seconds",
            "From the take of a micro-batch to its ack",
            ["agent"],
            buckets=BATCH_SECONDS,
            registry=registry,
        )
        self.records = Tally(registry, "tocsin_records", "Records that were processed", "agent", ())
        self.entries = Tally(registry, "tocsin_entries_appended", "Entries appended to logs", "lane", ())
        self.repeats = Tally(registry, "tocsin_repeats", "Records whose entry was there already", "lane", ())
        self.expired = Tally(registry, "tocsin_expired", "Records that came after their time", "lane", ())
        self.limited = Tally(registry, "tocsin_rate_limited", "Records over the limit of their log", "lane", ())
        self.merged = Counter(
            "tocsin_merged", "Entries not sent, since a later one under the same key replaces them", registry=registry
        )
        self.dead_letters = Tally(registry, "tocsin_dead_letters", "Records not processed", "reason", tuple(REASONS))
        self.moved = Tally(registry, "tocsin_records_moved", "Records sent on to their home partition", "topic", ())
        self.retries = Tally(registry, "tocsin_batch_retries", "Batches tried again: a server is away", "agent", ())
        self.refused = Tally(registry, "tocsin_refused", "Records and works refused for good", "agent", ())
        self.refused_values = Tally(
            registry, "tocsin_refused_values", "Cursors, sessions and answers left out: they are refused", "what", ()
        )
        self.stalls = Tally(registry, "tocsin_lane_stalls", "Times that a partition stood still", "agent", ())
        self.stalled = Gauge("tocsin_lane_stalled", "Partitions that stand still", ["agent"], registry=registry)
        self.deleted = Tally(
            registry, "tocsin_records_deleted", "Records that Kafka deleted before they were processed", "topic", ()
        )
        self.publish_failures = Counter(
            "tocsin_publish_failures", "Messages that Redis did not take", registry=registry
        )
        self.held = Gauge(
            "tocsin_records_held", "Records whose ack waits for an answer or a cursor to be written", registry=registry
        )
        self.torn = Gauge(
            "tocsin_torn_partitions", "Sources assigned without their changelogs, not read", registry=registry
        )
        self.buffered = Gauge(
            "tocsin_buffered_records", "Records fetched and not taken yet", ["agent"], registry=registry
        )
        self.beside = Gauge(
            "tocsin_works_beside", "Works beside the turnstile, not acked yet", ["agent"], registry=registry
        )
        self.emitting = Gauge("tocsin_records_emitting", "Records that Kafka has not acknowledged", registry=registry)
        self.cursors = Gauge("tocsin_cursors_waiting", "Watermarks that wait for the store", registry=registry)
        self.suspects = Gauge("tocsin_suspect_gateways", "Gateways that a publish did not reach", registry=registry)
        self.gateways = Gauge("tocsin_gateways_known", "Gateways that are looked for", registry=registry)
        self.dead = Gauge("tocsin_gateways_dead", "Dead gateways whose sessions are being swept", registry=registry)
        self.swept = Counter("tocsin_sessions_swept", "Sessions of dead gateways that were dropped", registry=registry)
        self.sessions_refused = Counter(
            "tocsin_sessions_refused", "Sessions beyond what a user may have", registry=registry
        )
        self.forgotten = Counter(
            "tocsin_devices_forgotten", "Devices forgotten: too many, or not seen for long", registry=registry
        )
        self.bad_items = Counter(
            "tocsin_bad_items", "Items of gateways' records that were left out, with a dead letter", registry=registry
        )
        self.syncs_waiting = Gauge("tocsin_syncs_waiting", "Requests for rows that wait", registry=registry)
        self.syncs_replaced = Counter(
            "tocsin_syncs_replaced", "Requests for rows that a later one of the session replaced", registry=registry
        )
        self.users_over_budget = Gauge(
            "tocsin_users_over_budget",
            "Users, in each log, who wait for their budget of rows",
            registry=registry,
        )
        self.unanswered = Counter(
            "tocsin_requests_unanswered", "Requests that the store could not answer", registry=registry
        )
        self.partitions = Gauge("tocsin_partitions_owned", "Partitions owned", registry=registry)

    def batch(self, agent: str, records: int, seconds: float) -> None:
        """Note a micro-batch that is done."""
        self._batch_records.labels(agent).observe(records)
        self._batch_seconds.labels(agent).observe(seconds)
        self.records.add(agent, records)
