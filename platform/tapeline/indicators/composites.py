"""Composites of several indicators."""

from __future__ import annotations

from tapeline.indicators.expression import Expression, apply, outcomes
from tapeline.indicators.specification import indicator
from tapeline.indicators.trend import directional_index, directional_indicators
from tapeline.indicators.volatility import average_true_range, deviation
from tapeline.kernels.arithmetic import positive, sign
from tapeline.kernels.moments import line
from tapeline.kernels.recursive import wilder_mean


@indicator(
    "SQUEEZE",
    group="composites",
    outputs={"squeeze": "flag"},
    source="Carter 2005, Mastering the Trade: bands about one middle line",
    oracle="formula",
    bounds={"nbdev": (0.0, 1_000.0), "multiplier": (0.0, 1_000.0)},
)
def squeeze(
    high: Expression,
    low: Expression,
    close: Expression,
    timeperiod: int = 20,
    nbdev: float = 2.0,
    multiplier: float = 1.5,
) -> Expression:
    """1 while the Bollinger bands lie inside the Keltner channel of the same length, else 0."""
    keltner = multiplier * average_true_range(high, low, close, timeperiod)
    bollinger = nbdev * deviation(close, timeperiod)
    return apply(positive, keltner - bollinger)


@indicator(
    "TREND_STRENGTH",
    group="composites",
    outputs={"trend_strength": "ratio"},
    source="ADX after Wilder 1978, signed where regression slope and directional indicators agree",
    oracle="formula",
)
def trend_strength(high: Expression, low: Expression, close: Expression, timeperiod: int = 14) -> Expression:
    """ADX as a fraction, with the sign of the regression slope if +DI − −DI has the same sign, else 0."""
    strength = apply(wilder_mean, directional_index(high, low, close, timeperiod), timeperiod) / 100.0
    plus, minus = directional_indicators(high, low, close, timeperiod)
    slope = apply(sign, outcomes(line, close, timeperiod)[1])
    lean = apply(sign, plus - minus)
    return strength * ((slope + lean) / 2.0) * (slope * slope) * (lean * lean)
