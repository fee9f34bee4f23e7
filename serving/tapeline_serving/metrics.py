"""What the server counts about itself, and the optional Prometheus endpoint that shows it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

LATENCY_BOUNDS_S = (1e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 5.0)


class Metrics:
    """Plain counters, touched by the event loop only: a tenth of the cost of a locking counter per request."""

    def __init__(self) -> None:
        self.requests: dict[str, int] = {}
        self.entities = 0
        self.latency_counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self.latency_sum_s = 0.0

    def observe(self, code: str, entities: int, seconds: float) -> None:
        """Count one finished request.

        Parameters
        ----------
        code
            Name of its gRPC status code.
        entities
            How many predictions it got.
        seconds
            From the first byte of work to the finished answer.
        """
        self.requests[code] = self.requests.get(code, 0) + 1
        self.entities += entities
        self.latency_counts[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
        self.latency_sum_s += seconds


def serve_metrics(
    port: int,
    metrics: Metrics,
    gauges: Callable[[], dict[str, float]],
    families: Callable[[], Iterator[Metric]] | None = None,
) -> Callable[[], None]:
    """Answer Prometheus on a loopback port, from a thread of its own.

    Parameters
    ----------
    port
        Port on 127.0.0.1.
    metrics
        The counters to show.
    gauges
        Further values by name, read at each scrape; names that end in ``_total`` are counters.
    families
        Further metric families, made at each scrape.

    Returns
    -------
    Callable
        Stops the endpoint.
    """
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
    from prometheus_client.registry import Collector

    class _Server(Collector):
        def collect(self) -> Iterator[Metric]:
            requests = CounterMetricFamily("tapeline_requests", "Predict calls by status code", labels=["code"])
            for code, count in sorted(metrics.requests.items()):
                requests.add_metric([code], count)
            yield requests
            yield CounterMetricFamily("tapeline_predictions", "Entities predicted", value=metrics.entities)
            seen = 0
            buckets = []
            for bound, count in zip((*map(str, LATENCY_BOUNDS_S), "+Inf"), metrics.latency_counts, strict=True):
                seen += count
                buckets.append((bound, seen))
            yield HistogramMetricFamily(
                "tapeline_predict_seconds", "Time in the server", buckets=buckets, sum_value=metrics.latency_sum_s
            )
            for name, value in gauges().items():
                family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                yield family(f"tapeline_{name.removesuffix('_total')}", name.replace("_", " "), value=value)
            if families is not None:
                yield from families()

    registry = CollectorRegistry()
    registry.register(_Server())
    server: Any
    server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(timeout=2)

    return stop
