"""Latencies of simulated streams: against load, with the knee, and through the opening of a market."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.scaling.capacity import Setting
from benchmarks.scaling.costs import Costs
from benchmarks.scaling.market import Floats, Integers, Market, Opening, blocks_of
from benchmarks.scaling.network import run_network

KNEE_FACTOR = 3.0
"""The knee is the greatest load whose 99th percentile is at most so many times that of the least load."""


@dataclass(frozen=True)
class Latency:
    """How soon events were visible at a load.

    Attributes
    ----------
    load
        As a part of the rate asked about.
    p50_s, p99_s
        From an event until its features could be read, the producer's collecting included.
    worker_busy, shard_busy
        Of the busiest.
    backlog_blocks
        Most that waited in a partition.
    """

    load: float
    p50_s: float
    p99_s: float
    worker_busy: float
    shard_busy: float
    backlog_blocks: int


def weighted(values: Floats, weights: Integers, quantile: float) -> float:
    """A quantile of values that stand for so many each."""
    order = np.argsort(values)
    passed = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(passed, quantile * passed[-1])])


def latency_at(
    costs: Costs, market: Market, setting: Setting, rate: float, load: float, *, duration_s: float = 2.0, seed: int = 1
) -> Latency:
    """Simulate one load for a while and leave out how it began."""
    rng = np.random.default_rng(seed)
    shares = market.partition_shares(setting.partitions)
    sent, partition, events = blocks_of(rate * load, shares, setting.linger_s, duration_s, rng, None)
    partition_of = market.partition_of(setting.partitions)
    outcome = run_network(costs, setting.layout, sent, partition, events, market.shares, partition_of)
    later = sent > 0.25 * duration_s
    # An event came at any moment of the time in which its block was collected.
    age = outcome.visible_s[later] - sent[later] + setting.linger_s * rng.random(int(later.sum()))
    return Latency(
        load,
        weighted(age, events[later], 0.5),
        weighted(age, events[later], 0.99),
        float(outcome.worker_busy_s.max()) / outcome.end_s,
        float(outcome.shard_busy_s.max()) / outcome.end_s,
        int(outcome.backlog_max.max()),
    )


def knee(latencies: list[Latency]) -> float:
    """The load beyond which the 99th percentile leaves its floor."""
    floor = latencies[0].p99_s
    return max(one.load for one in latencies if one.p99_s <= KNEE_FACTOR * floor)


@dataclass(frozen=True)
class Opened:
    """An opening, over time.

    Attributes
    ----------
    time_s, rate, backlog
        At moments: events a second that come, and events that came and are not visible yet.
    p99_s
        Of all events.
    drained_s
        How long after the opening no more waited than before it; NaN if that was not reached.
    held
        Blocks whose producer had to wait.
    """

    time_s: Floats
    rate: Floats
    backlog: Floats
    p50_s: float
    p99_s: float
    drained_s: float
    held: int


def opening_of(
    costs: Costs,
    market: Market,
    setting: Setting,
    rate: float,
    opening: Opening,
    *,
    duration_s: float = 9.0,
    seed: int = 2,
) -> Opened:
    """Simulate an opening."""
    rng = np.random.default_rng(seed)
    shares = market.partition_shares(setting.partitions)
    sent, partition, events = blocks_of(rate, shares, setting.linger_s, duration_s, rng, opening)
    partition_of = market.partition_of(setting.partitions)
    outcome = run_network(costs, setting.layout, sent, partition, events, market.shares, partition_of)
    time_s = np.arange(0.05, duration_s, 0.05)
    came = np.concatenate([[0], np.cumsum(events)])[np.searchsorted(sent, time_s)]
    order = np.argsort(outcome.visible_s)
    left = np.concatenate([[0], np.cumsum(events[order])])[np.searchsorted(outcome.visible_s[order], time_s)]
    backlog = (came - left).astype(np.float64)
    before = float(np.quantile(backlog[time_s < opening.at_s], 0.9))
    above = np.flatnonzero((time_s >= opening.at_s) & (backlog > 1.5 * before))
    drained = 0.0 if len(above) == 0 else float(time_s[above[-1]]) - opening.at_s
    if len(above) and above[-1] == len(time_s) - 1:
        drained = float("nan")
    age = outcome.visible_s - sent + setting.linger_s * rng.random(len(sent))
    return Opened(
        time_s,
        rate * opening.factor(time_s),
        backlog,
        weighted(age, events, 0.5),
        weighted(age, events, 0.99),
        drained,
        outcome.held,
    )
