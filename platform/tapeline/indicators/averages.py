"""Moving averages."""

from __future__ import annotations

from tapeline.indicators.expression import Expression, apply
from tapeline.indicators.specification import indicator
from tapeline.kernels.recursive import adaptive_mean, exponential_mean
from tapeline.kernels.rolling import rolling_sum, weighted_mean

MATYPE_BOUNDS = (0, 4)
"""TA-Lib's moving-average types that are supported where an indicator takes one: SMA, EMA, WMA, DEMA, TEMA."""


def simple(x: Expression, n: int) -> Expression:
    """Plain mean of the last n values."""
    return apply(rolling_sum, x, n) / n if n > 1 else x


def exponential(x: Expression, n: int, skip: int = 0) -> Expression:
    """Exponential mean seeded with a plain mean."""
    return apply(exponential_mean, x, n, skip) if n > 1 else x


def double_exponential(x: Expression, n: int) -> Expression:
    """Mulloy's DEMA: 2·E − E(E)."""
    first = exponential(x, n)
    return 2.0 * first - exponential(first, n)


def triple_exponential(x: Expression, n: int) -> Expression:
    """Mulloy's TEMA: 3·E − 3·E(E) + E(E(E))."""
    first = exponential(x, n)
    second = exponential(first, n)
    return 3.0 * first - 3.0 * second + exponential(second, n)


def average(x: Expression, n: int, matype: int) -> Expression:
    """The moving average of one of TA-Lib's types (``matype`` 0 to 4); a period of 1 is the value itself."""
    if n == 1:
        return x
    if matype == 2:
        return apply(weighted_mean, x, n)
    return (simple, exponential, simple, double_exponential, triple_exponential)[matype](x, n)


@indicator("SMA", group="averages", outputs={"sma": "price"}, source="TA-Lib TA_SMA")
def sma(close: Expression, timeperiod: int = 30) -> Expression:
    """Simple moving average."""
    return simple(close, timeperiod)


@indicator("EMA", group="averages", outputs={"ema": "price"}, source="TA-Lib TA_EMA, classic: seeded with an SMA")
def ema(close: Expression, timeperiod: int = 30) -> Expression:
    """Exponential moving average."""
    return exponential(close, timeperiod)


@indicator("WMA", group="averages", outputs={"wma": "price"}, source="TA-Lib TA_WMA")
def wma(close: Expression, timeperiod: int = 30) -> Expression:
    """Linearly weighted moving average."""
    return apply(weighted_mean, close, timeperiod)


@indicator("DEMA", group="averages", outputs={"dema": "price"}, source="Mulloy 1994, Stocks & Commodities 12:1")
def dema(close: Expression, timeperiod: int = 30) -> Expression:
    """Double exponential moving average."""
    return double_exponential(close, timeperiod)


@indicator("TEMA", group="averages", outputs={"tema": "price"}, source="Mulloy 1994, Stocks & Commodities 12:1")
def tema(close: Expression, timeperiod: int = 30) -> Expression:
    """Triple exponential moving average."""
    return triple_exponential(close, timeperiod)


@indicator("KAMA", group="averages", outputs={"kama": "price"}, source="Kaufman 1995, Smarter Trading; TA-Lib TA_KAMA")
def kama(close: Expression, timeperiod: int = 30) -> Expression:
    """Kaufman's adaptive moving average."""
    return apply(adaptive_mean, close, timeperiod)
