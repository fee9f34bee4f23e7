"""Volatility: ranges, bands and estimators."""

from __future__ import annotations

from tapeline.indicators.averages import MATYPE_BOUNDS, average, exponential, simple
from tapeline.indicators.expression import UNDEFINED, Expression, apply, guard, outcomes
from tapeline.indicators.oscillators import typical_price
from tapeline.indicators.specification import PERIOD_MAX, indicator
from tapeline.kernels.arithmetic import ratio, square_root
from tapeline.kernels.directional import true_range
from tapeline.kernels.moments import mean_and_deviation, moments
from tapeline.kernels.recursive import wilder_mean
from tapeline.kernels.rolling import highest, lag, lowest, rolling_sum
from tapeline.kernels.sequence import withheld

_FROM_ONE = (1, PERIOD_MAX)
_DEVIATIONS = (-1_000.0, 1_000.0)


def deviation(x: Expression, n: int) -> Expression:
    """Population standard deviation of the last n values; exactly 0 where they are equal, at any scale."""
    return apply(square_root, outcomes(moments, x, n)[1] / n)


def average_true_range(high: Expression, low: Expression, close: Expression, n: int) -> Expression:
    """Wilder's average true range."""
    reach = apply(true_range, high, low, close)
    return apply(wilder_mean, reach, n) if n > 1 else reach


@indicator("TRANGE", group="volatility", outputs={"trange": "price"}, source="Wilder 1978; TA-Lib TA_TRANGE")
def trange(high: Expression, low: Expression, close: Expression) -> Expression:
    """True range: the bar's range, extended to the previous close."""
    return apply(true_range, high, low, close)


@indicator(
    "ATR",
    group="volatility",
    outputs={"atr": "price"},
    source="Wilder 1978; TA-Lib TA_ATR",
    bounds={"timeperiod": _FROM_ONE},
)
def atr(high: Expression, low: Expression, close: Expression, timeperiod: int = 14) -> Expression:
    """Average true range."""
    return average_true_range(high, low, close, timeperiod)


@indicator(
    "NATR",
    group="volatility",
    outputs={"natr": "percent"},
    source="Forman 2006, Stocks & Commodities 24:5; TA-Lib TA_NATR",
    bounds={"timeperiod": _FROM_ONE},
)
def natr(high: Expression, low: Expression, close: Expression, timeperiod: int = 14) -> Expression:
    """Average true range in percent of the close."""
    return 100.0 * apply(ratio, average_true_range(high, low, close, timeperiod), close, UNDEFINED)


@indicator(
    "BBANDS",
    group="volatility",
    outputs={"bbands_upper": "price", "bbands_middle": "price", "bbands_lower": "price"},
    source="Bollinger 2001, Bollinger on Bollinger Bands; TA-Lib TA_BBANDS",
    bounds={"nbdevup": _DEVIATIONS, "nbdevdn": _DEVIATIONS, "matype": MATYPE_BOUNDS},
    quiet=("matype",),
)
def bbands(
    close: Expression, timeperiod: int = 20, nbdevup: float = 2.0, nbdevdn: float = 2.0, matype: int = 0
) -> tuple[Expression, ...]:
    """Bollinger bands: an average and so many population standard deviations above and below it."""
    mean, _ = outcomes(moments, close, timeperiod)
    middle = mean if matype == 0 else average(close, timeperiod, matype)
    spread = deviation(close, timeperiod)
    return guard(middle + nbdevup * spread, middle, middle - nbdevdn * spread)


@indicator(
    "DONCHIAN",
    group="volatility",
    outputs={"donchian_upper": "price", "donchian_middle": "price", "donchian_lower": "price"},
    source="Donchian 1960, Financial Analysts Journal 16:6; TA-Lib TA_DONCHIAN",
)
def donchian(high: Expression, low: Expression, timeperiod: int = 20) -> tuple[Expression, ...]:
    """Donchian channel: highest high, lowest low and their middle."""
    top, bottom = apply(highest, high, timeperiod), apply(lowest, low, timeperiod)
    return top, (top + bottom) / 2.0, bottom


