"""Continuous verification for Prometheus: counters of values, how far it is, and burn rates of the error budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tapeline.core.errors import ConfigurationError
from tapeline.monitoring.findings import Cause
from tapeline.monitoring.follow import Follower

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


def metrics_of(follower: Follower) -> Iterator[Metric]:
    """What there is to say of a follower now. Counters come from the journal, so they go on after a restart."""
    from prometheus_client.core import CounterMetricFamily as Counter
    from prometheus_client.core import GaugeMetricFamily as Gauge

    status, job = follower.status, follower.name
    totals = status.totals
    yield _one(Gauge, "connected", "Whether the last step reached PostgreSQL", job, float(status.connected))
    yield _one(Gauge, "objective", "Share of values that has to be what is stored", job, follower.objective.target)
    if totals is None:
        return
    yield _one(Counter, "vectors", "Served vectors compared", job, totals.vectors)
    values = Counter("tapeline_verify_values", "Served values compared", labels=["job_name", "view"])
    differing = Counter(
        "tapeline_verify_mismatches", "Served values that differ, by cause", labels=["job_name", "view", "cause"]
    )
    for view in sorted({view for view, _ in totals.counts}):
        values.add_metric([job, view], totals.counts[view, None])
        for cause in Cause:  # all of them, so that the first one of a cause is an increase and not a new series
            differing.add_metric([job, view, cause.value], totals.counts[view, cause])
    yield values
    yield differing
    yield _one(
        Gauge, "verified_through_timestamp_seconds", "Everything recorded by then has been looked at", job,
        status.through_us / 1e6,
    )  # fmt: skip
    yield _one(Gauge, "age_seconds", "Age of what was last looked at", job, time.time() - status.through_us / 1e6)
    if totals.last_served_us is not None:
        yield _one(
            Gauge, "last_served_timestamp_seconds", "When the newest vector compared had been served", job,
            totals.last_served_us / 1e6,
        )  # fmt: skip
    yield _one(Gauge, "backlog_vectors", "Logged vectors not yet looked at, counted to a million", job, status.backlog)
    burn = Gauge(
        "tapeline_verify_burn_rate",
        "How many times faster than allowed the error budget was used up, by window",
        labels=["job_name", "window"],
    )
    for window, rate in (status.burn_rates or {}).items():
        burn.add_metric([job, window], rate)
    yield burn


def _one(family: Any, name: str, what: str, job: str, value: float) -> Metric:
    metric: Metric = family(f"tapeline_verify_{name}", what, labels=["job_name"])
    metric.add_metric([job], value)  # type: ignore[attr-defined]
    return metric


def serve_metrics(follower: Follower, port: int) -> tuple[int, Callable[[], None]]:
    """Answer Prometheus on a loopback port, from a thread of its own.

    Parameters
    ----------
    follower
        Whose numbers are shown.
    port
        Port on 127.0.0.1; 0: a free one.

    Returns
    -------
    int
        The port.
    Callable
        Stops the endpoint.

    Raises
    ------
    ConfigurationError
        If the port cannot be bound.
    """
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.registry import Collector

    class _Follower(Collector):
        def collect(self) -> Iterator[Metric]:
            return metrics_of(follower)

    registry = CollectorRegistry()
    registry.register(_Follower())
    try:
        server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        raise ConfigurationError(
            f"port {port} cannot be bound: {error.strerror}", where="--metrics-port", remedy="Choose another"
        ) from None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(timeout=2)

    return server.server_port, stop
