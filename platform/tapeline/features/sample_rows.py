"""Made-up rows for checks: a plausible market, the same in every run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import UnknownNameError
from tapeline.indicators.schema import ASK_SIZES, ASKS, BID_SIZES, BIDS, TICK_INPUTS

Columns = dict[str, NDArray[np.float64]]

_TICK = 0.01
_START_US = 1_378_000_000_000_000


def sample_bars(count: int, seed: int = 1) -> Columns:
    """Bars of one symbol around a price of 100, sessions of 20 bars; every column is float64 (count,).

    Parameters
    ----------
    count
        How many.
    seed
        Of the random numbers.
    """
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, count)))
    opened = np.r_[100.0, close[:-1]] * np.exp(rng.normal(0.0, 0.003, count))
    reach = np.abs(rng.normal(0.0, 0.006, (2, count)))
    bars = {
        "open": opened,
        "high": np.maximum(opened, close) * np.exp(reach[0]),
        "low": np.minimum(opened, close) * np.exp(-reach[1]),
        "close": close,
    }
    rounded = {name: np.maximum(np.round(values / _TICK), 1.0) * _TICK for name, values in bars.items()}
    volume = np.floor(1e5 * np.exp(rng.normal(0.0, 0.6, count)))
    return rounded | {"volume": volume, "session": np.arange(count, dtype=np.float64) // 20}


def sample_ticks(count: int, seed: int = 1) -> Columns:
    """Ticks of one symbol: a book of five levels around a price of 100, and trades that meet its best quotes.

    A row is a trade (three in ten) or an update of the whole book, never both; every column is float64 (count,), NaN where
    the event does not carry it. Two seconds lie between rows in the mean. A trade pushes the price, with a strength that decays.

    Parameters
    ----------
    count
        How many.
    seed
        Of the random numbers.
    """
    rng = np.random.default_rng(seed)
    columns = {name: np.full(count, np.nan) for name in TICK_INPUTS}
    columns["time"] = _START_US + np.cumsum(rng.integers(1, 4_000_000, count)).astype(np.float64)
    trade = rng.random(count) < 0.3
    trade[0] = False
    side = np.where(rng.random(count) < 0.5 + 0.3 * np.sin(np.arange(count) / 40.0), 1.0, -1.0)
    size = np.floor(np.exp(rng.normal(3.0, 1.0, count))) + 1.0
    middle = np.round(
        100.0 / _TICK + np.cumsum(np.where(trade, side, 0.0) * (size > 20.0) + rng.integers(-1, 2, count))
    )
    half = rng.choice([1.0, 1.0, 2.0], count)
    quoted = np.maximum.accumulate(np.where(trade, 0, np.arange(count)))  # the row of the last update
    bid, ask = (middle - half)[quoted] * _TICK, (middle + half)[quoted] * _TICK
    columns["price"][trade] = np.where(side > 0.0, ask, bid)[trade]
    columns["size"][trade], columns["side"][trade] = size[trade], side[trade]
    for level, names in enumerate(zip(BIDS, ASKS, BID_SIZES, ASK_SIZES, strict=True)):
        queues = np.floor(np.exp(rng.normal(5.0, 0.7, (2, count))))
        for name, values in zip(names, (bid - _TICK * level, ask + _TICK * level, *queues), strict=True):
            columns[name][~trade] = values[~trade]
    return columns


def rows_of(inputs: tuple[str, ...], columns: Columns) -> NDArray[np.float64]:
    """A plan's rows, float64 (N, inputs), from named columns; without splits unless the columns say so.

    Raises
    ------
    UnknownNameError
        If a column is missing.
    """
    count = len(next(iter(columns.values())))
    full = {"split_ratio": np.ones(count)} | columns
    for name in inputs:
        if name not in full:
            raise UnknownNameError("column of rows to check with", name, full)
    return np.ascontiguousarray(np.column_stack([full[name] for name in inputs]))
