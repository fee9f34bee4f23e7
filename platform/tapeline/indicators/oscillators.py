"""Oscillators of price changes, recent extremes and bars; see also ``stochastics`` and ``convergence``."""

from __future__ import annotations

from tapeline.indicators.averages import simple, smoothed_by_wilder
from tapeline.indicators.expression import UNDEFINED, Expression, apply, outcomes
from tapeline.indicators.specification import PERIOD_MAX, indicator
from tapeline.kernels.arithmetic import larger, positive, ratio, smaller, square_root
from tapeline.kernels.directional import gain_and_loss, signed_flow
from tapeline.kernels.moments import line, mean_and_deviation, moments
from tapeline.kernels.oscillators import positive_part
from tapeline.kernels.recursive import wilder_mean
from tapeline.kernels.rolling import highest, lag, lowest, rolling_sum

_FROM_ONE = (1, PERIOD_MAX)


def typical_price(high: Expression, low: Expression, close: Expression) -> Expression:
    """Mean of high, low and close."""
    return (high + low + close) / 3.0


def relative_strength(x: Expression, n: int) -> Expression:
    """Wilder's relative strength index of a series, in percent; 0 where nothing moved."""
    gain, loss = outcomes(gain_and_loss, x)
    rise, fall = apply(wilder_mean, gain, n), apply(wilder_mean, loss, n)
    return 100.0 * apply(ratio, rise, rise + fall, 0.0)


@indicator("RSI", group="oscillators", outputs={"rsi": "percent"}, source="Wilder 1978, New Concepts; TA-Lib TA_RSI")
def rsi(close: Expression, timeperiod: int = 14) -> Expression:
    """Relative strength index; 0 on constant prices, as TA-Lib has it."""
    return relative_strength(close, timeperiod)


@indicator(
    "CMO", group="oscillators", outputs={"cmo": "percent"}, source="Chande 1994; Wilder's means as TA-Lib TA_CMO"
)
def cmo(close: Expression, timeperiod: int = 14) -> Expression:
    """Chande momentum oscillator; 0 on constant prices."""
    gain, loss = outcomes(gain_and_loss, close)
    rise, fall = apply(wilder_mean, gain, timeperiod), apply(wilder_mean, loss, timeperiod)
    return 100.0 * apply(ratio, rise - fall, rise + fall, 0.0)


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


def rate_of_change(x: Expression, n: int) -> Expression:
    """Change over n rows, in percent."""
    return (apply(ratio, x, apply(lag, x, n), 0.0) - 1.0) * 100.0


@indicator(
    "ROC", group="oscillators", outputs={"roc": "percent"}, source="TA-Lib TA_ROC", bounds={"timeperiod": _FROM_ONE}
)
def roc(close: Expression, timeperiod: int = 10) -> Expression:
    """Rate of change over n rows, in percent."""
    return rate_of_change(close, timeperiod)


@indicator(
    "ROCP", group="oscillators", outputs={"rocp": "ratio"}, source="TA-Lib TA_ROCP", bounds={"timeperiod": _FROM_ONE}
)
def rocp(close: Expression, timeperiod: int = 10) -> Expression:
    """Rate of change over n rows, as a fraction."""
    return apply(ratio, close, apply(lag, close, timeperiod), 0.0) - 1.0


@indicator(
    "ROCR", group="oscillators", outputs={"rocr": "ratio"}, source="TA-Lib TA_ROCR", bounds={"timeperiod": _FROM_ONE}
)
def rocr(close: Expression, timeperiod: int = 10) -> Expression:
    """Close over the close n rows ago."""
    return apply(ratio, close, apply(lag, close, timeperiod), 0.0)


@indicator(
    "ROCR100",
    group="oscillators",
    outputs={"rocr100": "percent"},
    source="TA-Lib TA_ROCR100",
    bounds={"timeperiod": _FROM_ONE},
)
def rocr100(close: Expression, timeperiod: int = 10) -> Expression:
    """Close in percent of the close n rows ago."""
    return 100.0 * apply(ratio, close, apply(lag, close, timeperiod), 0.0)


