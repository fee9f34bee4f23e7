"""Made histories for property tests: ordinary rows with everything that markets and feeds do to them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.indicators import all_indicators
from tapeline.indicators.schema import COLUMNS

from tests.indicators.market import everything

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
ROWS_MAX = 420  # beyond the longest default warm-up of a year of days
SCHEMAS = tuple(sorted({indicator.schema for indicator in all_indicators()}))


@dataclass(frozen=True)
class History:
    """Rows of one entity with their places in time; ``rows`` has the plan's columns."""

    event_us: Integers
    sequence: Integers
    rows: Floats

    def part(self, first: int, end: int) -> History:
        """The rows from ``first`` to before ``end``."""
        return History(self.event_us[first:end], self.sequence[first:end], np.ascontiguousarray(self.rows[first:end]))

    def __len__(self) -> int:
        return len(self.event_us)


@cache
def plan_of(schema: str) -> FeaturePlan:
    """Every registered feature of a kind of rows, with its defaults: one compiled plan for all tests."""
    if schema == "bars":
        return everything()
    return FeaturePlan.of([FeatureRequest(i.name) for i in all_indicators() if i.schema == schema])


def _walk(rng: np.random.Generator, count: int, scale: float) -> Floats:
    steps = rng.normal(0.0, 0.01, count)
    quiet = rng.integers(0, count + 1, 2)
    steps[min(quiet) : max(quiet) // 2] = 0.0
    walk: Floats = scale * np.exp(np.cumsum(steps))
    return walk


def _bars(rng: np.random.Generator, count: int, scale: float) -> dict[str, Floats]:
    close = _walk(rng, count, scale)
    opened = np.concatenate([close[:1], close[:-1]])
    spread = np.where(rng.random(count) < 0.1, 0.0, 0.004)
    return {
        "open": opened,
        "high": np.maximum(opened, close) * (1.0 + spread * rng.random(count)),
        "low": np.minimum(opened, close) * (1.0 - spread * rng.random(count)),
        "close": close,
        "volume": np.where(rng.random(count) < 0.1, 0.0, rng.integers(1, 10**6, count)).astype(np.float64),
        "session": np.cumsum(rng.random(count) < 0.05).astype(np.float64),
    }


def _ticks(rng: np.random.Generator, count: int, scale: float, event_us: Integers) -> dict[str, Floats]:
    middle = _walk(rng, count, scale)
    tick = scale * 1e-4
    trade = rng.random(count) < 0.5
    side = rng.choice([-1.0, 1.0, np.nan], count)
    columns: dict[str, Floats] = {"time": event_us.astype(np.float64)}
    columns["price"] = np.where(trade, middle + tick * np.nan_to_num(side), np.nan)
    columns["size"] = np.where(trade, rng.integers(1, 100, count), np.nan)
    columns["side"] = np.where(trade, side, np.nan)
    for name in COLUMNS:
        if COLUMNS[name].schema == "ticks" and name not in columns:
            level = int(name.rpartition("_")[2]) if name[-1].isdigit() else 1
            if "size" in name:
                values = rng.integers(0, 300, count).astype(np.float64)
            else:
                values = middle + (tick * level if name.startswith("ask") else -tick * level)
            columns[name] = np.where(trade, np.nan, values)
    return columns


def make(schema: str, count: int, seed: int, scale: float) -> History:
    """A history with bad values, missing rows, absurd prices and splits in it."""
    rng = np.random.default_rng(seed)
    gaps = rng.choice([0, 1, 60, 86_400, 10**7], count, p=[0.1, 0.2, 0.3, 0.3, 0.1])
    event_us = np.cumsum(gaps) * 1_000_000 - 5_000_000_000
    sequence = np.arange(count, dtype=np.int64)
    columns = _bars(rng, count, scale) if schema == "bars" else _ticks(rng, count, scale, event_us)
    for name in columns:
        bad = rng.random(count) < 0.03 * rng.random()
        if name != "time":
            columns[name][bad] = rng.choice([np.nan, np.inf, -1.0, 0.0, -np.inf, 1e-300, scale * 1e12], int(bad.sum()))
    columns["split_ratio"] = np.where(rng.random(count) < 0.005, rng.choice([2.0, 0.1, 7.0], count), 1.0)
    inputs = plan_of(schema).inputs
    rows = (
        np.ascontiguousarray(np.column_stack([columns[name] for name in inputs]))
        if count
        else np.empty((0, len(inputs)))
    )
    return History(event_us, sequence, rows)


def histories(schema: str, rows_min: int = 1) -> st.SearchStrategy[History]:
    """Histories of a kind of rows, from prices of a millionth to a million."""
    return st.builds(
        make,
        st.just(schema),
        st.integers(rows_min, ROWS_MAX),
        st.integers(0, 2**32 - 1),
        st.sampled_from([1e-6, 0.37, 100.0, 1e6]),
    )


def batch(
    plan: FeaturePlan, history: History, state: Floats | None = None, threads: int | None = 1
) -> tuple[Floats, Floats]:
    """Features and final state of one entity."""
    at, offsets = history.event_us, np.array([0, len(history)], np.int64)
    states = None if state is None else state[None]
    features, ends = plan.batch(at, history.sequence, at, history.rows, offsets, states, threads=threads)
    return features, ends[0]
