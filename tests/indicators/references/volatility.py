"""References of the volatility."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pandas_ta_classic as pandas_ta

from tests.indicators.references.arithmetic import Array, Columns, Formula, before, mean, total, windows

TALIB_NAMES = {"KELTNER": "KC"}


def _garman_klass(c: Columns) -> list[Array]:
    daily = 0.5 * np.log(c["high"] / c["low"]) ** 2 - (2 * np.log(2) - 1) * np.log(c["close"] / c["open"]) ** 2
    return [np.sqrt(mean(daily, 20))]


def _rogers_satchell(c: Columns) -> Array:
    above = np.log(c["high"] / c["open"]) * np.log(c["high"] / c["close"])
    below = np.log(c["low"] / c["open"]) * np.log(c["low"] / c["close"])
    return mean(above + below, 20)


def _yang_zhang(c: Columns) -> list[Array]:
    k = 0.34 / (1.34 + 21 / 19)
    night = np.log(c["open"]) - np.log(before(c["close"], 1))
    day = np.log(c["close"]) - np.log(c["open"])
    night, day = (windows(x, 20, lambda w: w.var(axis=-1, ddof=1)) for x in (night, day))
    return [np.sqrt(night + k * day + (1 - k) * _rogers_satchell(c))]


FORMULAS: dict[str, Formula] = {
    "PARKINSON": lambda c: [np.sqrt(mean(np.log(c["high"] / c["low"]) ** 2, 20) / (4 * np.log(2)))],
    "GARMAN_KLASS": _garman_klass,
    "ROGERS_SATCHELL": lambda c: [np.sqrt(_rogers_satchell(c))],
    "YANG_ZHANG": _yang_zhang,
    "REALIZED_VOL": lambda c: [np.sqrt(total(np.log(c["close"] / before(c["close"], 1)) ** 2, 20))],
    "ULCER": lambda c: [pandas_ta.ui(pd.Series(c["close"]), length=14).to_numpy()],
}

RECURSIVE = {"ATR", "NATR", "KELTNER", "CVI", "MASSI"}
