"""Composites of several indicators."""

from __future__ import annotations

from tapeline.indicators.expression import UNDEFINED, Expression, apply, outcomes
from tapeline.indicators.momentum import simple_return
from tapeline.indicators.specification import indicator
from tapeline.indicators.statistics import z_score
from tapeline.indicators.trend import directional_index, directional_indicators
from tapeline.indicators.volatility import average_true_range, deviation
from tapeline.kernels.arithmetic import absolute, positive, ratio, sign
from tapeline.kernels.directional import signed_volume
from tapeline.kernels.moments import line
from tapeline.kernels.order_statistics import order_statistic
from tapeline.kernels.recursive import wilder_mean
from tapeline.kernels.rolling import highest, lag, lowest, rolling_sum


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


def positive_part(x: Expression) -> Expression:
    """The value where it is positive, else 0."""
    return (x + apply(absolute, x)) / 2.0


@indicator(
    "BREAKOUT_SCORE",
    group="composites",
    outputs={"breakout_score": "ratio"},
    source="Donchian's channel and N of the Turtles (Faith 2007, Way of the Turtle)",
    oracle="formula",
)
def breakout_score(high: Expression, low: Expression, close: Expression, timeperiod: int = 20) -> Expression:
    """How far the close is beyond the channel of the n rows before, in average true ranges; 0 inside it."""
    top = apply(lag, apply(highest, high, timeperiod), 1)
    bottom = apply(lag, apply(lowest, low, timeperiod), 1)
    beyond = positive_part(close - top) - positive_part(bottom - close)
    return apply(ratio, beyond, average_true_range(high, low, close, timeperiod), 0.0)


def efficiency(x: Expression, n: int) -> Expression:
    """Kaufman's efficiency ratio: the net change over n rows by the path taken, 0 to 1; 1 where nothing moved."""
    path = apply(rolling_sum, apply(absolute, x - apply(lag, x, 1)), n)
    return apply(ratio, apply(absolute, x - apply(lag, x, n)), path, 1.0)


@indicator(
    "MEAN_REVERSION_SCORE",
    group="composites",
    outputs={"mean_reversion_score": "ratio"},
    source="z-score of the close, discounted by the efficiency ratio of Kaufman 1995, Smarter Trading",
    oracle="formula",
)
def mean_reversion_score(close: Expression, timeperiod: int = 20) -> Expression:
    """Pull back to the mean: minus the z-score, times 1 − efficiency ratio; undefined where prices are constant."""
    return -1.0 * z_score(close, timeperiod, degrees_lost=0) * (1.0 - efficiency(close, timeperiod))


@indicator(
    "VOLUME_CONFIRMED_MOMENTUM",
    group="composites",
    outputs={"volume_confirmed_momentum": "ratio"},
    source="Lee & Swaminathan 2000, Journal of Finance 55:5; volume signed as in Granville's OBV",
    oracle="formula",
)
def volume_confirmed_momentum(close: Expression, volume: Expression, timeperiod: int = 20) -> Expression:
    """Return over n rows, times the net share of volume that traded in its direction; 0 if less than half did."""
    momentum = simple_return(close, apply(lag, close, timeperiod))
    flow = apply(rolling_sum, apply(signed_volume, close, volume), timeperiod)
    share = apply(ratio, flow, apply(rolling_sum, volume, timeperiod), UNDEFINED)
    return momentum * positive_part(apply(sign, momentum) * share)


@indicator(
    "REGIME",
    group="composites",
    outputs={"regime": "flag"},
    source="Wilder 1978 for the trend (ADX and its limit of 25); volatility against its own median",
    oracle="formula",
    bounds={"limit": (0.0, 100.0)},
    quiet=("limit",),
)
def regime(
    high: Expression,
    low: Expression,
    close: Expression,
    timeperiod: int = 14,
    lookback: int = 100,
    limit: float = 25.0,
) -> Expression:
    """Market regime 0 to 5: 2 × (0 falling, 1 without trend, 2 rising) + 1 if more volatile than its median.

    It trends if ADX is at least ``limit``, where the larger directional indicator points; volatility is NATR.
    """
    adx = apply(wilder_mean, directional_index(high, low, close, timeperiod), timeperiod)
    plus, minus = directional_indicators(high, low, close, timeperiod)
    trends = 1.0 - apply(positive, limit - adx)
    relative = apply(ratio, average_true_range(high, low, close, timeperiod), close, UNDEFINED)
    median = apply(order_statistic, relative, lookback, (lookback + 1) // 2)
    return 2.0 * (1.0 + trends * apply(sign, plus - minus)) + apply(positive, relative - median)
