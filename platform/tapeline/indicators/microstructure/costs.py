"""What trading costs: effective and realised spread, price impact, and Roll's spread from prices alone."""

from __future__ import annotations

from tapeline.indicators.expression import Expression, apply, guard, outcomes
from tapeline.indicators.microstructure.quotes import mid_before
from tapeline.indicators.microstructure.signs import direction
from tapeline.indicators.specification import PERIOD_MAX, indicator
from tapeline.kernels.microstructure.costs import after_horizon, twice_signed_distance
from tapeline.kernels.microstructure.current import of_last
from tapeline.kernels.microstructure.regression import roll_spread_of
from tapeline.kernels.moments import co_moments
from tapeline.kernels.rolling import lag

_HORIZONS = {"horizon_s": (1e-6, 604_800.0), "pending": (1, 4_096)}
_HUANG_STOLL = "Huang & Stoll 1996, Journal of Financial Economics 41"


@indicator(
    "EFFECTIVE_SPREAD",
    group="microstructure",
    outputs={"effective_spread": "price"},
    source=_HUANG_STOLL,
    oracle="orderflow_metrics",
)
def effective_spread(price: Expression, side: Expression, bid: Expression, ask: Expression) -> Expression:
    """Effective spread of the last trade: twice its signed distance from the mid that it met."""
    cost = apply(twice_signed_distance, price, direction(price, side, bid, ask), mid_before(bid, ask))
    return apply(of_last, price, cost)


def _later(
    time: Expression,
    price: Expression,
    side: Expression,
    bid: Expression,
    ask: Expression,
    horizon_s: float,
    pending: int,
) -> tuple[Expression, ...]:
    """Current realised spread and price impact."""
    signed = direction(price, side, bid, ask)
    done, realized, impact = outcomes(
        after_horizon, time, price, signed, mid_before(bid, ask), 1e6 * horizon_s, pending
    )
    return apply(of_last, done, realized), apply(of_last, done, impact)


@indicator(
    "REALIZED_SPREAD",
    group="microstructure",
    outputs={"realized_spread": "price"},
    source=_HUANG_STOLL,
    oracle="orderflow_metrics",
    bounds=_HORIZONS,
    quiet=("pending",),
)
def realized_spread(
    time: Expression,
    price: Expression,
    side: Expression,
    bid: Expression,
    ask: Expression,
    horizon_s: float = 300.0,
    pending: int = 256,
) -> Expression:
    """Realised spread: twice a trade's signed distance from the mid some time later, known from then on.

    A trade's value stands from the first row later than its time plus the horizon; the mid is the one in force at the
    horizon. If several trades reach their horizon in one row, it gives their mean. At most ``pending`` moments of trades
    wait; trades beyond that wait with the newest of them, so their horizon is that one's.
    """
    return _later(time, price, side, bid, ask, horizon_s, pending)[0]


@indicator(
    "PRICE_IMPACT",
    group="microstructure",
    outputs={"price_impact": "price"},
    source=_HUANG_STOLL,
    oracle="orderflow_metrics",
    bounds=_HORIZONS,
    quiet=("pending",),
)
def price_impact(
    time: Expression,
    price: Expression,
    side: Expression,
    bid: Expression,
    ask: Expression,
    horizon_s: float = 300.0,
    pending: int = 256,
) -> Expression:
    """Price impact: twice the signed move of the mid from a trade to some time later, known from then on.

    Effective spread is realised spread and price impact together; see REALIZED_SPREAD for when it is known.
    """
    return _later(time, price, side, bid, ask, horizon_s, pending)[1]


@indicator(
    "ROLL_SPREAD",
    group="microstructure",
    outputs={"roll_spread": "price"},
    source="Roll 1984, Journal of Finance 39; 0 where it is not defined, as Goyenko, Holden & Trzcinka 2009",
    oracle="orderflow_metrics",
    bounds={"window": (3, PERIOD_MAX)},
)
def roll_spread(price: Expression, window: int = 100) -> Expression:
    """Roll's spread from the autocovariance of the last price changes; 0 where that is not negative."""
    change = price - apply(lag, price, 1)
    earlier = apply(lag, change, 1)
    pairs = outcomes(co_moments, *guard(change, earlier), window - 1)
    rise = price - apply(lag, price, window)
    spread = apply(roll_spread_of, pairs[1], pairs[3], pairs[4], rise, window)
    return apply(of_last, price, spread)
