"""References of the averages."""

from __future__ import annotations

import numpy as np
import talipp.indicators

from tests.indicators.references.arithmetic import Array, Columns, Formula


def _values(indicator: talipp.indicators.Indicator.Indicator) -> Array:
    return np.array([np.nan if value is None else value for value in indicator], dtype=np.float64)


def _vidya(c: Columns) -> list[Array]:
    """Chande's recursion from the first close; the momentum oscillator over at most nine changes."""
    close, changes = c["close"], np.diff(c["close"])
    out = np.full(len(close), np.nan)
    value = close[0]
    for i in range(1, len(close)):
        window = changes[max(0, i - 9) : i]
        gains, losses = window[window > 0].sum(), -window[window < 0].sum()
        size = abs(gains - losses) / (gains + losses) if gains + losses > 0 else 0.0
        value += 2 / 13 * size * (close[i] - value)
        if i >= 9:
            out[i] = value
    return [out]


def frama(high: Array, low: Array, price: Array, n: int) -> Array:
    """Ehlers' listing, window by window."""
    out = np.full(len(price), np.nan)
    half, dimension = n // 2, 0.0
    for i in range(n - 1, len(price)):
        highs, lows = high[i - n + 1 : i + 1], low[i - n + 1 : i + 1]
        older = (highs[:half].max() - lows[:half].min()) / half
        newer = (highs[half:].max() - lows[half:].min()) / half
        whole = (highs.max() - lows.min()) / n
        if older > 0 and newer > 0 and whole > 0:
            dimension = (np.log(older + newer) - np.log(whole)) / np.log(2)
        alpha = np.clip(np.exp(-4.6 * (dimension - 1)), 0.01, 1.0)
        out[i] = price[i] if i == n - 1 else alpha * price[i] + (1 - alpha) * out[i - 1]
    return out


FORMULAS: dict[str, Formula] = {
    "ALMA": lambda c: [_values(talipp.indicators.ALMA(9, 0.85, 6.0, c["close"].tolist()))],
    "VIDYA": _vidya,
    "MCGINLEY": lambda c: [_values(talipp.indicators.McGinleyDynamic(10, c["close"].tolist()))],
    "FRAMA": lambda c: [frama(c["high"], c["low"], (c["high"] + c["low"]) / 2, 16)],
}

RECURSIVE = {"EMA", "DEMA", "TEMA", "KAMA", "RMA", "ZLEMA", "T3", "VIDYA", "MCGINLEY", "FRAMA", "MAMA"}
UNDEFINED_WITHOUT_VOLUME = {"VWMA"}
