"""Oscillators."""

from __future__ import annotations

from tapeline.indicators.averages import MATYPE_BOUNDS, average, exponential
from tapeline.indicators.expression import Expression, apply, guard, outcomes
from tapeline.indicators.specification import PERIOD_MAX, indicator
from tapeline.kernels.arithmetic import larger, ratio, smaller
from tapeline.kernels.directional import gain_and_loss, signed_flow
from tapeline.kernels.moments import mean_and_deviation
from tapeline.kernels.recursive import wilder_mean
from tapeline.kernels.rolling import highest, lag, lowest, rolling_sum

_FROM_ONE = (1, PERIOD_MAX)


def typical_price(high: Expression, low: Expression, close: Expression) -> Expression:
    """Mean of high, low and close."""
    return (high + low + close) / 3.0


@indicator("RSI", group="oscillators", outputs={"rsi": "percent"}, source="Wilder 1978, New Concepts; TA-Lib TA_RSI")
def rsi(close: Expression, timeperiod: int = 14) -> Expression:
    """Relative strength index; 0 on constant prices, as TA-Lib has it."""
    gain, loss = outcomes(gain_and_loss, close)
    rise, fall = apply(wilder_mean, gain, timeperiod), apply(wilder_mean, loss, timeperiod)
    return 100.0 * apply(ratio, rise, rise + fall, 0.0)


@indicator(
    "CMO", group="oscillators", outputs={"cmo": "percent"}, source="Chande 1994; Wilder's means as TA-Lib TA_CMO"
)
def cmo(close: Expression, timeperiod: int = 14) -> Expression:
    """Chande momentum oscillator; 0 on constant prices."""
    gain, loss = outcomes(gain_and_loss, close)
    rise, fall = apply(wilder_mean, gain, timeperiod), apply(wilder_mean, loss, timeperiod)
    return 100.0 * apply(ratio, rise - fall, rise + fall, 0.0)


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


@indicator("WILLR", group="oscillators", outputs={"willr": "percent"}, source="Williams 1973; TA-Lib TA_WILLR")
def willr(high: Expression, low: Expression, close: Expression, timeperiod: int = 14) -> Expression:
    """Williams' %R, −100 to 0; 0 in an empty range."""
    top, bottom = apply(highest, high, timeperiod), apply(lowest, low, timeperiod)
    return -100.0 * apply(ratio, top - close, top - bottom, 0.0)


@indicator("CCI", group="oscillators", outputs={"cci": "ratio"}, source="Lambert 1980; TA-Lib TA_CCI")
def cci(high: Expression, low: Expression, close: Expression, timeperiod: int = 14) -> Expression:
    """Commodity channel index; 0 on constant prices."""
    typical = typical_price(high, low, close)
    mean, deviation = outcomes(mean_and_deviation, typical, timeperiod)
    return apply(ratio, typical - mean, 0.015 * deviation, 0.0)


@indicator("MFI", group="oscillators", outputs={"mfi": "percent"}, source="Quong & Soudack 1989; TA-Lib TA_MFI")
def mfi(high: Expression, low: Expression, close: Expression, volume: Expression, timeperiod: int = 14) -> Expression:
    """Money flow index; 0 where no money flowed (TA-Lib: also where less than 1 flowed)."""
    typical = typical_price(high, low, close)
    inflow, outflow = outcomes(signed_flow, typical, typical * volume)
    gained, lost = apply(rolling_sum, inflow, timeperiod), apply(rolling_sum, outflow, timeperiod)
    return 100.0 * apply(ratio, gained, gained + lost, 0.0)


@indicator(
    "MOM", group="oscillators", outputs={"mom": "price"}, source="TA-Lib TA_MOM", bounds={"timeperiod": _FROM_ONE}
)
def mom(close: Expression, timeperiod: int = 10) -> Expression:
    """Momentum: the change over n rows."""
    return close - apply(lag, close, timeperiod)


