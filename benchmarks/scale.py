"""What would 10,000 symbols and a million events a second need, and what breaks first?

Costs are measured here, at the start: the codec, the kernels of the full plan, a worker's batches, what Redis and PostgreSQL
spend on each thing. A simulated network of queues (``benchmarks/scaling/network.py``) is driven by them. Two streams: trades that
become one-minute bars, and events each of which makes a row of the full plan. The picture is written to
``benchmarks/results/scale.html``; docs/scale.md explains the model and reads the results.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from tapeline.features.view import FeatureViewSpec

from benchmarks.harness import RESULTS, Result
from benchmarks.scaling.capacity import BUSY_MAX, Setting, Sizes, carried, limits, sizes, smallest
from benchmarks.scaling.costs import Costs
from benchmarks.scaling.latency import KNEE_FACTOR, Latency, Opened, knee, latency_at, opening_of
from benchmarks.scaling.market import Market, Opening
from benchmarks.scaling.measure import EVERY, MINUTES, measure
from benchmarks.scaling.picture import figure, write_page
from benchmarks.scaling.theory import simulated_wait

GROUP = "stream"
RATE = 1e6
MARKET = Market(10_000, 1.0)
MILDER = Market(10_000, 0.8)
"""For a stream of which one worker cannot take the most traded symbol of the other."""
LOADS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.7, 2.0)
PARTITIONS, WORKERS = (64, 256, 1_024, 4_096), (4, 8, 16, 32, 64, 128)
OPENING = Opening()
MINUTE_S = 60.0


def run() -> Iterator[Result]:
    """Check the simulation against theory, then measure and simulate both streams."""
    yield from _theory()
    pictures = []
    for name, spec in (("trades into one-minute bars", MINUTES), ("every event a row", EVERY)):
        costs = measure(spec)
        if spec is MINUTES:  # a row of each symbol a minute
            costs = replace(costs, rows_per_event=MARKET.symbols / MINUTE_S / RATE)
        yield _told(f"{name}: a worker's time for an event", 1e6 * costs.event_s, "µs", _costs_in_words(costs, spec))
        market = MARKET
        setting = smallest(costs, market, RATE)
        if setting is None:
            top = float(market.shares[0])
            yield _limit(
                f"{name}: most traded symbol of Zipf 1.0 at one worker", 1 / (costs.event_s * top),
                f"it has {100 * top:.1f} % of all events; what follows has Zipf 0.8",
            )  # fmt: skip
            market = MILDER
            setting = smallest(costs, market, RATE)
        if setting is None:
            continue
        latencies = [latency_at(costs, market, setting, RATE, load, duration_s=1.0) for load in LOADS]
        opened = opening_of(costs, market, setting, RATE, OPENING)
        broken = limits(costs, market, setting, RATE)
        yield from _results(name, costs, market, setting, latencies, opened)
        yield _limit(f"{name}: what breaks first: {broken[0][0]}", broken[0][1], broken[0][2])
        yield _limit(f"{name}: then: {broken[1][0]}", broken[1][1], broken[1][2])
        headroom = {
            (p, w): carried(costs, market, Setting(p, w, setting.shards), RATE)
            for p in PARTITIONS
            for w in WORKERS
            if w <= p
        }
        pictures.append(figure(name, latencies, headroom, opened, broken, setting))
    write_page(pictures, RESULTS / "scale.html")


def _theory() -> Iterator[Result]:
    for name, load, service in (("M/D/1", 0.8, (1,)), ("M/G/1", 0.7, (1, 1, 1, 10))):
        found, known = simulated_wait(load, 400_000, sizes=service)
        ratio = known / found
        yield Result(
            f"simulated mean wait of {name}, {100 * load:.0f} % busy", "ms", 1e3 * found, "Pollaczek-Khinchine", 1e3 * known,
            ratio, "within 5 %", abs(ratio - 1) < 0.05, (ratio, ratio), {"blocks": 400_000},
        )  # fmt: skip


def _results(
    name: str, costs: Costs, market: Market, setting: Setting, latencies: list[Latency], opened: Opened
) -> Iterator[Result]:
    market_name = f"{market.symbols:,} symbols, Zipf {market.exponent}, {RATE / 1e6:g} M events/s"
    laid = f"{setting.partitions} partitions, {setting.workers} workers, {setting.shards} Redis servers"
    yield _told(
        f"{name}: workers for {market_name}", setting.workers, "workers", f"{laid}; none busier than {BUSY_MAX}"
    )
    at_one = next(one for one in latencies if one.load == 1.0)
    yield _at_most(
        f"{name}: event → visible at {market_name}, p99", 1e3 * at_one.p99_s, "ms", 20.0,
        f"p50 {1e3 * at_one.p50_s:.2f} ms; producers collect for {1e3 * setting.linger_s:g} ms of it; {laid}",
    )  # fmt: skip
    at = knee(latencies)
    curve = ", ".join(f"{one.load:g}: {1e3 * one.p99_s:.3g}" for one in latencies)
    yield Result(
        f"{name}: knee, the load beyond which p99 is above {KNEE_FACTOR:g}× its floor", "× 1 M/s", at, "", None, None, "≥ 1×",
        at >= 1, (at, at), {"workers": setting.workers}, f"p99 in ms by load: {curve}",
    )  # fmt: skip
    yield _told(
        f"{name}: opening at {OPENING.peak:g}× the rate, halved every {OPENING.half_life_s:g} s: most events waiting",
        float(opened.backlog.max()), "events",
        f"p99 {1e3 * opened.p99_s:,.0f} ms; drained after {opened.drained_s:.1f} s; producers held {opened.held} blocks",
    )  # fmt: skip
    larger = smallest(costs, market, OPENING.peak * RATE)
    yield _told(
        f"{name}: workers that take the opening without a backlog", larger.workers if larger else float("nan"), "workers",
        "a single symbol is too much for one worker then" if larger is None else f"{larger.shards} Redis servers",
    )  # fmt: skip
    yield _told(
        f"{name}: memory of Redis",
        _redis_gb(sizes(costs, market, setting, RATE)),
        "GB",
        _bytes_in_words(costs, market, setting),
    )


def _redis_gb(found: Sizes) -> float:
    return (found.online_bytes + found.state_bytes + 900 * found.stream_bytes_s) / 1e9


def _bytes_in_words(costs: Costs, market: Market, setting: Setting) -> str:
    found = sizes(costs, market, setting, RATE)
    return (
        f"15 minutes of streams {900 * found.stream_bytes_s / 1e9:.1f} GB, or at the bounded backlog {found.backlog_bytes / 1e9:.1f} GB;"
        f" online values {found.online_bytes / 1e6:.0f} MB; states {found.state_bytes / 1e6:.0f} MB; network"
        f" {found.network_bytes_s / 1e6:.0f} MB/s; PostgreSQL in a day of 6.5 h: raw rows {found.raw_bytes_day / 1e12:.2f} TB,"
        f" feature rows {found.feature_bytes_day / 1e12:.3g} TB"
    )


def _costs_in_words(costs: Costs, spec: FeatureViewSpec) -> str:
    return (
        f"{1e6 * costs.batch_s:.0f} µs a batch; encode {1e6 * costs.encode_event_s:.2f}, decode {1e6 * costs.decode_event_s:.2f} µs an"
        f" event; kernels {1e6 * costs.kernel_event_s:.1f} µs a row of {len(spec.columns)}; Redis: append {1e6 * costs.add_entry_s:.1f} µs a"
        f" block, online value {1e6 * costs.write_value_s:.1f} µs; round trip {1e6 * costs.round_trip_s:.0f} µs; PostgreSQL:"
        f" {1 / costs.raw_row_s:,.0f} raw and {1 / costs.feature_row_s:,.0f} feature rows/s a connection; state"
        f" {costs.state_bytes / 1e3:.0f} kB, online value {costs.value_bytes:.0f} B, block {costs.block_bytes:.0f} + {costs.event_bytes:.0f} B"
        " an event"
    )


def _told(question: str, value: float, unit: str, notes: str) -> Result:
    """A finding without a goal."""
    return Result(question, unit, float(value), "", None, None, "none", True, (float(value), float(value)), {}, notes)


def _at_most(question: str, value: float, unit: str, limit: float, notes: str) -> Result:
    met = bool(np.isfinite(value)) and value <= limit
    return Result(question, unit, value, "", None, None, f"≤ {limit:g} {unit}", met, (value, value), {}, notes, notes)


def _limit(question: str, value: float, why: str) -> Result:
    return Result(
        question, "events/s", value, "", None, None, f"≥ {RATE:,.0f}", value >= RATE, (value, value), {}, why, why
    )
