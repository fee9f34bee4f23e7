"""Trend: Wilder's directional system and parabolic stop, trailing bands, and how straight a price goes."""

from __future__ import annotations

import math

from tapeline.indicators.averages import simple
from tapeline.indicators.expression import Expression, apply, outcomes
from tapeline.indicators.specification import PERIOD_MAX, indicator
from tapeline.kernels.arithmetic import absolute, logarithm, ratio
from tapeline.kernels.directional import directional_movement, true_range
from tapeline.kernels.recursive import last_quotient, wilder_mean, wilder_sum
from tapeline.kernels.rolling import highest, lag, lowest, rolling_sum
from tapeline.kernels.trend import parabolic_stop, super_trend, vortex_movement, wilder_movement

_WILDER = "Wilder 1978, New Concepts; pinned to TA-Lib's seed"
_FRACTION = (0.0, 1.0)


def directional_movements(high: Expression, low: Expression, n: int) -> tuple[Expression, Expression]:
    """Wilder's smoothed +DM and −DM."""
    up, down = outcomes(directional_movement, high, low)
    return apply(wilder_movement, up, n), apply(wilder_movement, down, n)


def directional_indicators(
    high: Expression, low: Expression, close: Expression, n: int
) -> tuple[Expression, Expression]:
    """Wilder's +DI and −DI in percent; 0 where the true range is 0."""
    reach = apply(wilder_sum, apply(true_range, high, low, close), n)
    up, down = directional_movements(high, low, n)
    return 100.0 * apply(ratio, up, reach, 0.0), 100.0 * apply(ratio, down, reach, 0.0)


def directional_index(high: Expression, low: Expression, close: Expression, n: int) -> Expression:
    """Wilder's DX in percent; the last value where both indicators are 0."""
    plus, minus = directional_indicators(high, low, close, n)
    return 100.0 * apply(last_quotient, apply(absolute, minus - plus), minus + plus)


def average_directional_index(high: Expression, low: Expression, close: Expression, n: int) -> Expression:
    """Wilder's ADX in percent."""
    return apply(wilder_mean, directional_index(high, low, close, n), n)


@indicator("ADX", group="trend", outputs={"adx": "percent"}, source=_WILDER)
def adx(high: Expression, low: Expression, close: Expression, timeperiod: int = 14) -> Expression:
    """Average directional index: how strong a trend is, whatever its direction."""
    return average_directional_index(high, low, close, timeperiod)


@indicator("ADXR", group="trend", outputs={"adxr": "percent"}, source=_WILDER)
def adxr(high: Expression, low: Expression, close: Expression, timeperiod: int = 14) -> Expression:
    """Average directional index rating: the mean of the ADX and that of n − 1 rows ago."""
    value = average_directional_index(high, low, close, timeperiod)
    return (value + apply(lag, value, timeperiod - 1)) / 2.0


@indicator("DX", group="trend", outputs={"dx": "percent"}, source=_WILDER)
def dx(high: Expression, low: Expression, close: Expression, timeperiod: int = 14) -> Expression:
    """Directional index, before averaging."""
    return directional_index(high, low, close, timeperiod)


@indicator("PLUS_DI", group="trend", outputs={"plus_di": "percent"}, source=_WILDER)
def plus_di(high: Expression, low: Expression, close: Expression, timeperiod: int = 14) -> Expression:
    """Positive directional indicator."""
    return directional_indicators(high, low, close, timeperiod)[0]


@indicator("MINUS_DI", group="trend", outputs={"minus_di": "percent"}, source=_WILDER)
def minus_di(high: Expression, low: Expression, close: Expression, timeperiod: int = 14) -> Expression:
    """Negative directional indicator."""
    return directional_indicators(high, low, close, timeperiod)[1]


@indicator("PLUS_DM", group="trend", outputs={"plus_dm": "price"}, source=_WILDER)
def plus_dm(high: Expression, low: Expression, timeperiod: int = 14) -> Expression:
    """Positive directional movement, smoothed: a decaying sum of about n rows."""
    return directional_movements(high, low, timeperiod)[0]


@indicator("MINUS_DM", group="trend", outputs={"minus_dm": "price"}, source=_WILDER)
def minus_dm(high: Expression, low: Expression, timeperiod: int = 14) -> Expression:
    """Negative directional movement, smoothed: a decaying sum of about n rows."""
    return directional_movements(high, low, timeperiod)[1]


@indicator(
    "SAR",
    group="trend",
    outputs={"sar": "price"},
    source="Wilder 1978, New Concepts; TA-Lib TA_SAR",
    bounds={"acceleration": _FRACTION, "maximum": _FRACTION},
)
def sar(high: Expression, low: Expression, acceleration: float = 0.02, maximum: float = 0.2) -> Expression:
    """Parabolic stop and reverse."""
    side = (acceleration, acceleration, maximum)
    return apply(absolute, apply(parabolic_stop, high, low, 0.0, 0.0, *side, *side))


