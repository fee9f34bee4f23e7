"""Oscillators of averages: how a fast one stands to a slow one, and momentum smoothed several times."""

from __future__ import annotations

from tapeline.indicators.averages import MATYPE_BOUNDS, average, exponential, simple
from tapeline.indicators.expression import Expression, apply, guard
from tapeline.indicators.oscillators import rate_of_change
from tapeline.indicators.specification import PERIOD_MAX, expect_rising, indicator
from tapeline.kernels.arithmetic import absolute, ratio
from tapeline.kernels.oscillators import fixed_exponential_mean
from tapeline.kernels.rolling import lag, weighted_mean
from tapeline.kernels.sequence import withheld

_FROM_ONE = (1, PERIOD_MAX)


def _averages(x: Expression, indicator: str, fast: int, slow: int, matype: int) -> tuple[Expression, Expression]:
    expect_rising(indicator, fastperiod=fast, slowperiod=slow)
    return average(x, fast, matype), average(x, slow, matype)


@indicator(
    "APO",
    group="oscillators",
    outputs={"apo": "price"},
    source="Appel 1979; TA-Lib TA_APO",
    bounds={"matype": MATYPE_BOUNDS},
    quiet=("matype",),
)
def apo(close: Expression, fastperiod: int = 12, slowperiod: int = 26, matype: int = 1) -> Expression:
    """Absolute price oscillator: a fast less a slow average."""
    fast, slow = _averages(close, "APO", fastperiod, slowperiod, matype)
    return fast - slow


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
    fast, slow = _averages(close, "PPO", fastperiod, slowperiod, matype)
    return 100.0 * apply(ratio, fast - slow, slow, 0.0)


@indicator(
    "PVO",
    group="oscillators",
    outputs={"pvo": "percent"},
    source="Appel's price oscillator of volume; TA-Lib TA_PVO",
    bounds={"matype": MATYPE_BOUNDS},
    quiet=("matype",),
)
def pvo(volume: Expression, fastperiod: int = 12, slowperiod: int = 26, matype: int = 1) -> Expression:
    """Percentage volume oscillator: the gap of a fast and a slow average of volume, in percent of the slow one."""
    fast, slow = _averages(volume, "PVO", fastperiod, slowperiod, matype)
    return 100.0 * apply(ratio, fast - slow, slow, 0.0)


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
    expect_rising("MACD", fastperiod=fastperiod, slowperiod=slowperiod)
    gap = exponential(close, fastperiod, skip=slowperiod - fastperiod) - exponential(close, slowperiod)
    signal = exponential(gap, signalperiod)
    return guard(gap, signal, gap - signal)


def _aligned(x: Expression, n: int, matype: int, warm_up: int) -> Expression:
    """An average whose recursion starts just in time to have its first value on the row of a warm-up."""
    plain = average(x, n, matype)
    late = warm_up - plain.operation.warm_up
    return average(apply(withheld, x, late), n, matype) if late > 0 else plain


@indicator(
    "MACDEXT",
    group="oscillators",
    outputs={"macdext": "price", "macdext_signal": "price", "macdext_hist": "price"},
    source="Appel 1979; pinned to TA-Lib TA_MACDEXT: both averages start on one row, all outputs with the signal",
    bounds={
        "signalperiod": _FROM_ONE,
        "fastmatype": MATYPE_BOUNDS,
        "slowmatype": MATYPE_BOUNDS,
        "signalmatype": MATYPE_BOUNDS,
    },
)
def macdext(
    close: Expression,
    fastperiod: int = 12,
    fastmatype: int = 0,
    slowperiod: int = 26,
    slowmatype: int = 0,
    signalperiod: int = 9,
    signalmatype: int = 0,
) -> tuple[Expression, ...]:
    """MACD with a moving-average type for each of its three averages."""
    expect_rising("MACDEXT", fastperiod=fastperiod, slowperiod=slowperiod)
    kinds = ((fastperiod, fastmatype), (slowperiod, slowmatype))
    warm_up = max(average(close, n, matype).operation.warm_up for n, matype in kinds)
    fast, slow = (_aligned(close, n, matype, warm_up) for n, matype in kinds)
    gap = fast - slow
    signal = average(gap, signalperiod, signalmatype)
    return guard(gap, signal, gap - signal)


