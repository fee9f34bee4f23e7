"""Arithmetic that the direct formulas share, over whole series and windows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float64]
Columns = dict[str, Array]
Formula = Callable[[Columns], list[Array]]


def windows(x: Array, n: int, reduce: Callable[[Array], Array]) -> Array:
    """A reduction of the last axis of all windows of n rows, NaN before the first."""
    return np.concatenate([np.full(n - 1, np.nan), reduce(sliding_window_view(x, n))])


def mean(x: Array, n: int) -> Array:
    """Mean of the last n values."""
    return windows(x, n, lambda w: w.mean(axis=-1))


def total(x: Array, n: int) -> Array:
    """Sum of the last n values."""
    return windows(x, n, lambda w: w.sum(axis=-1))


def before(x: Array, n: int) -> Array:
    """The value n rows earlier."""
    return np.concatenate([np.full(n, np.nan), x[:-n]])


def z(x: Array, n: int, ddof: int) -> Array:
    """Distance from the mean of n values in their standard deviations."""
    return (x - mean(x, n)) / windows(x, n, lambda w: w.std(axis=-1, ddof=ddof))


def typical(c: Columns) -> Array:
    """Mean of high, low and close."""
    return (c["high"] + c["low"] + c["close"]) / 3
