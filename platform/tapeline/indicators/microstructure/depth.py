"""The book's depth over its first five levels."""

from __future__ import annotations

from tapeline.indicators.expression import Expression, apply, outcomes
from tapeline.indicators.microstructure.quotes import mid_now, now
from tapeline.indicators.specification import indicator
from tapeline.kernels.microstructure.depth import depth_difference, elasticity, side_depth


@indicator(
    "BOOK_SLOPE",
    group="microstructure",
    outputs={"book_slope": "ratio", "book_slope_bid": "ratio", "book_slope_ask": "ratio"},
    source="Næs & Skjeltorp 2006, Journal of Financial Markets 9",
    oracle="formula",
)
def book_slope(
    bid: Expression,
    ask: Expression,
    bid_size: Expression,
    ask_size: Expression,
    bid_2: Expression,
    bid_3: Expression,
    bid_4: Expression,
    bid_5: Expression,
    ask_2: Expression,
    ask_3: Expression,
    ask_4: Expression,
    ask_5: Expression,
    bid_size_2: Expression,
    bid_size_3: Expression,
    bid_size_4: Expression,
    bid_size_5: Expression,
    ask_size_2: Expression,
    ask_size_3: Expression,
    ask_size_4: Expression,
    ask_size_5: Expression,
) -> tuple[Expression, ...]:
    """Slope of the book: growth of the logarithm of accumulated size per growth of price, of both sides and of each."""
    mid = mid_now(bid, ask)
    prices = (bid, bid_2, bid_3, bid_4, bid_5), (ask, ask_2, ask_3, ask_4, ask_5)
    sizes = (bid_size, bid_size_2, bid_size_3, bid_size_4, bid_size_5), (ask_size, ask_size_2, ask_size_3, ask_size_4, ask_size_5)  # fmt: skip
    bought, sold = (
        apply(elasticity, mid, *(now(x) for x in (*price, *size))) for price, size in zip(prices, sizes, strict=True)
    )
    return 0.5 * (bought + sold), bought, sold


@indicator(
    "SCALED_DEPTH",
    group="microstructure",
    outputs={"scaled_depth_bid": "shares", "scaled_depth_ask": "shares", "scaled_depth_difference": "ratio"},
    source="Della Vedova, Gao, Grant & Westerholm, as in frds and mktstructure",
    oracle="orderflow_metrics",
)
def scaled_depth(
    bid: Expression,
    ask: Expression,
    bid_size: Expression,
    ask_size: Expression,
    bid_2: Expression,
    bid_3: Expression,
    bid_4: Expression,
    bid_5: Expression,
    ask_2: Expression,
    ask_3: Expression,
    ask_4: Expression,
    ask_5: Expression,
    bid_size_2: Expression,
    bid_size_3: Expression,
    bid_size_4: Expression,
    bid_size_5: Expression,
    ask_size_2: Expression,
    ask_size_3: Expression,
    ask_size_4: Expression,
    ask_size_5: Expression,
) -> tuple[Expression, ...]:
    """Size queued on five levels over their distance from the mid, relative to it, and the asks' lead over the bids."""
    mid = mid_now(bid, ask)
    bought = outcomes(side_depth, mid, *(now(x) for x in (bid, bid_2, bid_3, bid_4, bid_5)),
                      *(now(x) for x in (bid_size, bid_size_2, bid_size_3, bid_size_4, bid_size_5)))  # fmt: skip
    sold = outcomes(side_depth, mid, *(now(x) for x in (ask, ask_2, ask_3, ask_4, ask_5)),
                    *(now(x) for x in (ask_size, ask_size_2, ask_size_3, ask_size_4, ask_size_5)))  # fmt: skip
    return bought[1], sold[1], apply(depth_difference, bought[0], sold[0])
