"""What a load needs of each resource, without simulating: shares of a processor, bytes, and the load at which each is exhausted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.scaling.costs import Costs
from benchmarks.scaling.market import Floats, Market, distinct_symbols
from benchmarks.scaling.network import Layout

BUSY_MAX = 0.7
"""How busy a resource may be for a load to count as carried: beyond it, waiting grows faster than the load."""
LINGER_S = 0.005
BACKLOG_ENTRIES_MAX = 100_000


@dataclass(frozen=True)
class Setting:
    """How a stream is laid out.

    Attributes
    ----------
    partitions, workers, shards
        How many of each.
    linger_s
        How long a producer collects the events of a partition before it sends them.
    """

    partitions: int
    workers: int
    shards: int
    linger_s: float = LINGER_S

    @property
    def layout(self) -> Layout:
        """Where partitions are."""
        return Layout.even(self.partitions, self.workers, self.shards)


@dataclass(frozen=True)
class Flow:
    """What flows at a load, once it is steady.

    Attributes
    ----------
    worker_rates
        float64 (W,): events a second of each worker.
    cycle_s
        float64 (W,): how often each reads: once in so long.
    blocks, values
        Blocks sent and online values written a second, in all.
    worker_busy, shard_busy
        float64: the part of its time that each works; above 1 it cannot.
    """

    worker_rates: Floats
    cycle_s: Floats
    blocks: float
    values: float
    worker_busy: Floats
    shard_busy: Floats


def flow(costs: Costs, market: Market, setting: Setting, rate: float) -> Flow:
    """The steady state of a stream at so many events a second.

    A worker that is handed all that came during its last cycle has cycles of T = (a + 2 r) / (1 - b λ), where a and b are its
    costs of a batch and an event, r a round trip and λ its rate: the fluid limit.
    """
    layout = setting.layout
    partition_of = market.partition_of(setting.partitions)
    shares = market.shares
    partition_rates = rate * np.bincount(partition_of, shares, setting.partitions)
    worker_of = layout.worker_of[partition_of]
    worker_rates = rate * np.bincount(worker_of, shares, setting.workers)
    spare = np.maximum(1.0 - costs.event_s * worker_rates, 1e-3)
    cycle_s = (costs.batch_s + 2 * costs.round_trip_s) / spare
    partitions_of = np.bincount(layout.worker_of, minlength=setting.workers)
    cycle_s = np.maximum(cycle_s, setting.linger_s / np.maximum(partitions_of, 1))
    blocks_of = -np.expm1(-partition_rates * setting.linger_s) / setting.linger_s
    rows = worker_rates * cycle_s * min(1.0, costs.rows_per_event)
    values = np.array(
        [
            min(count, float(distinct_symbols(shares[worker_of == worker], np.array([count]))[0])) / seconds
            for worker, (count, seconds) in enumerate(zip(rows.tolist(), cycle_s.tolist(), strict=True))
        ]
    )
    bytes_of = blocks_of * costs.block_bytes + partition_rates * costs.event_bytes
    of_partition = blocks_of * (costs.add_entry_s + costs.acknowledge_entry_s) + bytes_of * (
        costs.add_byte_s + costs.read_byte_s
    )
    shard_busy = np.bincount(layout.shard_of, of_partition, setting.shards)
    reads_of = np.zeros(setting.shards)
    np.add.at(reads_of, np.arange(setting.workers) % setting.shards, costs.read_call_s / cycle_s)
    shard_busy = shard_busy + reads_of + values.sum() * costs.write_value_s / setting.shards
    worker_busy = costs.batch_s / cycle_s + costs.event_s * worker_rates
    return Flow(worker_rates, cycle_s, float(blocks_of.sum()), float(values.sum()), worker_busy, shard_busy)


def carried(costs: Costs, market: Market, setting: Setting, rate: float) -> float:
    """The greatest load, as a part of ``rate``, at which no worker and no server is busier than it may be."""
    low, high = 0.0, 4.0
    for _ in range(30):
        middle = (low + high) / 2
        found = flow(costs, market, setting, rate * middle)
        # What a batch costs is spread over more events as load grows: it is no limit, so it is left out here.
        busiest = max(float((costs.event_s * found.worker_rates).max()), float(found.shard_busy.max()))
        low, high = (middle, high) if busiest <= BUSY_MAX else (low, middle)
    return low


def smallest(costs: Costs, market: Market, rate: float) -> Setting | None:
    """The fewest workers, then servers, that carry a load; none if a single symbol is too much for one worker."""
    shards = 1
    for workers in _SIZES:
        partitions = min(4_096, 8 * workers)
        rates = rate * np.bincount(
            Layout.even(partitions, workers, 1).worker_of[market.partition_of(partitions)], market.shares, workers
        )
        if costs.event_s * rates.max() > BUSY_MAX:
            continue
        for shards in _SIZES:
            if shards > workers:
                break
            setting = Setting(partitions, workers, shards)
            if carried(costs, market, setting, rate) >= 1.0:
                return setting
    return None


_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


def limits(costs: Costs, market: Market, setting: Setting, rate: float) -> list[tuple[str, float, str]]:
    """Each resource, the load at which it is exhausted (events a second), and how that comes about; the first to break first."""
    found = flow(costs, market, setting, rate)
    top = float(market.shares[0])
    hottest = float(found.worker_rates.max()) / rate
    mean = 1.0 / setting.workers
    rows = min(1.0, costs.rows_per_event)
    return sorted(
        [
            ("the most traded symbol", 1.0 / (costs.event_s * top),
             f"{100 * top:.1f} % of all events, and one worker must take them in order"),
            ("the busiest worker", 1.0 / (costs.event_s * hottest),
             f"{100 * hottest:.1f} % of all events; the mean of {setting.workers} is {100 * mean:.1f} %"),
            ("the busiest Redis server", rate / float(found.shard_busy.max()),
             f"{found.blocks / setting.shards:,.0f} blocks and {found.values / setting.shards:,.0f} values a second each"),
            ("raw rows into PostgreSQL, one writer", 1.0 / costs.raw_row_s,
             "appends to one source take turns, so that a correction comes after what it corrects"),
            ("feature rows into PostgreSQL, one connection a worker", setting.workers / (costs.feature_row_s * rows),
             f"{rows:.4f} rows an event, {1 / costs.feature_row_s:,.0f} rows a second each"),
        ],
        key=lambda one: one[1],
    )  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """Bytes at a load."""

    stream_bytes_s: float
    backlog_bytes: float
    online_bytes: float
    state_bytes: float
    network_bytes_s: float
    raw_bytes_day: float
    feature_bytes_day: float


def sizes(costs: Costs, market: Market, setting: Setting, rate: float, *, session_s: float = 6.5 * 3_600) -> Sizes:
    """How many bytes a load makes, holds and sends; a day is one session at this load."""
    found = flow(costs, market, setting, rate)
    in_block = costs.event_bytes * rate + costs.block_bytes * found.blocks
    entry = costs.entry_bytes + in_block / found.blocks
    value = costs.value_bytes * found.values
    kept = costs.state_bytes * market.symbols
    return Sizes(
        stream_bytes_s=in_block + costs.entry_bytes * found.blocks,
        backlog_bytes=entry * BACKLOG_ENTRIES_MAX * setting.partitions,
        online_bytes=costs.value_bytes * market.symbols,
        state_bytes=kept,
        network_bytes_s=2 * in_block + value + kept,
        raw_bytes_day=costs.raw_row_bytes * rate * session_s,
        feature_bytes_day=costs.feature_row_bytes * rate * min(1.0, costs.rows_per_event) * session_s,
    )
