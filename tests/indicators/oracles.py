"""Independent references: TA-Lib, or the formula written directly with NumPy over whole windows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import talib.abstract
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from tapeline.indicators import Indicator

from tests.indicators.market import Columns

Array = NDArray[np.float64]
Formula = Callable[[Columns], list[Array]]


def _windows(x: Array, n: int, reduce: Callable[[Array], Array]) -> Array:
    """A reduction of the last axis of all windows of n rows, NaN before the first."""
    return np.concatenate([np.full(n - 1, np.nan), reduce(sliding_window_view(x, n))])


def _mean(x: Array, n: int) -> Array:
    return _windows(x, n, lambda w: w.mean(axis=-1))


def _before(x: Array, n: int) -> Array:
    return np.concatenate([np.full(n, np.nan), x[:-n]])


def _z(x: Array, n: int, ddof: int) -> Array:
    return (x - _mean(x, n)) / _windows(x, n, lambda w: w.std(axis=-1, ddof=ddof))


def _typical(c: Columns) -> Array:
    return (c["high"] + c["low"] + c["close"]) / 3


def _flow(c: Columns) -> Array:
    return ((c["close"] - c["low"]) - (c["high"] - c["close"])) / (c["high"] - c["low"]) * c["volume"]


def _sum(x: Array, n: int) -> Array:
    return _windows(x, n, lambda w: w.sum(axis=-1))


def _donchian(c: Columns) -> list[Array]:
    top = _windows(c["high"], 20, lambda w: w.max(axis=-1))
    bottom = _windows(c["low"], 20, lambda w: w.min(axis=-1))
    return [top, (top + bottom) / 2, bottom]


def _session_vwap(c: Columns) -> list[Array]:
    out = np.empty(len(c["close"]))
    for session in np.unique(c["session"]):
        rows = c["session"] == session
        out[rows] = np.cumsum((_typical(c) * c["volume"])[rows]) / np.cumsum(c["volume"][rows])
    return [out]


def _squeeze(c: Columns) -> list[Array]:
    keltner = 1.5 * talib.ATR(c["high"], c["low"], c["close"], 20)
    bollinger = 2.0 * _windows(c["close"], 20, lambda w: w.std(axis=-1))
    return [np.where(np.isnan(keltner), np.nan, (bollinger < keltner).astype(float))]


def _trend_strength(c: Columns) -> list[Array]:
    bars = (c["high"], c["low"], c["close"])
    slope = np.sign(talib.LINEARREG_SLOPE(c["close"], 14))
    lean = np.sign(talib.PLUS_DI(*bars, 14) - talib.MINUS_DI(*bars, 14))
    return [talib.ADX(*bars, 14) / 100 * np.where(slope == lean, slope, 0.0)]


def _garman_klass(c: Columns) -> list[Array]:
    daily = 0.5 * np.log(c["high"] / c["low"]) ** 2 - (2 * np.log(2) - 1) * np.log(c["close"] / c["open"]) ** 2
    return [np.sqrt(_mean(daily, 20))]


FORMULAS: dict[str, Formula] = {
    "DONCHIAN": _donchian,
    "PARKINSON": lambda c: [np.sqrt(_mean(np.log(c["high"] / c["low"]) ** 2, 20) / (4 * np.log(2)))],
    "GARMAN_KLASS": _garman_klass,
    "REALIZED_VOL": lambda c: [np.sqrt(_sum(np.log(c["close"] / _before(c["close"], 1)) ** 2, 20))],
    "SQUEEZE": _squeeze,
    "TREND_STRENGTH": _trend_strength,
    "ZSCORE": lambda c: [_z(c["close"], 30, 1)],
    "RETURN": lambda c: [c["close"] / _before(c["close"], 1) - 1],
    "LOG_RETURN": lambda c: [np.log(c["close"] / _before(c["close"], 1))],
    "PRICE_Z": lambda c: [_z(c["close"], 20, 0)],
    "VOLUME_Z": lambda c: [_z(c["volume"], 20, 0)],
    "DIST_SMA": lambda c: [c["close"] / _mean(c["close"], 50) - 1],
    "HIGH_52W": lambda c: [c["close"] / _windows(c["high"], 252, lambda w: w.max(axis=-1))],
    "LOW_52W": lambda c: [c["close"] / _windows(c["low"], 252, lambda w: w.min(axis=-1))],
    "GAP": lambda c: [c["open"] / _before(c["close"], 1) - 1],
    "CMF": lambda c: [_sum(_flow(c), 20) / _sum(c["volume"], 20)],
    "VWAP": lambda c: [_sum(_typical(c) * c["volume"], 20) / _sum(c["volume"], 20)],
    "VWAP_SESSION": _session_vwap,
}
"""Direct formulas at default parameters, for indicators whose oracle is not TA-Lib."""


def expected(indicator: Indicator, columns: Columns) -> list[Array]:
    """What the oracle gives at default parameters; a missing oracle is an error, so none can be forgotten."""
    if indicator.oracle == "formula":
        return FORMULAS[indicator.name](columns)
    function = talib.abstract.Function(indicator.name)
    names = ("open", "high", "low", "close", "volume")
    result = function({name: columns[name] for name in names}, **indicator.complete({}))
    return list(result) if isinstance(result, list | tuple) else [result]
