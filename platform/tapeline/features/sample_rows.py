"""Made-up rows for checks: a plausible market, the same in every run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import UnknownNameError

Columns = dict[str, NDArray[np.float64]]

_TICK = 0.01


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
