"""References of the composites."""

from __future__ import annotations

import numpy as np
import talib

from tests.indicators.references.arithmetic import Array, Columns, Formula, windows


def _squeeze(c: Columns) -> list[Array]:
    keltner = 1.5 * talib.ATR(c["high"], c["low"], c["close"], 20)
    bollinger = 2.0 * windows(c["close"], 20, lambda w: w.std(axis=-1))
    return [np.where(np.isnan(keltner), np.nan, (bollinger < keltner).astype(float))]


def _trend_strength(c: Columns) -> list[Array]:
    bars = (c["high"], c["low"], c["close"])
    slope = np.sign(talib.LINEARREG_SLOPE(c["close"], 14))
    lean = np.sign(talib.PLUS_DI(*bars, 14) - talib.MINUS_DI(*bars, 14))
    return [talib.ADX(*bars, 14) / 100 * np.where(slope == lean, slope, 0.0)]


FORMULAS: dict[str, Formula] = {
    "SQUEEZE": _squeeze,
    "TREND_STRENGTH": _trend_strength,
}

RECURSIVE = {"SQUEEZE", "TREND_STRENGTH"}