@indicator(
    "KELTNER",
    group="volatility",
    outputs={"keltner_upper": "price", "keltner_middle": "price", "keltner_lower": "price"},
    source="Keltner 1960, How to Make Money in Commodities; average true range after Raschke; TA-Lib TA_KC",
    bounds={"atrperiod": _FROM_ONE, "nbdev": _DEVIATIONS},
)
def keltner(
    high: Expression,
    low: Expression,
    close: Expression,
    timeperiod: int = 20,
    atrperiod: int = 10,
    nbdev: float = 2.0,
) -> tuple[Expression, ...]:
    """Keltner channel: an exponential mean of typical prices and so many average true ranges above and below it.

    The seeds of both means end on the row of the first value, as TA-Lib has it.
    """
    late = timeperiod - 1 - atrperiod
    middle = exponential(typical_price(high, low, close), timeperiod, skip=max(-late, 0))
    reach = apply(true_range, high, low, close)
    if atrperiod > 1:
        reach = apply(wilder_mean, apply(withheld, reach, late) if late > 0 else reach, atrperiod)
    return guard(middle + nbdev * reach, middle, middle - nbdev * reach)


@indicator(
    "ACCBANDS",
    group="volatility",
    outputs={"accbands_upper": "price", "accbands_middle": "price", "accbands_lower": "price"},
    source="Headley 2002, Big Trends in Trading; TA-Lib TA_ACCBANDS",
)
def accbands(high: Expression, low: Expression, close: Expression, timeperiod: int = 20) -> tuple[Expression, ...]:
    """Acceleration bands: means of the close, and of high and low moved out by the relative range."""
    reach = 4.0 * apply(ratio, high - low, high + low, 0.0)
    upper, lower = simple(high * (1.0 + reach), timeperiod), simple(low * (1.0 - reach), timeperiod)
    return upper, simple(close, timeperiod), lower


@indicator(
    "STDDEV",
    group="volatility",
    outputs={"stddev": "price"},
    source="TA-Lib TA_STDDEV",
    bounds={"nbdev": _DEVIATIONS},
    quiet=("nbdev",),
)
def stddev(close: Expression, timeperiod: int = 5, nbdev: float = 1.0) -> Expression:
    """Population standard deviation of the close, times ``nbdev``."""
    return nbdev * deviation(close, timeperiod)


@indicator(
    "VAR",
    group="volatility",
    outputs={"var": "price squared"},
    source="TA-Lib TA_VAR, whose nbdev changes nothing",
    bounds={"timeperiod": _FROM_ONE, "nbdev": _DEVIATIONS},
    quiet=("nbdev",),
)
def var(close: Expression, timeperiod: int = 5, nbdev: float = 1.0) -> Expression:  # noqa: ARG001
    """Population variance of the close; ``nbdev`` is TA-Lib's and has no effect."""
    return outcomes(moments, close, timeperiod)[1] / timeperiod


@indicator("AVGDEV", group="volatility", outputs={"avgdev": "price"}, source="TA-Lib TA_AVGDEV")
def avgdev(close: Expression, timeperiod: int = 14) -> Expression:
    """Mean absolute deviation of the close from its mean."""
    return outcomes(mean_and_deviation, close, timeperiod)[1]


@indicator(
    "ULCER",
    group="volatility",
    outputs={"ulcer": "percent"},
    source="Martin & McCann 1989, The Investor's Guide to Fidelity Funds: drawdown from the highest close of n rows",
    oracle="pandas-ta-classic",
)
def ulcer(close: Expression, timeperiod: int = 14) -> Expression:
    """Ulcer index: root mean square, over n rows, of the drawdown in percent from each row's highest close of n rows."""
    top = apply(highest, close, timeperiod)
    drawdown = 100.0 * apply(ratio, close - top, top, UNDEFINED)
    return apply(square_root, simple(drawdown * drawdown, timeperiod))


@indicator(
    "CVI",
    group="volatility",
    outputs={"cvi": "percent"},
    source="Chaikin; TA-Lib TA_CVI",
    bounds={"rocperiod": _FROM_ONE},
)
def cvi(high: Expression, low: Expression, timeperiod: int = 10, rocperiod: int = 10) -> Expression:
    """Chaikin's volatility: change over so many rows of the exponential mean range, in percent; 0 after no range."""
    reach = exponential(high - low, timeperiod)
    before = apply(lag, reach, rocperiod)
    return 100.0 * apply(ratio, reach - before, before, 0.0)


@indicator(
    "MASSI",
    group="volatility",
    outputs={"massi": "ratio"},
    source="Dorsey 1992, Stocks & Commodities 10:6; TA-Lib TA_MASSI",
)
def massi(high: Expression, low: Expression, fastperiod: int = 9, slowperiod: int = 25) -> Expression:
    """Mass index: sum of ratios of the exponential mean range to its own exponential mean; a ratio is 1 without range."""
    once = exponential(high - low, fastperiod)
    bulge = apply(ratio, once, exponential(once, fastperiod), 1.0)
    return apply(rolling_sum, bulge, slowperiod)