@indicator(
    "MACDFIX",
    group="oscillators",
    outputs={"macdfix": "price", "macdfix_signal": "price", "macdfix_hist": "price"},
    source="Appel 1979: periods 12 and 26 with the factors 0.15 and 0.075; TA-Lib TA_MACDFIX",
    bounds={"signalperiod": _FROM_ONE},
)
def macdfix(close: Expression, signalperiod: int = 9) -> tuple[Expression, ...]:
    """MACD of 12 and 26 rows with Appel's rounded factors, 0.15 and 0.075 instead of 2/13 and 2/27."""
    gap = apply(fixed_exponential_mean, close, 12, 14, 0.15) - apply(fixed_exponential_mean, close, 26, 0, 0.075)
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
    return rate_of_change(smooth, 1)


@indicator(
    "TSI",
    group="oscillators",
    outputs={"tsi": "percent"},
    source="Blau 1991, Stocks & Commodities 9:11; TA-Lib TA_TSI",
)
def tsi(close: Expression, firstperiod: int = 25, secondperiod: int = 13) -> Expression:
    """True strength index: the twice smoothed change over the twice smoothed size of it; 0 on constant prices."""
    change = close - apply(lag, close, 1)
    net, path = (exponential(exponential(x, firstperiod), secondperiod) for x in (change, apply(absolute, change)))
    return 100.0 * apply(ratio, net, path, 0.0)


@indicator(
    "COPPOCK",
    group="oscillators",
    outputs={"coppock": "percent"},
    source="Coppock 1962, Barron's; TA-Lib TA_COPPOCK",
    bounds={"roc1period": _FROM_ONE, "roc2period": _FROM_ONE},
)
def coppock(close: Expression, wmaperiod: int = 10, roc1period: int = 11, roc2period: int = 14) -> Expression:
    """Coppock curve: weighted mean of the sum of two rates of change."""
    return apply(weighted_mean, rate_of_change(close, roc1period) + rate_of_change(close, roc2period), wmaperiod)


_KST_PERIODS = (*(f"{kind}{k}period" for kind in ("roc", "sma") for k in (1, 2, 3, 4)), "signalperiod")


@indicator(
    "KST",
    group="oscillators",
    outputs={"kst": "percent", "kst_signal": "percent"},
    source="Pring 1992, Stocks & Commodities 10:9, daily form: simple means weighted 1 to 4",
    oracle="talipp",
    bounds=dict.fromkeys(_KST_PERIODS, _FROM_ONE),
)
def kst(
    close: Expression,
    roc1period: int = 10,
    roc2period: int = 15,
    roc3period: int = 20,
    roc4period: int = 30,
    sma1period: int = 10,
    sma2period: int = 10,
    sma3period: int = 10,
    sma4period: int = 15,
    signalperiod: int = 9,
) -> tuple[Expression, ...]:
    """Know sure thing: four smoothed rates of change in percent, weighted 1 to 4, and the signal line.

    Pandas-ta multiplies by another 100.
    """
    pairs = ((roc1period, sma1period), (roc2period, sma2period), (roc3period, sma3period), (roc4period, sma4period))
    sums: dict[int, Expression] = {}  # rates that are smoothed over the same rows are summed before it
    for weight, (rate, smooth) in enumerate(pairs, start=1):
        term = float(weight) * rate_of_change(close, rate)
        sums[smooth] = sums[smooth] + term if smooth in sums else term
    first, *others = (simple(total, smooth) for smooth, total in sums.items())
    total = sum(others, start=first)
    return total, simple(total, signalperiod)
