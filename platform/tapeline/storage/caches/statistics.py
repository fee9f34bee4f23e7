"""What a cache counts about itself, and the form in which Prometheus reads it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from tapeline.storage.caches.memory import MemoryCache
    from tapeline.storage.caches.shared import SharedLevel

LATENCY_BOUNDS_S = (1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2)


class CacheStatistics:
    """Plain counters, touched by one event loop only: a locking counter would cost as much as a lookup.

    Attributes
    ----------
    hits_memory, hits_shared, misses
        Keys looked up, by where they were found. A key that another task of this process was computing is a miss of its own.
    expired, outside, corrupt
        Misses whose key held something: too old; right at other moments; no entry at all.
    waited, waited_in_vain
        Misses that others were computing, and those of them that were then computed here after all.
    computed, not_kept
        Values that were computed; those of them that no other request may be given.
    writes_dropped
        Values that did not reach the second level, because too many waited or it did not take them.
    payload_bytes, stored_bytes
        Of values encoded for the second level, before and after compression and with their heads.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.hits_memory = self.hits_shared = self.misses = 0
        self.expired = self.outside = self.corrupt = 0
        self.waited = self.waited_in_vain = 0
        self.computed = self.not_kept = 0
        self.writes_dropped = 0
        self.payload_bytes = self.stored_bytes = 0
        self.latency_counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self.latency_sum_s = 0.0

    @property
    def lookups(self) -> int:
        """Keys looked up."""
        return self.hits_memory + self.hits_shared + self.misses

    @property
    def hit_rate(self) -> float:
        """Share of lookups that found something; 0 before the first."""
        return 1.0 - self.misses / self.lookups if self.lookups else 0.0

    @property
    def compression_ratio(self) -> float:
        """Bytes of payloads over the bytes that the second level keeps for them; 1 before the first."""
        return self.payload_bytes / self.stored_bytes if self.stored_bytes else 1.0

    def observe(self, seconds: float) -> None:
        """Count how long a lookup of one or many keys took."""
        self.latency_counts[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
        self.latency_sum_s += seconds


def cache_metrics(
    caches: Iterable[CacheStatistics], memories: Mapping[str, MemoryCache], shared: SharedLevel | None
) -> Iterator[Metric]:
    """Metric families of some caches and of the levels that they share.

    Parameters
    ----------
    caches
        Each becomes a label value of every family.
    memories
        First levels, by the name of what they hold.
    shared
        The second level.
    """
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    known = tuple(caches)
    lookups = CounterMetricFamily("tapeline_cache_lookups", "Keys looked up", labels=["cache", "outcome"])
    refused = CounterMetricFamily(
        "tapeline_cache_refused", "Misses whose key held something", labels=["cache", "reason"]
    )
    waits = CounterMetricFamily(
        "tapeline_cache_waits", "Misses that others were computing", labels=["cache", "outcome"]
    )
    computed = CounterMetricFamily("tapeline_cache_computed", "Values computed", labels=["cache", "kept"])
    dropped = CounterMetricFamily("tapeline_cache_writes_dropped", "Values not shared", labels=["cache"])
    ratio = GaugeMetricFamily("tapeline_cache_compression_ratio", "Payload over stored bytes", labels=["cache"])
    latency = HistogramMetricFamily("tapeline_cache_lookup_seconds", "Time of a lookup", labels=["cache"])
    for each in known:
        for outcome in ("hits_memory", "hits_shared", "misses"):
            lookups.add_metric([each.name, outcome], getattr(each, outcome))
        for reason in ("expired", "outside", "corrupt"):
            refused.add_metric([each.name, reason], getattr(each, reason))
        waits.add_metric([each.name, "given"], each.waited - each.waited_in_vain)
        waits.add_metric([each.name, "in_vain"], each.waited_in_vain)
        computed.add_metric([each.name, "yes"], each.computed - each.not_kept)
        computed.add_metric([each.name, "no"], each.not_kept)
        dropped.add_metric([each.name], each.writes_dropped)
        ratio.add_metric([each.name], each.compression_ratio)
        latency.add_metric([each.name], _buckets(each), each.latency_sum_s)
    yield from (lookups, refused, waits, computed, dropped, ratio, latency)
    size = GaugeMetricFamily("tapeline_cache_memory_bytes", "Taken by a first level", labels=["memory"])
    entries = GaugeMetricFamily("tapeline_cache_memory_entries", "Kept in a first level", labels=["memory"])
    evictions = CounterMetricFamily("tapeline_cache_evictions", "Entries that left for others", labels=["memory"])
    for name, memory in memories.items():
        size.add_metric([name], memory.size_bytes)
        entries.add_metric([name], len(memory))
        evictions.add_metric([name], memory.evictions)
    yield from (size, entries, evictions)
    if shared is not None:
        yield CounterMetricFamily("tapeline_cache_shared_errors", "Failed calls to Redis", value=shared.errors)
        yield CounterMetricFamily(
            "tapeline_cache_shared_skipped", "Calls left out after failures", value=shared.skipped
        )


def _buckets(statistics: CacheStatistics) -> list[tuple[str, float]]:
    buckets, seen = [], 0
    for bound, count in zip((*map(str, LATENCY_BOUNDS_S), "+Inf"), statistics.latency_counts, strict=True):
        seen += count
        buckets.append((bound, float(seen)))
    return buckets
