"""Spreads estimated from bars alone."""

from __future__ import annotations

from tapeline.indicators.expression import Expression, apply
from tapeline.indicators.specification import PERIOD_MAX, indicator
from tapeline.kernels.arithmetic import absolute, sign, square_root
from tapeline.kernels.microstructure.bar_spreads import close_to_mid_ranges, high_low_spread, root_of_positive
from tapeline.kernels.microstructure.edge import edge_square
from tapeline.kernels.rolling import lag, rolling_sum


@indicator(
    "CORWIN_SCHULTZ",
    group="microstructure",
    outputs={"corwin_schultz": "ratio"},
    source="Corwin & Schultz 2012, Journal of Finance 67; negative estimates of a pair as 0, no overnight adjustment",
    oracle="orderflow_metrics",
)
def corwin_schultz(high: Expression, low: Expression, window: int = 21) -> Expression:
    """Corwin and Schultz's spread from highs and lows: mean over the pairs of successive bars in the window."""
    pair = apply(high_low_spread, apply(lag, high, 1), apply(lag, low, 1), high, low)
    return apply(rolling_sum, pair, window - 1) / (window - 1)


@indicator(
    "ABDI_RANALDO",
    group="microstructure",
    outputs={"abdi_ranaldo": "ratio"},
    source="Abdi & Ranaldo 2017, Review of Financial Studies 30; corrected over the window, 0 where it is negative",
    oracle="orderflow_metrics",
)
def abdi_ranaldo(high: Expression, low: Expression, close: Expression, window: int = 21) -> Expression:
    """Abdi and Ranaldo's spread from closes and the mid-ranges around them, over the pairs of bars in the window."""
    pair = apply(close_to_mid_ranges, apply(lag, close, 1), apply(lag, high, 1), apply(lag, low, 1), high, low)
    mean = apply(rolling_sum, pair, window - 1) / (window - 1)
    return apply(root_of_positive, 4.0 * mean)


@indicator(
    "EDGE",
    group="microstructure",
    outputs={"edge": "ratio"},
    source="Ardia, Guidotti & Kroencke 2024, Journal of Financial Economics 161",
    oracle="bidask",
    bounds={"window": (3, PERIOD_MAX), "signed": (0, 1)},
    quiet=("signed",),
)
def edge(
    open: Expression,  # noqa: A002
    high: Expression,
    low: Expression,
    close: Expression,
    window: int = 21,
    signed: int = 0,
) -> Expression:
    """EDGE, the efficient spread estimator from open, high, low and close; ``signed`` keeps the sign of the estimate."""
    square = apply(edge_square, open, high, low, close, window - 1)
    root = apply(square_root, apply(absolute, square))
    return root * apply(sign, square) if signed else root