@indicator(
    "SAREXT",
    group="trend",
    outputs={"sarext": "price"},
    source="Wilder 1978, New Concepts; TA-Lib TA_SAREXT",
    bounds={
        "startvalue": (-1e9, 1e9),
        "offsetonreverse": _FRACTION,
        "accelerationinitlong": _FRACTION,
        "accelerationlong": _FRACTION,
        "accelerationmaxlong": _FRACTION,
        "accelerationinitshort": _FRACTION,
        "accelerationshort": _FRACTION,
        "accelerationmaxshort": _FRACTION,
    },
    quiet=(
        "startvalue",
        "offsetonreverse",
        "accelerationinitlong",
        "accelerationlong",
        "accelerationmaxlong",
        "accelerationinitshort",
        "accelerationshort",
        "accelerationmaxshort",
    ),
)
def sarext(
    high: Expression,
    low: Expression,
    startvalue: float = 0.0,
    offsetonreverse: float = 0.0,
    accelerationinitlong: float = 0.02,
    accelerationlong: float = 0.02,
    accelerationmaxlong: float = 0.2,
    accelerationinitshort: float = 0.02,
    accelerationshort: float = 0.02,
    accelerationmaxshort: float = 0.2,
) -> Expression:
    """Parabolic stop and reverse, negative while short, with a start and accelerations of its own on either side."""
    return apply(
        parabolic_stop,
        high,
        low,
        startvalue,
        offsetonreverse,
        accelerationinitlong,
        accelerationlong,
        accelerationmaxlong,
        accelerationinitshort,
        accelerationshort,
        accelerationmaxshort,
    )


@indicator(
    "VORTEX",
    group="trend",
    outputs={"vortex_plus": "ratio", "vortex_minus": "ratio"},
    source="Botes & Siepman 2010, Stocks & Commodities 28:1; TA-Lib TA_VORTEX",
)
def vortex(high: Expression, low: Expression, close: Expression, timeperiod: int = 14) -> tuple[Expression, ...]:
    """Vortex indicator: movement up and down over true range; 0 without range."""
    reach = apply(rolling_sum, apply(true_range, high, low, close), timeperiod)
    up, down = (apply(rolling_sum, move, timeperiod) for move in outcomes(vortex_movement, high, low))
    return apply(ratio, up, reach, 0.0), apply(ratio, down, reach, 0.0)


@indicator(
    "SUPERTREND",
    group="trend",
    outputs={"supertrend": "price", "supertrend_direction": "flag"},
    source="Seban 2008; TA-Lib TA_SUPERTREND: the first trend rises",
    bounds={"multiplier": (0.0, 1_000.0)},
)
def supertrend(
    high: Expression, low: Expression, close: Expression, timeperiod: int = 10, multiplier: float = 3.0
) -> tuple[Expression, ...]:
    """Band of so many average true ranges that trails the price, and whether it rises (1) or falls (−1)."""
    reach = multiplier * apply(wilder_mean, apply(true_range, high, low, close), timeperiod)
    return outcomes(super_trend, (high + low) / 2.0, reach, close)


@indicator(
    "ICHIMOKU",
    group="trend",
    outputs={"tenkan": "price", "kijun": "price", "senkou_a": "price", "senkou_b": "price"},
    source="Hosoda 1969; leading spans as known now, drawn 26 rows ahead; no lagging span, which looks ahead",
    oracle="pandas-ta-classic",
)
def ichimoku(
    high: Expression, low: Expression, tenkanperiod: int = 9, kijunperiod: int = 26, senkouperiod: int = 52
) -> tuple[Expression, ...]:
    """Ichimoku's conversion line, base line and two leading spans, all as known at the row."""
    tenkan, kijun, span_b = (
        (apply(highest, high, n) + apply(lowest, low, n)) / 2.0 for n in (tenkanperiod, kijunperiod, senkouperiod)
    )
    return tenkan, kijun, (tenkan + kijun) / 2.0, span_b


@indicator(
    "CHOP",
    group="trend",
    outputs={"chop": "percent"},
    source="Dreiss 1993; 100·log(Σ true range / range of n rows) / log n",
    oracle="pandas-ta-classic",
)
def chop(high: Expression, low: Expression, close: Expression, timeperiod: int = 14) -> Expression:
    """Choppiness index: near 100 where the price goes nowhere, lower in a trend; 100 without range."""
    path = apply(rolling_sum, apply(true_range, high, low, close), timeperiod)
    reach = apply(highest, high, timeperiod) - apply(lowest, low, timeperiod)
    return (100.0 / math.log(timeperiod)) * apply(logarithm, apply(ratio, path, reach, float(timeperiod)))


@indicator("VHF", group="trend", outputs={"vhf": "ratio"}, source="White 1991, Futures 20:10; TA-Lib TA_VHF")
def vhf(close: Expression, timeperiod: int = 28) -> Expression:
    """Vertical horizontal filter: range of n closes over the path of n changes; 0 without change."""
    path = apply(rolling_sum, apply(absolute, close - apply(lag, close, 1)), timeperiod)
    return apply(ratio, apply(highest, close, timeperiod) - apply(lowest, close, timeperiod), path, 0.0)


@indicator(
    "QSTICK",
    group="trend",
    outputs={"qstick": "price"},
    source="Chande & Kroll 1994, The New Technical Trader; TA-Lib TA_QSTICK",
    bounds={"timeperiod": (1, PERIOD_MAX)},
)
def qstick(open: Expression, close: Expression, timeperiod: int = 10) -> Expression:  # noqa: A002
    """Mean of the bars' bodies, close less open."""
    return simple(close - open, timeperiod)
