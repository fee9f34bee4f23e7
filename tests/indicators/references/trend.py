"""References of the trend."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pandas_ta_classic
import talib
import talipp.indicators
from talipp.ohlcv import OHLCV

from tests.indicators.references.arithmetic import Array, Columns, Formula


def _warm(whole: Array, lookback: int) -> Array:
    """TA-Lib's whole-number outputs, which are 0 before their first value, as ours are: NaN there."""
    values = whole.astype(np.float64)
    values[:lookback] = np.nan
    return values


def _supertrend(c: Columns) -> list[Array]:
    line, direction = talib.SUPERTREND(c["high"], c["low"], c["close"])
    return [line, _warm(direction, 10)]


def _ichimoku(c: Columns) -> list[Array]:
    """Tenkan, kijun and the leading spans, without talipp's shift of the latter to where they are drawn."""
    bars = [OHLCV(*bar) for bar in zip(c["open"], c["high"], c["low"], c["close"], strict=True)]
    values = talipp.indicators.Ichimoku(26, 9, 52, 1, 1, bars)
    names = ("conversion_line", "base_line", "cloud_leading_fast_line", "cloud_leading_slow_line")
    return [np.array([np.nan if v is None else (getattr(v, n) or np.nan) for v in values], dtype=float) for n in names]


def _chop(c: Columns) -> list[Array]:
    return [np.asarray(pandas_ta_classic.chop(*(pd.Series(c[n]) for n in ("high", "low", "close"))), dtype=np.float64)]


FORMULAS: dict[str, Formula] = {
    "SUPERTREND": _supertrend,
    "HT_TRENDMODE": lambda c: [_warm(talib.HT_TRENDMODE(c["close"]), 63)],
    "ICHIMOKU": _ichimoku,
    "CHOP": _chop,
}

_HILBERT = {"HT_TRENDLINE", "HT_TRENDMODE", "HT_DCPERIOD", "HT_DCPHASE", "HT_PHASOR", "HT_SINE"}
RECURSIVE = {
    "ADX",
    "ADXR",
    "DX",
    "PLUS_DI",
    "MINUS_DI",
    "PLUS_DM",
    "MINUS_DM",
    "SAR",
    "SAREXT",
    "SUPERTREND",
} | _HILBERT
