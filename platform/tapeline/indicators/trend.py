"""Trend: Wilder's directional system and parabolic stop."""

from __future__ import annotations

from tapeline.indicators.expression import Expression, apply, outcomes
from tapeline.indicators.specification import indicator
from tapeline.kernels.arithmetic import absolute, ratio
from tapeline.kernels.directional import directional_movement, parabolic_stop, true_range
from tapeline.kernels.recursive import last_quotient, wilder_mean, wilder_sum

_WILDER = "Wilder 1978, New Concepts; pinned to TA-Lib's seed"


def directional_indicators(
    high: Expression, low: Expression, close: Expression, n: int
) -> tuple[Expression, Expression]:
    """Wilder's +DI and −DI in percent; 0 where the true range is 0."""
    reach = apply(wilder_sum, apply(true_range, high, low, close), n)
    up, down = (apply(wilder_sum, move, n) for move in outcomes(directional_movement, high, low))
    return 100.0 * apply(ratio, up, reach, 0.0), 100.0 * apply(ratio, down, reach, 0.0)


def directional_index(high: Expression, low: Expression, close: Expression, n: int) -> Expression:
    """Wilder's DX in percent; the last value where both indicators are 0."""
    plus, minus = directional_indicators(high, low, close, n)
    return 100.0 * apply(last_quotient, apply(absolute, minus - plus), minus + plus)


@indicator("ADX", group="trend", outputs={"adx": "percent"}, source=_WILDER)
def adx(high: Expression, low: Expression, close: Expression, timeperiod: int = 14) -> Expression:
    """Average directional index: how strong a trend is, whatever its direction."""
    return apply(wilder_mean, directional_index(high, low, close, timeperiod), timeperiod)


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


@indicator(
    "SAR",
    group="trend",
    outputs={"sar": "price"},
    source="Wilder 1978, New Concepts; TA-Lib TA_SAR",
    bounds={"acceleration": (0.0, 1.0), "maximum": (0.0, 1.0)},
)
def sar(high: Expression, low: Expression, acceleration: float = 0.02, maximum: float = 0.2) -> Expression:
    """Parabolic stop and reverse."""
    return apply(parabolic_stop, high, low, acceleration, maximum)
