"""References of the trend."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pandas_ta_classic
import talib

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
    """The leading spans are moved back from the rows where they are drawn to those where they became known."""
    frame = pandas_ta_classic.ichimoku(
        pd.Series(c["high"]), pd.Series(c["low"]), pd.Series(c["close"]),
        include_chikou=False, as_dataframe=True, append_span=True,
    )  # fmt: skip
    tenkan, kijun, span_a, span_b = (frame[name].to_numpy() for name in ("ITS_9", "IKS_26", "ISA_9", "ISB_26"))
    count = len(c["close"])
    return [tenkan[:count], kijun[:count], span_a[26:], span_b[26:]]


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