@indicator(
    "ROC", group="oscillators", outputs={"roc": "percent"}, source="TA-Lib TA_ROC", bounds={"timeperiod": _FROM_ONE}
)
def roc(close: Expression, timeperiod: int = 10) -> Expression:
    """Rate of change over n rows, in percent."""
    return (apply(ratio, close, apply(lag, close, timeperiod), 0.0) - 1.0) * 100.0


@indicator(
    "AROON",
    group="oscillators",
    outputs={"aroon_down": "percent", "aroon_up": "percent"},
    source="Chande 1995; TA-Lib TA_AROON",
)
def aroon(high: Expression, low: Expression, timeperiod: int = 14) -> tuple[Expression, ...]:
    """How recent the lowest low and the highest high of the last n+1 rows are: 100 is now."""
    _, age_low = outcomes(lowest, low, timeperiod + 1)
    _, age_high = outcomes(highest, high, timeperiod + 1)
    return tuple((timeperiod - age) * (100.0 / timeperiod) for age in (age_low, age_high))


@indicator(
    "ULTOSC",
    group="oscillators",
    outputs={"ultosc": "percent"},
    source="Williams 1985; TA-Lib TA_ULTOSC",
    bounds={"timeperiod1": _FROM_ONE, "timeperiod2": _FROM_ONE, "timeperiod3": _FROM_ONE},
)
def ultosc(
    high: Expression,
    low: Expression,
    close: Expression,
    timeperiod1: int = 7,
    timeperiod2: int = 14,
    timeperiod3: int = 28,
) -> Expression:
    """Ultimate oscillator: buying pressure over true range, on three horizons weighted 4, 2, 1."""
    previous = apply(lag, close, 1)
    floor = apply(smaller, low, previous)
    pressure, reach = close - floor, apply(larger, high, previous) - floor
    short, middle, long = (
        apply(ratio, apply(rolling_sum, pressure, n), apply(rolling_sum, reach, n), 0.0)
        for n in sorted((timeperiod1, timeperiod2, timeperiod3))
    )
    return (4.0 * short + 2.0 * middle + long) * (100.0 / 7.0)


@indicator(
    "PPO",
    group="oscillators",
    outputs={"ppo": "percent"},
    source="Appel 1979; TA-Lib TA_PPO",
    bounds={"matype": MATYPE_BOUNDS},
    quiet=("matype",),
)
def ppo(close: Expression, fastperiod: int = 12, slowperiod: int = 26, matype: int = 1) -> Expression:
    """Percentage price oscillator: the gap of a fast and a slow average, in percent of the slow one."""
    fast, slow = sorted((fastperiod, slowperiod))
    quick, calm = average(close, fast, matype), average(close, slow, matype)
    return 100.0 * apply(ratio, quick - calm, calm, 0.0)


@indicator(
    "MACD",
    group="oscillators",
    outputs={"macd": "price", "macd_signal": "price", "macd_hist": "price"},
    source="Appel 1979; pinned to TA-Lib TA_MACD: both averages start on one row, all outputs with the signal",
    bounds={"signalperiod": _FROM_ONE},
)
def macd(
    close: Expression, fastperiod: int = 12, slowperiod: int = 26, signalperiod: int = 9
) -> tuple[Expression, ...]:
    """Moving average convergence and divergence, its signal line and their difference."""
    fast, slow = sorted((fastperiod, slowperiod))
    gap = exponential(close, fast, skip=slow - fast) - exponential(close, slow)
    signal = exponential(gap, signalperiod)
    return guard(gap, signal, gap - signal)


@indicator(
    "TRIX",
    group="oscillators",
    outputs={"trix": "percent"},
    source="Hutson 1983; TA-Lib TA_TRIX",
    bounds={"timeperiod": _FROM_ONE},
)
def trix(close: Expression, timeperiod: int = 30) -> Expression:
    """One-row rate of change of a triple exponential average, in percent."""
    smooth = exponential(exponential(exponential(close, timeperiod), timeperiod), timeperiod)
    return (apply(ratio, smooth, apply(lag, smooth, 1), 0.0) - 1.0) * 100.0
