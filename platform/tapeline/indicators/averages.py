"""Moving averages."""

from __future__ import annotations

import math
from collections.abc import Callable

from tapeline.core.errors import ParameterError
from tapeline.indicators.cycles import phase_adaptive
from tapeline.indicators.expression import UNDEFINED, Expression, apply
from tapeline.indicators.specification import PERIOD_MAX, indicator
from tapeline.kernels.adaptive import dynamic_mean, fractal_mean, gaussian_mean, variable_index_mean
from tapeline.kernels.arithmetic import ratio
from tapeline.kernels.recursive import adaptive_mean, exponential_mean, wilder_mean
from tapeline.kernels.rolling import highest, lag, lowest, rolling_sum, weighted_mean


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


def triangular(x: Expression, n: int) -> Expression:
    """Plain mean of plain means: weights rise to the middle of the last n values and fall again."""
    return simple(simple(x, (n + 1) // 2), n // 2 + 1)


def linear(x: Expression, n: int) -> Expression:
    """Linearly weighted mean of the last n values."""
    return apply(weighted_mean, x, n) if n > 1 else x


def hull(x: Expression, n: int) -> Expression:
    """Hull's average: a weighted mean over √n rows of twice that of n/2 less that of n, all cut to whole numbers."""
    return linear(2.0 * linear(x, n // 2) - linear(x, n), math.isqrt(n))


def generalised(x: Expression, n: int, volume: float) -> Expression:
    """Tillson's T3: his generalised DEMA with factor ``volume``, taken three times."""
    chain = [x]
    for _ in range(6):
        chain.append(exponential(chain[-1], n))
    square, cube = volume * volume, volume * volume * volume
    return (
        -cube * chain[6]
        + (3.0 * square + 3.0 * cube) * chain[5]
        + (-6.0 * square - 3.0 * (volume + cube)) * chain[4]
        + (1.0 + 3.0 * volume + cube + 3.0 * square) * chain[3]
    )


def without_lag(x: Expression, n: int) -> Expression:
    """Exponential mean of the value carried on by its change over half the period."""
    back = (n - 1) // 2
    return exponential(2.0 * x - apply(lag, x, back) if back else x, n)


def smoothed_by_wilder(x: Expression, n: int) -> Expression:
    """Wilder's mean: factor 1/n, seeded with a plain mean; a period of 1 is the value itself."""
    return apply(wilder_mean, x, n) if n > 1 else x


_TYPES: tuple[Callable[[Expression, int], Expression], ...] = (
    simple,
    exponential,
    linear,
    double_exponential,
    triple_exponential,
    triangular,
    lambda x, n: apply(adaptive_mean, x, n),
    lambda x, _n: phase_adaptive(x, 0.5, 0.05)[0],
    lambda x, n: generalised(x, n, 0.7),
    hull,
)

MATYPE_BOUNDS = (0, len(_TYPES) - 1)
"""TA-Lib's moving-average types where an indicator takes one: SMA, EMA, WMA, DEMA, TEMA, TRIMA, KAMA, MAMA, T3, HMA."""


def average(x: Expression, n: int, matype: int) -> Expression:
    """The moving average of one of TA-Lib's types (``matype`` 0 to 9); a period of 1 is the value itself."""
    return _TYPES[matype](x, n) if n > 1 else x


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
    return linear(close, timeperiod)


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


@indicator("TRIMA", group="averages", outputs={"trima": "price"}, source="TA-Lib TA_TRIMA")
def trima(close: Expression, timeperiod: int = 30) -> Expression:
    """Triangular moving average."""
    return triangular(close, timeperiod)


@indicator(
    "HMA", group="averages", outputs={"hma": "price"}, source="Hull 2005, How to reduce lag in a moving average; TA-Lib"
)
def hma(close: Expression, timeperiod: int = 20) -> Expression:
    """Hull moving average; n/2 and √n are cut to whole numbers."""
    return hull(close, timeperiod)


@indicator("VWMA", group="averages", outputs={"vwma": "price"}, source="TA-Lib TA_VWMA")
def vwma(close: Expression, volume: Expression, timeperiod: int = 30) -> Expression:
    """Moving average of the close weighted by volume; undefined without volume."""
    money = apply(rolling_sum, close * volume, timeperiod)
    return apply(ratio, money, apply(rolling_sum, volume, timeperiod), UNDEFINED)


@indicator("RMA", group="averages", outputs={"rma": "price"}, source="Wilder 1978, New Concepts; TA-Lib TA_RMA")
def rma(close: Expression, timeperiod: int = 30) -> Expression:
    """Wilder's moving average: factor 1/n, seeded with an SMA."""
    return smoothed_by_wilder(close, timeperiod)


@indicator("ZLEMA", group="averages", outputs={"zlema": "price"}, source="Ehlers & Way 2010; TA-Lib TA_ZLEMA")
def zlema(close: Expression, timeperiod: int = 30) -> Expression:
    """Zero-lag exponential moving average: of the close carried on by its change over (n − 1)/2 rows."""
    return without_lag(close, timeperiod)


@indicator(
    "T3",
    group="averages",
    outputs={"t3": "price"},
    source="Tillson 1998, Stocks & Commodities 16:1; TA-Lib TA_T3",
    bounds={"vfactor": (0.0, 1.0)},
)
def t3(close: Expression, timeperiod: int = 5, vfactor: float = 0.7) -> Expression:
    """Tillson's T3: six exponential means combined for little lag."""
    return generalised(close, timeperiod, vfactor)


@indicator(
    "ALMA",
    group="averages",
    outputs={"alma": "price"},
    source="Legoux & Kouzis-Loukas 2009; the bell's centre is not rounded to a row",
    oracle="talipp",
    bounds={"offset": (0.0, 1.0), "sigma": (0.01, 100.0)},
)
def alma(close: Expression, timeperiod: int = 9, offset: float = 0.85, sigma: float = 6.0) -> Expression:
    """Arnaud Legoux moving average: Gaussian weights centred at ``offset`` of the window, n/sigma rows wide."""
    return apply(gaussian_mean, close, timeperiod, offset, sigma)


@indicator(
    "VIDYA",
    group="averages",
    outputs={"vidya": "price"},
    source="Chande 1995, by momentum oscillator; Chande & Kroll, The New Technical Trader",
    oracle="formula",
)
def vidya(close: Expression, timeperiod: int = 12, cmoperiod: int = 9) -> Expression:
    """Variable index dynamic average: an EMA whose factor is scaled by |CMO|; it begins at the first close."""
    return apply(variable_index_mean, close, timeperiod, cmoperiod)


@indicator(
    "MCGINLEY",
    group="averages",
    outputs={"mcginley": "price"},
    source="McGinley 1997, MTA Journal 48, without the factor 0.6; seeded with an SMA",
    oracle="talipp",
)
def mcginley(close: Expression, timeperiod: int = 10) -> Expression:
    """McGinley dynamic: follows a fall faster than a rise; a step never goes beyond the close."""
    return apply(dynamic_mean, close, timeperiod)


@indicator(
    "FRAMA",
    group="averages",
    outputs={"frama": "price"},
    source="Ehlers 2005, Stocks & Commodities 23:10, of the bar's middle",
    oracle="formula",
    bounds={"timeperiod": (4, PERIOD_MAX)},
)
def frama(high: Expression, low: Expression, timeperiod: int = 16) -> Expression:
    """Fractal adaptive moving average of (high + low)/2; the period must be even."""
    if timeperiod % 2:
        raise ParameterError(
            f"timeperiod {timeperiod} is odd", where="indicator FRAMA", remedy=f"Give {timeperiod + 1}: it is halved"
        )
    half = timeperiod // 2
    top, bottom = apply(highest, high, half), apply(lowest, low, half)
    middle = (high + low) / 2.0
    return apply(fractal_mean, middle, top, bottom, apply(lag, top, half), apply(lag, bottom, half), half)


@indicator(
    "MAMA",
    group="averages",
    outputs={"mama": "price", "fama": "price"},
    source="Ehlers 2001, MESA Adaptive Moving Averages; TA-Lib TA_MAMA, which begins at 0",
    bounds={"fastlimit": (0.01, 0.99), "slowlimit": (0.01, 0.99)},
)
def mama(close: Expression, fastlimit: float = 0.5, slowlimit: float = 0.05) -> tuple[Expression, ...]:
    """MESA adaptive moving average and the one that follows it, driven by the phase of the dominant cycle."""
    return phase_adaptive(close, fastlimit, slowlimit)
