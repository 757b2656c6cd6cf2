"""Metrics of a gateway process."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from schemas.logs import INBOX_LOGS, kind_of
from telemetry.fast import Count, Latencies, Tally


class GatewayMetrics:
    """What a gateway counts; one object a process."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, registry=registry)

        self.connections = gauge("tocsin_connections", "Sessions that are open")
        self.opened = Count(registry, "tocsin_connections_opened", "Sessions that were opened")
        self.closed = counter("tocsin_connections_closed_total", "Sessions that ended, by close code", "code")
        self.refused = counter("tocsin_connections_refused_total", "Refused, by HTTP status or close code", "status")
        self.reconnects = counter("tocsin_reconnects_total", "Sessions opened with cursors of an earlier one")
        self.frames_received = Count(registry, "tocsin_frames_received", "Text messages of clients")
        self.failed = counter("tocsin_sessions_failed_total", "Sessions closed since an exception was raised in them")
        self.limited = Tally(registry, "tocsin_limited", "Times that a limit was reached", "limit", ())
        self.slow = counter("tocsin_slow_clients_total", "Sessions ended because the client read too slowly")
        self.fenced = gauge("tocsin_fenced_parts_total", "Parts of a former owner that were dropped")
        self.gaps = gauge("tocsin_stream_gaps_total", "Times that messages of a worker were missing")
        self.unknown = counter("tocsin_unknown_sessions_total", "Deliveries for sessions that are not here")
        self.resyncs = counter("tocsin_session_resyncs_total", "Sessions synced because something may have been lost")
        self.resyncs_waiting = gauge("tocsin_resyncs_waiting", "Sessions that wait to be synced")
        self.outbox_waiting = gauge("tocsin_outbox_waiting", "Items that wait to be written to Kafka")
        self.outbox_failures = counter("tocsin_outbox_failures_total", "Writes to Kafka that failed and are repeated")
        self.dropped_acks = gauge("tocsin_dropped_acks_total", "Acks dropped because Kafka was away for too long")
        self.dropped_records = counter("tocsin_dropped_records_total", "Records for Kafka that could not be written")
        self.outbox_writing = gauge("tocsin_outbox_writing", "Batches that Kafka has not acknowledged yet")
        self.socket_bytes = gauge("tocsin_socket_bytes_waiting", "Bytes that the network has not taken")
        self.held_runs = gauge("tocsin_held_runs", "Runs that wait for what comes before them")
        self.revocations = gauge("tocsin_revocations", "Revocations in force")
        self.keys = gauge("tocsin_token_keys", "Keys that tokens are checked by")
        self.key_readings = counter("tocsin_key_readings_total", "Readings of the published keys", "result")
        self.deliveries = Tally(registry, "tocsin_deliveries", "Entries written to sockets", "log", INBOX_LOGS)
        self.latency = Latencies(
            registry, "tocsin_delivery_latency_seconds", "From the append in Kafka to the write to the socket"
        )

    def delivered(self, log: str, ts: int, sessions: int, now: float) -> None:
        """Count an entry that was written to so many sessions at `now`, s since 1970.

        `ts` is when it was appended, ms since 1970; 0 where that says nothing about latency.
        """
        self.deliveries.add(kind_of(log), sessions)
        if ts:
            self.latency.observe(now - ts / 1000, sessions)
