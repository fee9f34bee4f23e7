"""Stochastic oscillators: where a value lies in its recent range."""

from __future__ import annotations

from tapeline.core.errors import ParameterError
from tapeline.indicators.averages import MATYPE_BOUNDS, average, exponential, smoothed_by_wilder
from tapeline.indicators.expression import Expression, apply, guard
from tapeline.indicators.oscillators import relative_strength
from tapeline.indicators.specification import PERIOD_MAX, expect_rising, indicator
from tapeline.kernels.arithmetic import ratio
from tapeline.kernels.oscillators import (
    exponential_filter,
    fisher_transform,
    held_quotient_above,
    quotient_above,
)
from tapeline.kernels.rolling import highest, lag, lowest

_FROM_ONE = (1, PERIOD_MAX)
_RMA = 13  # TA-Lib's number of Wilder's mean
_ROUNDING = 1e-12  # of a value: a range below this is what rounding left of none


def raw_stochastic(high: Expression, low: Expression, close: Expression, n: int) -> Expression:
    """Position of the close in the range of the last n rows, in percent; 0 in an empty range."""
    top, bottom = apply(highest, high, n), apply(lowest, low, n)
    return 100.0 * apply(ratio, close - bottom, top - bottom, 0.0)


@indicator(
    "STOCH",
    group="oscillators",
    outputs={"stoch_k": "percent", "stoch_d": "percent"},
    source="Lane 1984; TA-Lib TA_STOCH",
    bounds={
        "fastk_period": _FROM_ONE,
        "slowk_period": _FROM_ONE,
        "slowd_period": _FROM_ONE,
        "slowk_matype": MATYPE_BOUNDS,
        "slowd_matype": MATYPE_BOUNDS,
    },
    quiet=("slowk_matype", "slowd_matype"),
)
def stoch(
    high: Expression,
    low: Expression,
    close: Expression,
    fastk_period: int = 5,
    slowk_period: int = 3,
    slowk_matype: int = 0,
    slowd_period: int = 3,
    slowd_matype: int = 0,
) -> tuple[Expression, ...]:
    """Slow stochastic: smoothed %K and its average %D, both from the row where %D exists."""
    slow_k = average(raw_stochastic(high, low, close, fastk_period), slowk_period, slowk_matype)
    return guard(slow_k, average(slow_k, slowd_period, slowd_matype))


@indicator(
    "STOCHF",
    group="oscillators",
    outputs={"stochf_k": "percent", "stochf_d": "percent"},
    source="Lane 1984; TA-Lib TA_STOCHF",
    bounds={"fastk_period": _FROM_ONE, "fastd_period": _FROM_ONE, "fastd_matype": MATYPE_BOUNDS},
    quiet=("fastd_matype",),
)
def stochf(
    high: Expression,
    low: Expression,
    close: Expression,
    fastk_period: int = 5,
    fastd_period: int = 3,
    fastd_matype: int = 0,
) -> tuple[Expression, ...]:
    """Fast stochastic: %K and its average %D, both from the row where %D exists."""
    fast_k = raw_stochastic(high, low, close, fastk_period)
    return guard(fast_k, average(fast_k, fastd_period, fastd_matype))


@indicator(
    "STOCHRSI",
    group="oscillators",
    outputs={"stochrsi_k": "percent", "stochrsi_d": "percent"},
    source="Chande & Kroll 1994; TA-Lib TA_STOCHRSI",
    bounds={"fastk_period": _FROM_ONE, "fastd_period": _FROM_ONE, "fastd_matype": MATYPE_BOUNDS},
    quiet=("fastd_matype",),
)
def stochrsi(
    close: Expression, timeperiod: int = 14, fastk_period: int = 5, fastd_period: int = 3, fastd_matype: int = 0
) -> tuple[Expression, ...]:
    """Fast stochastic of the RSI; 0 where the RSI did not move by more than its rounding."""
    strength = relative_strength(close, timeperiod)
    top, bottom = apply(highest, strength, fastk_period), apply(lowest, strength, fastk_period)
    fast_k = 100.0 * apply(quotient_above, strength - bottom, top - bottom, 100.0 * _ROUNDING, 0.0)
    return guard(fast_k, average(fast_k, fastd_period, fastd_matype))


def _wilder_or_average(x: Expression, n: int, matype: int) -> Expression:
    if matype == _RMA:
        return smoothed_by_wilder(x, n)
    lowest_type, highest_type = MATYPE_BOUNDS
    if not lowest_type <= matype <= highest_type:
        raise ParameterError(
            f"moving-average type {matype} is not supported",
            where="indicator KDJ",
            remedy=f"Give a value from {lowest_type} to {highest_type}, or {_RMA} for Wilder's mean",
        )
    return average(x, n, matype)


