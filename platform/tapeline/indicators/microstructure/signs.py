"""Who began a trade: the buyer (+1), the seller (−1), or 0 where a rule cannot tell."""

from __future__ import annotations

from tapeline.indicators.expression import Expression, apply
from tapeline.indicators.microstructure.quotes import before
from tapeline.indicators.specification import indicator
from tapeline.kernels.microstructure.current import of_last
from tapeline.kernels.microstructure.signs import (
    near_touch_or_tick,
    quote_or_tick,
    tick_test,
    told_or_inferred,
    touch_or_tick,
)


def lee_ready(price: Expression, bid: Expression, ask: Expression) -> Expression:
    """Lee and Ready's sign of the row's trade, against the quotes that it met."""
    return apply(quote_or_tick, price, apply(tick_test, price), before(bid), before(ask))


def direction(price: Expression, side: Expression, bid: Expression, ask: Expression) -> Expression:
    """Sign of the row's trade: what the venue tells, else Lee and Ready's rule; NaN in a row without a trade."""
    return apply(told_or_inferred, price, side, lee_ready(price, bid, ask))


@indicator(
    "TICK_RULE",
    group="microstructure",
    outputs={"tick_rule": "flag"},
    source="Lee & Ready 1991, Journal of Finance 46 (the tick test)",
    oracle="tclf",
)
def tick_rule(price: Expression) -> Expression:
    """Sign of the last trade by the tick test: against the last different price."""
    return apply(of_last, price, apply(tick_test, price))


@indicator(
    "LEE_READY",
    group="microstructure",
    outputs={"lee_ready": "flag"},
    source="Lee & Ready 1991, Journal of Finance 46",
    oracle="tclf",
)
def lee_ready_rule(price: Expression, bid: Expression, ask: Expression) -> Expression:
    """Sign of the last trade by its side of the mid; at the mid by the tick test."""
    return apply(of_last, price, lee_ready(price, bid, ask))


@indicator(
    "EMO",
    group="microstructure",
    outputs={"emo": "flag"},
    source="Ellis, Michaely & O'Hara 2000, Journal of Financial and Quantitative Analysis 35",
    oracle="tclf",
)
def emo(price: Expression, bid: Expression, ask: Expression) -> Expression:
    """Sign of the last trade by the quote if it was at one; elsewhere by the tick test."""
    return apply(of_last, price, apply(touch_or_tick, price, apply(tick_test, price), before(bid), before(ask)))


@indicator(
    "CLNV",
    group="microstructure",
    outputs={"clnv": "flag"},
    source="Chakrabarty, Li, Nguyen & Van Ness 2007, Journal of Banking & Finance 31",
    oracle="tclf",
)
def clnv(price: Expression, bid: Expression, ask: Expression) -> Expression:
    """Sign of the last trade by the quote if it was within 30 % of the spread from one; elsewhere by the tick test."""
    return apply(of_last, price, apply(near_touch_or_tick, price, apply(tick_test, price), before(bid), before(ask)))
