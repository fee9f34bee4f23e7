"""The book at the moment: spread, queues, fair price."""

from __future__ import annotations

from tapeline.indicators.expression import Expression, apply, outcomes
from tapeline.indicators.specification import indicator
from tapeline.kernels.microstructure.current import before_and_now
from tapeline.kernels.microstructure.quotes import imbalance_of, mid_of, relative_spread, weighted_mid_of


def now(x: Expression) -> Expression:
    """A column's current value: that of the row, or of the last one that carried it."""
    return outcomes(before_and_now, x)[1]


def before(x: Expression) -> Expression:
    """A column's current value as the row's event found it."""
    return outcomes(before_and_now, x)[0]


def mid_now(bid: Expression, ask: Expression) -> Expression:
    """The mid after the row's event."""
    return apply(mid_of, now(bid), now(ask))


def mid_before(bid: Expression, ask: Expression) -> Expression:
    """The mid that the row's event found."""
    return apply(mid_of, before(bid), before(ask))


@indicator(
    "QUOTED_SPREAD",
    group="microstructure",
    outputs={"quoted_spread": "ratio"},
    source="Huang & Stoll 1996, Journal of Financial Economics 41",
    oracle="orderflow_metrics",
)
def quoted_spread(bid: Expression, ask: Expression) -> Expression:
    """Quoted spread: ask less bid, relative to the mid."""
    return apply(relative_spread, now(bid), now(ask))


@indicator(
    "QUEUE_IMBALANCE",
    group="microstructure",
    outputs={"queue_imbalance": "ratio"},
    source="Gould & Bonart 2016, Market Microstructure and Liquidity 2",
    oracle="orderflow_metrics",
)
def queue_imbalance(bid_size: Expression, ask_size: Expression) -> Expression:
    """Queue imbalance: size at the best bid less size at the best ask, relative to both; from −1 to 1."""
    return apply(imbalance_of, now(bid_size), now(ask_size))


@indicator(
    "WEIGHTED_MID",
    group="microstructure",
    outputs={"weighted_mid": "price"},
    source="Stoikov 2018, Quantitative Finance 18 (there: the weighted mid-price)",
    oracle="orderflow_metrics",
)
def weighted_mid(bid: Expression, ask: Expression, bid_size: Expression, ask_size: Expression) -> Expression:
    """Mid weighted by the queues: each quote by the size on the other side."""
    return apply(weighted_mid_of, now(bid), now(ask), now(bid_size), now(ask_size))