@indicator(
    "KDJ",
    group="oscillators",
    outputs={"kdj_k": "percent", "kdj_d": "percent", "kdj_j": "percent"},
    source="TA-Lib TA_KDJ: Lane's stochastic with Wilder's means, and J = 3·K − 2·D",
    bounds={
        "fastk_period": _FROM_ONE,
        "slowk_period": _FROM_ONE,
        "slowd_period": _FROM_ONE,
        "slowk_matype": (MATYPE_BOUNDS[0], _RMA),
        "slowd_matype": (MATYPE_BOUNDS[0], _RMA),
    },
    quiet=("slowk_matype", "slowd_matype"),
)
def kdj(
    high: Expression,
    low: Expression,
    close: Expression,
    fastk_period: int = 9,
    slowk_period: int = 3,
    slowk_matype: int = _RMA,
    slowd_period: int = 3,
    slowd_matype: int = _RMA,
) -> tuple[Expression, ...]:
    """Slow stochastic K and D, and J, which leads them and may leave 0 to 100; all from the row where D exists."""
    slow_k = _wilder_or_average(raw_stochastic(high, low, close, fastk_period), slowk_period, slowk_matype)
    slow_d = _wilder_or_average(slow_k, slowd_period, slowd_matype)
    return guard(slow_k, slow_d, 3.0 * slow_k - 2.0 * slow_d)


@indicator("WILLR", group="oscillators", outputs={"willr": "percent"}, source="Williams 1973; TA-Lib TA_WILLR")
def willr(high: Expression, low: Expression, close: Expression, timeperiod: int = 14) -> Expression:
    """Williams' %R, −100 to 0; 0 in an empty range."""
    top, bottom = apply(highest, high, timeperiod), apply(lowest, low, timeperiod)
    return -100.0 * apply(ratio, top - close, top - bottom, 0.0)


@indicator(
    "SMI",
    group="oscillators",
    outputs={"smi": "percent", "smi_signal": "percent"},
    source="Blau 1993, Stocks & Commodities 11:1; TA-Lib TA_SMI",
)
def smi(
    high: Expression,
    low: Expression,
    close: Expression,
    timeperiod: int = 13,
    fastperiod: int = 2,
    slowperiod: int = 25,
    signalperiod: int = 9,
) -> tuple[Expression, ...]:
    """Stochastic momentum index: distance from the middle of the range over half of it, each smoothed twice.

    Blau's index of closes in a range; pandas-ta's SMI is the ergodic indicator, another name for TSI.
    """
    expect_rising("SMI", fastperiod=fastperiod, slowperiod=slowperiod)
    top, bottom = apply(highest, high, timeperiod), apply(lowest, low, timeperiod)
    distance, reach = (
        exponential(exponential(x, slowperiod), fastperiod) for x in (close - 0.5 * (top + bottom), top - bottom)
    )
    momentum = 100.0 * apply(ratio, distance, 0.5 * reach, 0.0)
    return guard(momentum, exponential(momentum, signalperiod))


def _cycle(x: Expression, n: int, factor: float, floor: Expression | float) -> Expression:
    top, bottom = apply(highest, x, n), apply(lowest, x, n)
    return apply(exponential_filter, 100.0 * apply(held_quotient_above, x - bottom, top - bottom, floor), factor)


@indicator(
    "STC",
    group="oscillators",
    outputs={"stc": "percent"},
    source="Schaff 1999, the Schaff trend cycle; averages seeded as TA-Lib's",
    oracle="wickra",
    bounds={"factor": (0.0, 1.0)},
    quiet=("factor",),
)
def stc(
    close: Expression, fastperiod: int = 23, slowperiod: int = 50, timeperiod: int = 10, factor: float = 0.5
) -> Expression:
    """Schaff trend cycle: the smoothed stochastic, twice over, of a fast less a slow average; held in an empty range.

    Smoothed recursively by ``factor``, as first published; talipp smooths by simple means.
    """
    expect_rising("STC", fastperiod=fastperiod, slowperiod=slowperiod)
    slow = exponential(close, slowperiod)
    gap = exponential(close, fastperiod) - slow
    return _cycle(_cycle(gap, timeperiod, factor, _ROUNDING * slow), timeperiod, factor, 100.0 * _ROUNDING)


@indicator(
    "FISHER",
    group="oscillators",
    outputs={"fisher": "ratio", "fisher_signal": "ratio"},
    source="Ehlers 2002, Stocks & Commodities 20:11",
    oracle="pandas-ta-classic",
)
def fisher(high: Expression, low: Expression, timeperiod: int = 10) -> tuple[Expression, ...]:
    """Fisher transform of the middle price's place in its range, and its value a row before; 0 is mid-range or no range.

    Ehlers' listing; others begin it one row later, from 0, which fades by a third a row.
    """
    middle = 0.5 * (high + low)
    top, bottom = apply(highest, middle, timeperiod), apply(lowest, middle, timeperiod)
    transform = apply(fisher_transform, apply(ratio, middle - bottom, top - bottom, 0.5) - 0.5)
    return transform, apply(lag, transform, 1)