def ages_of_extremes(high: Expression, low: Expression, n: int) -> tuple[Expression, Expression]:
    """Rows since the lowest low and since the highest high of the last n+1 rows."""
    return outcomes(lowest, low, n + 1)[1], outcomes(highest, high, n + 1)[1]


@indicator(
    "AROON",
    group="oscillators",
    outputs={"aroon_down": "percent", "aroon_up": "percent"},
    source="Chande 1995; TA-Lib TA_AROON",
)
def aroon(high: Expression, low: Expression, timeperiod: int = 14) -> tuple[Expression, ...]:
    """How recent the lowest low and the highest high of the last n+1 rows are: 100 is now."""
    return tuple((timeperiod - age) * (100.0 / timeperiod) for age in ages_of_extremes(high, low, timeperiod))


@indicator("AROONOSC", group="oscillators", outputs={"aroonosc": "percent"}, source="Chande 1995; TA-Lib TA_AROONOSC")
def aroonosc(high: Expression, low: Expression, timeperiod: int = 14) -> Expression:
    """Aroon up less Aroon down."""
    age_low, age_high = ages_of_extremes(high, low, timeperiod)
    return (age_low - age_high) * (100.0 / timeperiod)


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


@indicator("BOP", group="oscillators", outputs={"bop": "ratio"}, source="Livshin 2001; TA-Lib TA_BOP")
def bop(open: Expression, high: Expression, low: Expression, close: Expression) -> Expression:  # noqa: A002
    """Balance of power: the bar's body over its range, −1 to 1; 0 for a bar without range."""
    return apply(ratio, close - open, high - low, 0.0)


@indicator("IMI", group="oscillators", outputs={"imi": "percent"}, source="Chande & Kroll 1994; TA-Lib TA_IMI")
def imi(open: Expression, close: Expression, timeperiod: int = 14) -> Expression:  # noqa: A002
    """Intraday momentum index: rising bodies over all bodies of the last n rows; 50 where there are none."""
    rise = apply(rolling_sum, apply(positive_part, close - open), timeperiod)
    fall = apply(rolling_sum, apply(positive_part, open - close), timeperiod)
    return 100.0 * apply(ratio, rise, rise + fall, 0.5)


@indicator(
    "RVI",
    group="oscillators",
    outputs={"rvi": "percent"},
    source="Dorsey 1993, Stocks & Commodities 11:6; Wilder's means as TA-Lib TA_RVI",
    bounds={"timeperiod": _FROM_ONE},
)
def rvi(close: Expression, timeperiod: int = 14, stddevperiod: int = 10) -> Expression:
    """Relative volatility index: the RSI of standard deviations of the close; 50 where nothing moved.

    Dorsey's first form; his revised one averages it over highs and lows. Not the relative vigour index.
    """
    spread = apply(square_root, outcomes(moments, close, stddevperiod)[1] / stddevperiod)
    rise, fall = (
        smoothed_by_wilder(apply(positive, move) * spread, timeperiod) for move in outcomes(gain_and_loss, close)
    )
    return 100.0 * apply(ratio, rise, rise + fall, 0.5)


@indicator("DPO", group="oscillators", outputs={"dpo": "price"}, source="TA-Lib TA_DPO: without look-ahead")
def dpo(close: Expression, timeperiod: int = 20) -> Expression:
    """Detrended price: the close n/2+1 rows ago less today's simple mean of n, so that nothing looks ahead.

    The centred form writes this value n/2+1 rows back, where nobody could have known it.
    """
    return apply(lag, close, timeperiod // 2 + 1) - simple(close, timeperiod)


@indicator("FOSC", group="oscillators", outputs={"fosc": "percent"}, source="Chande & Kroll 1994; TA-Lib TA_FOSC")
def fosc(close: Expression, timeperiod: int = 5) -> Expression:
    """Forecast oscillator: how far the close is from where the previous rows' regression line put it, in percent."""
    end, slope = outcomes(line, close, timeperiod)
    return 100.0 * apply(ratio, close - apply(lag, end + slope, 1), close, UNDEFINED)
