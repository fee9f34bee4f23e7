"""Order flow: changes of the queues, signed trades, and buckets of equal volume."""

from __future__ import annotations

from functools import reduce

from tapeline.indicators.expression import UNDEFINED, Expression, apply, guard, outcomes
from tapeline.indicators.microstructure.bounds import below
from tapeline.indicators.microstructure.quotes import before, now
from tapeline.indicators.microstructure.signs import direction
from tapeline.indicators.schema import LEVELS
from tapeline.indicators.specification import PERIOD_MAX, indicator
from tapeline.kernels.arithmetic import ratio
from tapeline.kernels.microstructure.current import either, of_last
from tapeline.kernels.microstructure.flow import order_flow
from tapeline.kernels.microstructure.volume_clock import classified_buckets
from tapeline.kernels.rolling import lag, rolling_sum

_FROM_ONE = (1, PERIOD_MAX)


def _change(
    event: Expression, bid: Expression, bid_size: Expression, ask: Expression, ask_size: Expression
) -> Expression:
    """What one change of the book adds to a level's bids less what it adds to its asks."""
    quotes = (side(x) for x in (bid, bid_size, ask, ask_size) for side in (before, now))
    return apply(order_flow, event, *quotes)


def _any(*columns: Expression) -> Expression:
    """1 in a row that carries at least one of the columns, else NaN."""
    return reduce(lambda a, b: apply(either, a, b), columns)


@indicator(
    "OFI",
    group="microstructure",
    outputs={"ofi": "shares"},
    source="Cont, Kukanov & Stoikov 2014, Journal of Financial Econometrics 12",
    oracle="orderflow_metrics",
    bounds={"window": _FROM_ONE},
)
def ofi(bid: Expression, ask: Expression, bid_size: Expression, ask_size: Expression, window: int = 100) -> Expression:
    """Order-flow imbalance at the best quotes over the last changes of the book."""
    event = _any(bid, ask, bid_size, ask_size)
    return apply(of_last, event, apply(rolling_sum, _change(event, bid, bid_size, ask, ask_size), window))


@indicator(
    "MLOFI",
    group="microstructure",
    outputs={f"mlofi_{level}": "shares" for level in range(1, LEVELS + 1)},
    source="Xu, Gould & Howison 2019, Market Microstructure and Liquidity 4",
    oracle="orderflow_metrics",
    bounds={"window": _FROM_ONE},
)
def mlofi(
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
    window: int = 100,
) -> tuple[Expression, ...]:
    """Order-flow imbalance at each of five levels over the last changes of the book."""
    bids = (bid, bid_2, bid_3, bid_4, bid_5)
    asks = (ask, ask_2, ask_3, ask_4, ask_5)
    bid_sizes = (bid_size, bid_size_2, bid_size_3, bid_size_4, bid_size_5)
    ask_sizes = (ask_size, ask_size_2, ask_size_3, ask_size_4, ask_size_5)
    event = _any(*bids, *asks, *bid_sizes, *ask_sizes)
    return tuple(
        apply(of_last, event, apply(rolling_sum, _change(event, *level), window))
        for level in zip(bids, bid_sizes, asks, ask_sizes, strict=True)
    )


@indicator(
    "TRADE_IMBALANCE",
    group="microstructure",
    outputs={"trade_imbalance": "ratio"},
    source="Chordia, Roll & Subrahmanyam 2002, Journal of Financial Economics 65",
    oracle="orderflow_metrics",
    bounds={"window": _FROM_ONE},
)
def trade_imbalance(
    price: Expression, size: Expression, side: Expression, bid: Expression, ask: Expression, window: int = 100
) -> Expression:
    """Size bought less size sold over the last trades, relative to all size traded; from −1 to 1."""
    signed, total = guard(direction(price, side, bid, ask) * size, size)
    bought = apply(rolling_sum, signed, window)
    return apply(of_last, signed, apply(ratio, bought, apply(rolling_sum, total, window), UNDEFINED))


@indicator(
    "SIGN_AUTOCORRELATION",
    group="microstructure",
    outputs={"sign_autocorrelation": "ratio"},
    source="Lillo & Farmer 2004, Studies in Nonlinear Dynamics & Econometrics 8; Box & Jenkins' estimator",
    oracle="orderflow_metrics",
    bounds={"lags": _FROM_ONE},
)
def sign_autocorrelation(
    price: Expression, side: Expression, bid: Expression, ask: Expression, lags: int = 1, window: int = 100
) -> Expression:
    """Autocorrelation of the signs of the last trades; undefined (NaN) while all have one sign."""
    below("lags", lags, "window", window, "SIGN_AUTOCORRELATION")
    sign = direction(price, side, bid, ask)
    earlier = apply(lag, sign, lags)
    pairs = window - lags
    # Sums of −1, 0 and 1 are exact, so nothing can cancel.
    mean = apply(rolling_sum, sign, window) / window
    ends = apply(rolling_sum, sign, pairs) + apply(rolling_sum, earlier, pairs)
    products = apply(rolling_sum, sign * earlier, pairs) - mean * ends + mean * mean * pairs
    squares = apply(rolling_sum, sign * sign, window) - mean * mean * window
    return apply(of_last, price, apply(ratio, products, squares, UNDEFINED))


def _buckets(price: Expression, size: Expression, bucket_size: float, window: int) -> tuple[Expression, ...]:
    values = outcomes(classified_buckets, *guard(price, size), bucket_size, window)
    return tuple(apply(of_last, values[0], value) for value in values)


_VOLUME_CLOCK = {"bucket_size": (1e-9, 1e15)}
_EASLEY = "Easley, López de Prado & O'Hara 2012, Review of Financial Studies 25"


@indicator(
    "VPIN",
    group="microstructure",
    outputs={"vpin": "ratio"},
    source=_EASLEY,
    bounds=_VOLUME_CLOCK,
    oracle="formula",
)
def vpin(price: Expression, size: Expression, bucket_size: float = 1_000.0, window: int = 50) -> Expression:
    """VPIN: share of volume that is one-sided, over the last buckets of equal volume, classified in bulk.

    ``bucket_size`` is in shares of the first row's day; a usual choice is a fiftieth of a day's volume. σ is the standard
    deviation of the price changes of the same buckets.
    """
    return _buckets(price, size, bucket_size, window)[0]


@indicator(
    "BVC",
    group="microstructure",
    outputs={"bvc_buy": "shares", "bvc_sell": "shares"},
    source=_EASLEY,
    bounds=_VOLUME_CLOCK,
    oracle="formula",
)
def bvc(price: Expression, size: Expression, bucket_size: float = 1_000.0, window: int = 50) -> tuple[Expression, ...]:
    """Bulk volume classification: volume bought and sold in the last bucket, V·Φ(Δp/σ) and the rest; see VPIN."""
    return _buckets(price, size, bucket_size, window)[1:]
