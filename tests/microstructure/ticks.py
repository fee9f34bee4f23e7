"""Ticks for tests: a simulated book with trades, and helpers that run a plan over them."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from tapeline.features import FeaturePlan
from tapeline.indicators import TICK_INPUTS, all_indicators
from tapeline.indicators.schema import ASK_SIZES, ASKS, BID_SIZES, BIDS

Floats = NDArray[np.float64]
Columns = dict[str, Floats]

INDICATORS = tuple(indicator for indicator in all_indicators() if indicator.schema == "ticks")
START_US = 1_378_000_000_000_000
TICK = 0.25


@cache
def market(count: int = 6_000, seed: int = 5) -> Columns:
    """A book of five levels and trades against it; each row is a trade or a book update, never both.

    Half of the trades have no side, some updates carry one side only, sides are empty at times.
    """
    rng = np.random.default_rng(seed)
    columns = {name: np.full(count, np.nan) for name in TICK_INPUTS}
    columns["time"] = START_US + np.cumsum(rng.choice([0, 1, 40, 900, 250_000, 3_000_000], count)).astype(np.float64)
    middle = 1_600.0 + TICK * np.cumsum(rng.choice([-1, 0, 0, 0, 1], count))
    width = TICK * rng.choice([1, 1, 1, 2, 3], count)
    trade = rng.random(count) < 0.45
    trade[:3] = False
    side = rng.choice([-1.0, 1.0], count)
    inside = rng.random(count) < 0.2  # at the mid: only the tick test can tell
    bid, ask = middle - width / 2, middle + width / 2
    held_bid, held_ask = bid[0], ask[0]
    for i in range(count):
        if trade[i]:
            met = held_ask if side[i] > 0 else held_bid
            columns["price"][i] = (held_bid + held_ask) / 2 if inside[i] else met
            columns["size"][i] = float(rng.integers(1, 40))
            columns["side"][i] = side[i] if rng.random() < 0.5 else np.nan
            continue
        held_bid, held_ask = bid[i], ask[i]
        for level, names in enumerate(zip(BIDS, ASKS, BID_SIZES, ASK_SIZES, strict=True)):
            values = (bid[i] - TICK * level, ask[i] + TICK * level, *rng.integers(1, 300, 2).astype(np.float64))
            for name, value in zip(names, values, strict=True):
                columns[name][i] = value
        if rng.random() < 0.1 and i > 10:
            for name in (*ASKS, *ASK_SIZES):
                columns[name][i] = np.nan
            held_ask = columns["ask"][:i][~np.isnan(columns["ask"][:i])][-1]
            if held_ask <= bid[i]:  # never crossed: the other side moves too
                held_ask = columns["ask"][i] = ask[i]
    return columns


def rows_of(plan: FeaturePlan, columns: Columns) -> Floats:
    """The plan's row columns; no splits unless the columns say so."""
    full = {"split_ratio": np.ones(len(columns["time"]))} | columns
    return np.ascontiguousarray(np.column_stack([full[name] for name in plan.inputs]))


def order_of(columns: Columns) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Event times and sequence numbers."""
    return columns["time"].astype(np.int64), np.arange(len(columns["time"]), dtype=np.int64)


def compute(plan: FeaturePlan, columns: Columns) -> Floats:
    """Batch over one symbol."""
    at, sequence = order_of(columns)
    features, _ = plan.batch(at, sequence, at, rows_of(plan, columns), np.array([0, len(at)]))
    return features


def cut(columns: Columns, keep: slice | NDArray[np.bool_]) -> Columns:
    """Some of the rows."""
    return {name: values[keep] for name, values in columns.items()}
