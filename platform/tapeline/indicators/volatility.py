"""Volatility: ranges, bands and estimators."""

from __future__ import annotations

import math

from tapeline.indicators.averages import MATYPE_BOUNDS, average, simple
from tapeline.indicators.expression import UNDEFINED, Expression, apply, guard, outcomes
from tapeline.indicators.specification import PERIOD_MAX, indicator
from tapeline.kernels.arithmetic import logarithm, ratio, square_root
from tapeline.kernels.directional import true_range
from tapeline.kernels.moments import moments
from tapeline.kernels.recursive import wilder_mean
from tapeline.kernels.rolling import highest, lag, lowest, rolling_sum

_FROM_ONE = (1, PERIOD_MAX)
_DEVIATIONS = (-1_000.0, 1_000.0)


def deviation(x: Expression, n: int) -> Expression:
    """Population standard deviation of the last n values; exactly 0 where they are equal, at any scale."""
    return apply(square_root, outcomes(moments, x, n)[1] / n)


def average_true_range(high: Expression, low: Expression, close: Expression, n: int) -> Expression:
    """Wilder's average true range."""
    reach = apply(true_range, high, low, close)
    return apply(wilder_mean, reach, n) if n > 1 else reach


def log_return(x: Expression, n: int) -> Expression:
    """Logarithm of the ratio to the value n rows ago."""
    return apply(logarithm, apply(ratio, x, apply(lag, x, n), UNDEFINED))


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
    source="Donchian 1960, Financial Analysts Journal 16:6",
    oracle="formula",
)
def donchian(high: Expression, low: Expression, timeperiod: int = 20) -> tuple[Expression, ...]:
    """Donchian channel: highest high, lowest low and their middle."""
    top, bottom = apply(highest, high, timeperiod), apply(lowest, low, timeperiod)
    return top, (top + bottom) / 2.0, bottom


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
    "PARKINSON",
    group="volatility",
    outputs={"parkinson": "logarithm"},
    source="Parkinson 1980, Journal of Business 53:1",
    oracle="formula",
)
def parkinson(high: Expression, low: Expression, timeperiod: int = 20) -> Expression:
    """Volatility of one row from its range: √(mean(ln²(H/L)) / (4·ln 2))."""
    reach = apply(logarithm, apply(ratio, high, low, UNDEFINED))
    return apply(square_root, simple(reach * reach, timeperiod) / (4.0 * math.log(2.0)))


@indicator(
    "GARMAN_KLASS",
    group="volatility",
    outputs={"garman_klass": "logarithm"},
    source="Garman & Klass 1980, Journal of Business 53:1, the practical estimator",
    oracle="formula",
)
def garman_klass(
    open: Expression,  # noqa: A002
    high: Expression,
    low: Expression,
    close: Expression,
    timeperiod: int = 20,
) -> Expression:
    """Volatility of one row from open, range and close: √mean(½·ln²(H/L) − (2·ln 2 − 1)·ln²(C/O))."""
    reach = apply(logarithm, apply(ratio, high, low, UNDEFINED))
    body = apply(logarithm, apply(ratio, close, open, UNDEFINED))
    variance = 0.5 * (reach * reach) - (2.0 * math.log(2.0) - 1.0) * (body * body)
    return apply(square_root, simple(variance, timeperiod))


@indicator(
    "REALIZED_VOL",
    group="volatility",
    outputs={"realized_vol": "logarithm"},
    source="Andersen, Bollerslev, Diebold & Labys 2003, Econometrica 71:2",
    oracle="formula",
)
def realized_vol(close: Expression, timeperiod: int = 20) -> Expression:
    """Realised volatility: root of the sum of squared log returns of the last n rows."""
    change = log_return(close, 1)
    return apply(square_root, apply(rolling_sum, change * change, timeperiod))
