"""What workers and producers count about themselves, for Prometheus and for ``tapeline top``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tapeline.core.errors import ConfigurationError
from tapeline.streaming.breaker import Circuit
from tapeline.streaming.timing import BOUNDS_S, PER_DECADE, Timing

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from tapeline.streaming.producer import Producer
    from tapeline.streaming.worker import Worker

REASONS_MAX = 5
"""Symbols that were set aside whose reasons a worker tells others."""
_BUCKETS = range(0, len(BOUNDS_S), PER_DECADE // 2)
Read = Callable[[], "Iterator[Metric]"]


def worker_metrics(worker: Worker) -> Iterator[Metric]:
    """What a worker has done, how it stands, and how long events took."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    labels = {"stream": worker.plan.name, "worker": worker.leases.worker}
    names, values = list(labels), list(labels.values())
    events = CounterMetricFamily("tapeline_stream_events", "Events by what became of them", labels=[*names, "outcome"])
    counts = asdict(worker.counters)
    for outcome in ("taken", "recorded", "skipped", "late", "too_late"):
        events.add_metric([*values, outcome], counts[outcome])
    yield events
    for name, help_text in (
        ("feature_rows", "Feature rows computed"),
        ("online", "Values offered to the online store"),
        ("coalesced", "Feature rows left out online for a later one of the same symbol and batch"),
        ("repairs", "How often symbols were computed again by a back-fill"),
    ):
        counter = CounterMetricFamily(f"tapeline_stream_{name}", help_text, labels=names)
        counter.add_metric(values, counts[name])
        yield counter
    for name, help_text, value in (
        ("partitions", "Partitions owned", len(worker.leases.owned)),
        ("aside", "Symbols whose features cannot be computed", len(worker.aside)),
        ("early", "Online values that wait until they are available", len(worker.processor.early)),
        ("behind_bytes", "Bytes that wait to be written to PostgreSQL", worker.behind.waiting_bytes),
        ("behind_seconds", "How long the last transaction took, acknowledgements included", worker.behind.done_s),
    ):
        gauge = GaugeMetricFamily(f"tapeline_stream_{name}", help_text, labels=names)
        gauge.add_metric(values, value)
        yield gauge
    circuits = GaugeMetricFamily("tapeline_stream_circuit_open", "1 where a circuit is open", labels=[*names, "to"])
    for breaker in worker.breakers:
        circuits.add_metric([*values, breaker.name], float(breaker.state is not Circuit.closed))
    yield circuits
    yield _histogram(
        "tapeline_stream_processing_seconds", "Time that an event was worked on", worker.processing, labels
    )
    yield _histogram(
        "tapeline_stream_latency_seconds", "From an event's available time until it is online", worker.latency, labels
    )


def producer_metrics(producer: Producer) -> Iterator[Metric]:
    """What a producer has sent, and how long it waited for workers."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    for name, help_text, value in (
        ("sent_events", "Events that Redis acknowledged", producer.sent),
        ("waited_seconds", "How long sending waited for workers", producer.waited_s),
    ):
        counter = CounterMetricFamily(f"tapeline_stream_{name}", help_text, labels=["stream"])
        counter.add_metric([producer.plan.name], value)
        yield counter
    circuit = GaugeMetricFamily("tapeline_stream_producer_circuit_open", "1 where it is open", labels=["stream"])
    circuit.add_metric([producer.plan.name], float(producer.breaker.state is not Circuit.closed))
    yield circuit


def serve(port: int, read: Read) -> tuple[int, Callable[[], None]]:
    """Answer Prometheus on a loopback port, from a thread of its own.

    Parameters
    ----------
    port
        On 127.0.0.1; 0: any free one.
    read
        Gives the metrics at each scrape, such as ``lambda: worker_metrics(worker)``.

    Returns
    -------
    tuple
        The port, and what stops the endpoint.

    Raises
    ------
    ConfigurationError
        If the port is taken.
    """
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.registry import Collector

    class _Read(Collector):
        def collect(self) -> Iterator[Metric]:
            return read()

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Read())
    server: Any
    try:
        server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        raise ConfigurationError(f"port {port} cannot be used for metrics: {error}", remedy="Name another") from None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(timeout=2)

    return server.server_port, stop


class Summary:
    """What a worker tells others at each beat, for ``tapeline top``: its counts, and the percentiles since the last beat.

    Parameters
    ----------
    worker
        The worker.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._processing, self._latency = worker.processing.counts.copy(), worker.latency.counts.copy()

    def __call__(self) -> dict[str, Any]:
        """As JSON data."""
        worker = self._worker
        processing, latency = worker.processing.since(self._processing), worker.latency.since(self._latency)
        self._processing, self._latency = worker.processing.counts.copy(), worker.latency.counts.copy()
        aside = worker.aside
        return {
            **asdict(worker.counters),
            "aside": len(aside),
            "reasons": dict(sorted(aside.items())[:REASONS_MAX]),
            "behind_bytes": worker.behind.waiting_bytes,
            "behind_s": worker.behind.done_s,
            "processing": processing.as_dict(),
            "latency": latency.as_dict(),
            "open": [breaker.name for breaker in worker.breakers if breaker.state is not Circuit.closed],
        }


def _histogram(name: str, help_text: str, timing: Timing, labels: dict[str, str]) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    total = timing.counts.cumsum()
    buckets = [(f"{BOUNDS_S[place]:.3g}", float(total[place])) for place in _BUCKETS]
    family = HistogramMetricFamily(name, help_text, labels=list(labels))
    family.add_metric(list(labels.values()), [*buckets, ("+Inf", float(total[-1]))], timing.sum_s)
    return family
