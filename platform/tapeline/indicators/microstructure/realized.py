"""Realised variance of trade prices: with its jumps, and without the noise of single trades."""

from __future__ import annotations

import math

from tapeline.indicators.expression import UNDEFINED, Expression, apply, outcomes
from tapeline.indicators.microstructure.bounds import below
from tapeline.indicators.specification import indicator
from tapeline.kernels.arithmetic import absolute, larger, logarithm, ratio
from tapeline.kernels.microstructure.current import of_last
from tapeline.kernels.microstructure.realized import kernel_variance
from tapeline.kernels.moments import moments
from tapeline.kernels.rolling import lag, rolling_sum

_BNS = "Barndorff-Nielsen & Shephard 2004, Journal of Financial Econometrics 2"


def _returns(price: Expression, n: int = 1) -> Expression:
    """Logarithmic returns over n trades."""
    return apply(logarithm, apply(ratio, price, apply(lag, price, n), UNDEFINED))


def _variance(price: Expression, window: int) -> Expression:
    change = _returns(price)
    return apply(rolling_sum, change * change, window)


def _bipower(price: Expression, window: int) -> Expression:
    size = apply(absolute, _returns(price))
    pairs = size * apply(lag, size, 1)
    return (0.5 * math.pi) * apply(rolling_sum, pairs, window - 1)


@indicator(
    "REALIZED_VARIANCE",
    group="microstructure",
    outputs={"realized_variance": "ratio"},
    source="Andersen, Bollerslev, Diebold & Labys 2003, Econometrica 71",
    oracle="orderflow_metrics",
)
def realized_variance(price: Expression, window: int = 100) -> Expression:
    """Realised variance: sum of the squares of the last logarithmic returns from trade to trade."""
    return apply(of_last, price, _variance(price, window))


@indicator(
    "BIPOWER_VARIATION",
    group="microstructure",
    outputs={"bipower_variation": "ratio"},
    source=_BNS,
    oracle="orderflow_metrics",
)
def bipower_variation(price: Expression, window: int = 100) -> Expression:
    """Bipower variation: π/2 times the sum of products of neighbouring absolute returns; what jumps leave out."""
    return apply(of_last, price, _bipower(price, window))


@indicator(
    "JUMP_VARIATION",
    group="microstructure",
    outputs={"jump_variation": "ratio", "jump_share": "ratio"},
    source=_BNS,
    oracle="orderflow_metrics",
)
def jump_variation(price: Expression, window: int = 100) -> tuple[Expression, ...]:
    """Jumps: realised variance less bipower variation, not below 0, and its share of the realised variance."""
    total = _variance(price, window)
    jumps = apply(larger, total - _bipower(price, window), 0.0 * total)
    return apply(of_last, price, jumps), apply(of_last, price, apply(ratio, jumps, total, 0.0))


@indicator(
    "TWO_SCALE_VARIANCE",
    group="microstructure",
    outputs={"two_scale_variance": "ratio"},
    source="Zhang, Mykland & Aït-Sahalia 2005, Journal of the American Statistical Association 100; small-sample form",
    oracle="orderflow_metrics",
)
def two_scale_variance(price: Expression, scale: int = 5, window: int = 100) -> Expression:
    """Two-scale realised variance: mean over sparse grids, less what noise adds to it, by the finest grid."""
    below("scale", scale, "1 + half the window,", 1 + window // 2, "TWO_SCALE_VARIANCE")
    sparse = _returns(price, scale)
    mean = apply(rolling_sum, sparse * sparse, window - scale + 1) / scale
    share = (window - scale + 1) / scale / window
    return apply(of_last, price, (mean - share * _variance(price, window)) / (1.0 - share))


@indicator(
    "REALIZED_KERNEL",
    group="microstructure",
    outputs={"realized_kernel": "ratio"},
    source="Barndorff-Nielsen, Hansen, Lunde & Shephard 2008, Econometrica 76; Parzen's weights, no jitter at the ends",
    oracle="orderflow_metrics",
    bounds={"lags": (1, 1_000)},
)
def realized_kernel(price: Expression, lags: int = 10, window: int = 100) -> Expression:
    """Realised kernel: variance and weighted autocovariances of the last returns, robust to the noise of single trades."""
    below("lags", lags, "window", window, "REALIZED_KERNEL")
    return apply(of_last, price, apply(kernel_variance, _returns(price), window, lags))


@indicator(
    "VARIANCE_RATIO",
    group="microstructure",
    outputs={"variance_ratio": "ratio"},
    source="Lo & MacKinlay 1988, Review of Financial Studies 1; overlapping, unbiased",
    oracle="orderflow_metrics",
)
def variance_ratio(price: Expression, q: int = 5, window: int = 100) -> Expression:
    """Variance ratio: variance of returns over q trades, over q times that of returns over one; 1 for a random walk."""
    below("q", q, "window", window, "VARIANCE_RATIO")
    mean, squares = outcomes(moments, _returns(price), window)
    overlapping = window - q + 1
    long_mean, long_squares = outcomes(moments, _returns(price, q), overlapping)
    off = long_mean - q * mean
    # Deviations are from q times the mean of one-trade returns, not from the mean of the long ones.
    about = long_squares + overlapping * (off * off)
    scale = (window - 1) / (q * overlapping * (1.0 - q / window))
    return apply(of_last, price, scale * apply(ratio, about, squares, UNDEFINED))
