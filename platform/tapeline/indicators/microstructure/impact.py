"""Price impact and illiquidity: how far a unit of trading moves the price. Kyle's and Hasbrouck's over ticks, the rest over bars."""

from __future__ import annotations

from tapeline.indicators.expression import UNDEFINED, Expression, apply, guard, outcomes
from tapeline.indicators.microstructure.signs import direction
from tapeline.indicators.specification import PERIOD_MAX, indicator
from tapeline.kernels.arithmetic import absolute, positive, ratio, sign, square_root
from tapeline.kernels.microstructure.current import of_last
from tapeline.kernels.microstructure.flow import of_intervals
from tapeline.kernels.microstructure.regression import second_coefficient
from tapeline.kernels.moments import co_moments
from tapeline.kernels.rolling import lag, rolling_sum


def _slope(x: Expression, y: Expression, n: int) -> Expression:
    """Least-squares slope of y on x, with an intercept; undefined while x is constant."""
    moments = outcomes(co_moments, *guard(x, y), n)
    return apply(ratio, moments[1], moments[0], UNDEFINED)


@indicator(
    "KYLE_LAMBDA",
    group="microstructure",
    outputs={"kyle_lambda": "price per share"},
    source="Kyle 1985, Econometrica 53; regression with an intercept",
    oracle="orderflow_metrics",
)
def kyle_lambda(
    price: Expression, size: Expression, side: Expression, bid: Expression, ask: Expression, window: int = 100
) -> Expression:
    """Kyle's λ: slope of the price change from trade to trade on the trade's signed size, over the last trades."""
    flow = direction(price, side, bid, ask) * size
    change = price - apply(lag, price, 1)
    return apply(of_last, flow, _slope(flow, change, window))


@indicator(
    "HASBROUCK_LAMBDA",
    group="microstructure",
    outputs={"hasbrouck_lambda": "per root money"},
    source="Hasbrouck 2009, Journal of Finance 64; regression with an intercept",
    oracle="formula",
    bounds={"interval_s": (1e-6, 604_800.0)},
)
def hasbrouck_lambda(
    time: Expression,
    price: Expression,
    size: Expression,
    side: Expression,
    bid: Expression,
    ask: Expression,
    interval_s: float = 300.0,
    window: int = 50,
) -> Expression:
    """Hasbrouck's λ: slope of an interval's logarithmic return on its sum of signed roots of money, over the last intervals.

    Intervals are multiples of ``interval_s`` since the epoch; those without a trade do not count. An interval is complete
    with the first row after its end.
    """
    flow = direction(price, side, bid, ask) * apply(square_root, price * size)
    change, total = outcomes(of_intervals, time, price, flow, 1e6 * interval_s)
    return apply(of_last, change, _slope(total, change, window))


def _simple_return(close: Expression) -> Expression:
    return apply(ratio, close - apply(lag, close, 1), apply(lag, close, 1), UNDEFINED)


@indicator(
    "AMIHUD",
    group="microstructure",
    outputs={"amihud": "per money"},
    source="Amihud 2002, Journal of Financial Markets 5",
    oracle="orderflow_metrics",
    bounds={"window": (1, PERIOD_MAX)},
)
def amihud(close: Expression, volume: Expression, window: int = 21) -> Expression:
    """Amihud's illiquidity: mean over bars of the absolute return per money traded; bars without volume do not count."""
    change, money = guard(apply(absolute, _simple_return(close)), close * volume)
    total = apply(rolling_sum, apply(ratio, change, money, 0.0), window)
    return apply(ratio, total, apply(rolling_sum, apply(positive, money), window), UNDEFINED)


@indicator(
    "PASTOR_STAMBAUGH",
    group="microstructure",
    outputs={"pastor_stambaugh": "per money"},
    source="Pástor & Stambaugh 2003, Journal of Political Economy 111; the bar's own return as its excess return",
    oracle="orderflow_metrics",
    bounds={"window": (4, PERIOD_MAX)},
)
def pastor_stambaugh(close: Expression, volume: Expression, window: int = 21) -> Expression:
    """Pástor and Stambaugh's γ: reversal of a bar's return by the next bar, per money traded in its direction."""
    change, money = guard(_simple_return(close), close * volume)
    x, z, y = guard(apply(lag, change, 1), apply(lag, apply(sign, change) * money, 1), change)
    xz = outcomes(co_moments, x, z, window)
    xy = outcomes(co_moments, x, y, window)
    zy = outcomes(co_moments, z, y, window)
    return apply(second_coefficient, xz[0], xz[1], xz[2], xy[1], zy[1])
