"""Statistics of a window."""

from __future__ import annotations

import math

from tapeline.indicators.averages import simple
from tapeline.indicators.expression import UNDEFINED, Expression, apply, outcomes, per_share_of_today
from tapeline.indicators.oscillators import typical_price
from tapeline.indicators.specification import PERIOD_MAX, indicator
from tapeline.kernels.arithmetic import arc_tangent, larger, positive, ratio, smaller, square_root
from tapeline.kernels.moments import correlation, line, moments
from tapeline.kernels.order_statistics import order_statistic, share_below
from tapeline.kernels.rolling import highest, lag, lowest
from tapeline.kernels.sequence import averaged_open

_FROM_ONE = (1, PERIOD_MAX)


@indicator("LINEARREG", group="statistics", outputs={"linearreg": "price"}, source="TA-Lib TA_LINEARREG")
def linearreg(close: Expression, timeperiod: int = 14) -> Expression:
    """Value at the newest row of the least-squares line through the last n closes."""
    return outcomes(line, close, timeperiod)[0]


@indicator(
    "LINEARREG_SLOPE", group="statistics", outputs={"linearreg_slope": "price"}, source="TA-Lib TA_LINEARREG_SLOPE"
)
def linearreg_slope(close: Expression, timeperiod: int = 14) -> Expression:
    """Slope, in price per row, of the least-squares line through the last n closes."""
    return outcomes(line, close, timeperiod)[1]


@indicator(
    "LINEARREG_ANGLE", group="statistics", outputs={"linearreg_angle": "degrees"}, source="TA-Lib TA_LINEARREG_ANGLE"
)
def linearreg_angle(close: Expression, timeperiod: int = 14) -> Expression:
    """Angle of the least-squares line of n closes, in degrees: it depends on the price's unit, a share of the day."""
    slope = per_share_of_today(outcomes(line, close, timeperiod)[1])
    return apply(arc_tangent, slope) * (180.0 / math.pi)


@indicator(
    "LINEARREG_INTERCEPT",
    group="statistics",
    outputs={"linearreg_intercept": "price"},
    source="TA-Lib TA_LINEARREG_INTERCEPT",
)
def linearreg_intercept(close: Expression, timeperiod: int = 14) -> Expression:
    """Value at the oldest row of the least-squares line through the last n closes."""
    end, slope = outcomes(line, close, timeperiod)
    return end - (timeperiod - 1.0) * slope


@indicator("TSF", group="statistics", outputs={"tsf": "price"}, source="TA-Lib TA_TSF")
def tsf(close: Expression, timeperiod: int = 14) -> Expression:
    """Time series forecast: the least-squares line through the last n closes, one row ahead."""
    end, slope = outcomes(line, close, timeperiod)
    return end + slope


@indicator(
    "BETA", group="statistics", outputs={"beta": "ratio"}, source="TA-Lib TA_BETA", bounds={"timeperiod": _FROM_ONE}
)
def beta(high: Expression, low: Expression, timeperiod: int = 5) -> Expression:
    """Slope of the lows' returns on the highs' over n returns; 0 where the highs' are all equal."""
    moves = [apply(ratio, x - before, before, UNDEFINED) for x in (high, low) for before in [apply(lag, x, 1)]]
    spread_x, spread_y = (apply(square_root, outcomes(moments, x, timeperiod)[1]) for x in moves)
    return apply(correlation, *moves, timeperiod) * apply(ratio, spread_y, spread_x, 0.0)


@indicator("CORREL", group="statistics", outputs={"correl": "ratio"}, source="Pearson; TA-Lib TA_CORREL")
def correl(high: Expression, low: Expression, timeperiod: int = 30) -> Expression:
    """Correlation of highs and lows; 0 where either is constant."""
    return apply(correlation, high, low, timeperiod)


def z_score(x: Expression, n: int, degrees_lost: int) -> Expression:
    """Deviation from the mean of the last n values in their standard deviations; undefined where they are equal."""
    mean, squares = outcomes(moments, x, n)
    return apply(ratio, x - mean, apply(square_root, squares / (n - degrees_lost)), UNDEFINED)


@indicator("ZSCORE", group="statistics", outputs={"zscore": "ratio"}, source="pandas-ta zscore", oracle="formula")
def zscore(close: Expression, timeperiod: int = 30) -> Expression:
    """Close in sample standard deviations from its mean; undefined where prices are constant."""
    return z_score(close, timeperiod, degrees_lost=1)


def middle(top: Expression, bottom: Expression, n: int) -> Expression:
    """Middle of the highest and the lowest value of n rows."""
    return (apply(highest, top, n) + apply(lowest, bottom, n)) / 2.0


@indicator("MIDPOINT", group="statistics", outputs={"midpoint": "price"}, source="TA-Lib TA_MIDPOINT")
def midpoint(close: Expression, timeperiod: int = 14) -> Expression:
    """Middle of the highest and the lowest close."""
    return middle(close, close, timeperiod)


