"""References of the composites."""

from __future__ import annotations

import numpy as np
import talib

from tests.indicators.references.arithmetic import Array, Columns, Formula, before, total, windows, z


def _squeeze(c: Columns) -> list[Array]:
    keltner = 1.5 * talib.ATR(c["high"], c["low"], c["close"], 20)
    bollinger = 2.0 * windows(c["close"], 20, lambda w: w.std(axis=-1))
    return [np.where(np.isnan(keltner), np.nan, (bollinger < keltner).astype(float))]


def _trend_strength(c: Columns) -> list[Array]:
    bars = (c["high"], c["low"], c["close"])
    slope = np.sign(talib.LINEARREG_SLOPE(c["close"], 14))
    lean = np.sign(talib.PLUS_DI(*bars, 14) - talib.MINUS_DI(*bars, 14))
    return [talib.ADX(*bars, 14) / 100 * np.where(slope == lean, slope, 0.0)]


def _breakout_score(c: Columns) -> list[Array]:
    top = before(windows(c["high"], 20, lambda w: w.max(axis=-1)), 1)
    bottom = before(windows(c["low"], 20, lambda w: w.min(axis=-1)), 1)
    beyond = np.where(c["close"] > top, c["close"] - top, np.where(c["close"] < bottom, c["close"] - bottom, 0.0))
    return [np.where(np.isnan(top), np.nan, beyond / talib.ATR(c["high"], c["low"], c["close"], 20))]


def _mean_reversion_score(c: Columns) -> list[Array]:
    path = total(np.abs(c["close"] - before(c["close"], 1)), 20)
    efficiency = np.abs(c["close"] - before(c["close"], 20)) / path
    return [-z(c["close"], 20, 0) * (1 - efficiency)]


def _volume_confirmed_momentum(c: Columns) -> list[Array]:
    """Row by row from the rows themselves."""
    close, volume = c["close"], c["volume"]
    out = np.full(len(close), np.nan)
    for i in range(20, len(close)):
        rows = range(i - 19, i + 1)
        momentum = close[i] / close[i - 20] - 1
        along = sum(volume[k] for k in rows if (close[k] - close[k - 1]) * momentum > 0)
        against = sum(volume[k] for k in rows if (close[k] - close[k - 1]) * momentum < 0)
        out[i] = momentum * max(0.0, along - against) / sum(volume[k] for k in rows)
    return [out]


def _regime(c: Columns) -> list[Array]:
    bars = (c["high"], c["low"], c["close"])
    adx, lean = talib.ADX(*bars, 14), np.sign(talib.PLUS_DI(*bars, 14) - talib.MINUS_DI(*bars, 14))
    volatility = talib.NATR(*bars, 14)
    volatile = volatility > windows(volatility, 100, lambda w: np.sort(w, axis=-1)[:, 49])
    code = 2 * (1 + np.where(adx >= 25, lean, 0)) + volatile
    return [np.where(np.arange(len(code)) < 14 + 99, np.nan, code)]


FORMULAS: dict[str, Formula] = {
    "SQUEEZE": _squeeze,
    "TREND_STRENGTH": _trend_strength,
    "BREAKOUT_SCORE": _breakout_score,
    "MEAN_REVERSION_SCORE": _mean_reversion_score,
    "VOLUME_CONFIRMED_MOMENTUM": _volume_confirmed_momentum,
    "REGIME": _regime,
}

RECURSIVE = {"SQUEEZE", "TREND_STRENGTH", "BREAKOUT_SCORE", "REGIME"}
DISCRETE = {"REGIME"}  # asks whether a computed volatility exceeds a median of such
UNDEFINED_ON_CONSTANT_BARS = {"MEAN_REVERSION_SCORE"}
UNDEFINED_WITHOUT_VOLUME = {"VOLUME_CONFIRMED_MOMENTUM"}