@indicator("MIDPRICE", group="statistics", outputs={"midprice": "price"}, source="TA-Lib TA_MIDPRICE")
def midprice(high: Expression, low: Expression, timeperiod: int = 14) -> Expression:
    """Middle of the highest high and the lowest low."""
    return middle(high, low, timeperiod)


@indicator(
    "PERCENTILE",
    group="statistics",
    outputs={"percentile": "price"},
    source="Hyndman & Fan 1996, The American Statistician 50:4, definition 1; TA-Lib TA_PERCENTILE",
    bounds={"percentile": (0.0, 100.0)},
)
def percentile(close: Expression, timeperiod: int = 30, percentile: float = 50.0) -> Expression:
    """Percentile of the last n closes by nearest rank: the smallest that at least so many percent do not exceed."""
    rank = min(max(math.ceil(percentile * timeperiod / 100.0), 1), timeperiod)
    return apply(order_statistic, close, timeperiod, rank)


@indicator(
    "PERCENTRANK",
    group="statistics",
    outputs={"percentrank": "percent"},
    source="Connors & Alvarez 2012, An Introduction to ConnorsRSI; TA-Lib TA_PERCENTRANK",
)
def percentrank(close: Expression, timeperiod: int = 100) -> Expression:
    """How many percent of the n closes before this one are lower."""
    return 100.0 * apply(share_below, close, timeperiod)


@indicator(
    "FRACTAL",
    group="statistics",
    outputs={"fractal_high": "flag", "fractal_low": "flag"},
    source="Williams 1995, Trading Chaos; TA-Lib TA_FRACTAL",
    bounds={"leftbars": _FROM_ONE, "rightbars": _FROM_ONE},
)
def fractal(high: Expression, low: Expression, leftbars: int = 2, rightbars: int = 2) -> tuple[Expression, ...]:
    """100 on the row that confirms a swing: the high (low) ``rightbars`` ago is beyond all others around it, else 0."""
    above = apply(larger, apply(lag, apply(highest, high, leftbars), rightbars + 1), apply(highest, high, rightbars))
    below = apply(smaller, apply(lag, apply(lowest, low, leftbars), rightbars + 1), apply(lowest, low, rightbars))
    top, bottom = apply(lag, high, rightbars) - above, below - apply(lag, low, rightbars)
    return 100.0 * apply(positive, top), 100.0 * apply(positive, bottom)


def average_price(open_: Expression, high: Expression, low: Expression, close: Expression) -> Expression:
    """Mean of the four prices of a bar."""
    return (open_ + high + low + close) / 4.0


@indicator("AVGPRICE", group="statistics", outputs={"avgprice": "price"}, source="TA-Lib TA_AVGPRICE")
def avgprice(open: Expression, high: Expression, low: Expression, close: Expression) -> Expression:  # noqa: A002
    """Mean of open, high, low and close."""
    return average_price(open, high, low, close)


@indicator("MEDPRICE", group="statistics", outputs={"medprice": "price"}, source="TA-Lib TA_MEDPRICE")
def medprice(high: Expression, low: Expression) -> Expression:
    """Middle of high and low."""
    return (high + low) / 2.0


@indicator("TYPPRICE", group="statistics", outputs={"typprice": "price"}, source="TA-Lib TA_TYPPRICE")
def typprice(high: Expression, low: Expression, close: Expression) -> Expression:
    """Mean of high, low and close."""
    return typical_price(high, low, close)


@indicator("WCLPRICE", group="statistics", outputs={"wclprice": "price"}, source="TA-Lib TA_WCLPRICE")
def wclprice(high: Expression, low: Expression, close: Expression) -> Expression:
    """Mean of high, low and twice the close."""
    return (high + low + 2.0 * close) / 4.0


@indicator(
    "HEIKIN_ASHI",
    group="statistics",
    outputs={
        "heikin_ashi_open": "price",
        "heikin_ashi_high": "price",
        "heikin_ashi_low": "price",
        "heikin_ashi_close": "price",
    },
    source="Valcu 2004, Stocks & Commodities 22:2; TA-Lib TA_HA",
)
def heikin_ashi(
    open: Expression,  # noqa: A002
    high: Expression,
    low: Expression,
    close: Expression,
) -> tuple[Expression, ...]:
    """Heikin-Ashi candle: the bar's mean as close, the middle of the previous candle as open, high and low with both."""
    end = average_price(open, high, low, close)
    start = apply(averaged_open, open, close, end)
    top = apply(larger, high, apply(larger, start, end))
    bottom = apply(smaller, low, apply(smaller, start, end))
    return start, top, bottom, end


@indicator(
    "ADR", group="statistics", outputs={"adr": "price"}, source="TA-Lib TA_ADR", bounds={"timeperiod": _FROM_ONE}
)
def adr(high: Expression, low: Expression, timeperiod: int = 14) -> Expression:
    """Average day range: mean of high less low."""
    return simple(high - low, timeperiod)
