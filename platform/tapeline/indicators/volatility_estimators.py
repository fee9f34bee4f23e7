"""Volatility of one row's logarithmic move, estimated from returns, ranges and gaps."""

from __future__ import annotations

import math

from tapeline.indicators.averages import simple
from tapeline.indicators.expression import UNDEFINED, Expression, apply, outcomes
from tapeline.indicators.specification import indicator
from tapeline.kernels.arithmetic import logarithm, ratio, square_root
from tapeline.kernels.moments import moments
from tapeline.kernels.rolling import lag, rolling_sum


def logarithm_of_ratio(numerator: Expression, denominator: Expression) -> Expression:
    """Logarithm of a ratio of prices."""
    return apply(logarithm, apply(ratio, numerator, denominator, UNDEFINED))


def log_return(x: Expression, n: int) -> Expression:
    """Logarithm of the ratio to the value n rows ago."""
    return logarithm_of_ratio(x, apply(lag, x, n))


@indicator(
    "PARKINSON",
    group="volatility",
    outputs={"parkinson": "logarithm"},
    source="Parkinson 1980, Journal of Business 53:1",
    oracle="formula",
)
def parkinson(high: Expression, low: Expression, timeperiod: int = 20) -> Expression:
    """Volatility of one row from its range: √(mean(ln²(H/L)) / (4·ln 2))."""
    reach = logarithm_of_ratio(high, low)
    return apply(square_root, simple(reach * reach, timeperiod) / (4.0 * math.log(2.0)))


@indicator(
    "GARMAN_KLASS",
    group="volatility",
    outputs={"garman_klass": "logarithm"},
    source="Garman & Klass 1980, Journal of Business 53:1, the practical estimator",
    oracle="formula",
)
def garman_klass(
    open: Expression,  # noqa: A002
    high: Expression,
    low: Expression,
    close: Expression,
    timeperiod: int = 20,
) -> Expression:
    """Volatility of one row from open, range and close: √mean(½·ln²(H/L) − (2·ln 2 − 1)·ln²(C/O))."""
    reach = logarithm_of_ratio(high, low)
    body = logarithm_of_ratio(close, open)
    variance = 0.5 * (reach * reach) - (2.0 * math.log(2.0) - 1.0) * (body * body)
    return apply(square_root, simple(variance, timeperiod))


def rogers_satchell_variance(
    open_: Expression, high: Expression, low: Expression, close: Expression, n: int
) -> Expression:
    """Rogers and Satchell's variance of one row, free of drift: mean of u·(u − c) + d·(d − c), logarithms over the open."""
    up, down, end = (logarithm_of_ratio(price, open_) for price in (high, low, close))
    return simple(up * (up - end) + down * (down - end), n)


@indicator(
    "ROGERS_SATCHELL",
    group="volatility",
    outputs={"rogers_satchell": "logarithm"},
    source="Rogers & Satchell 1991, Annals of Applied Probability 1:4",
    oracle="formula",
)
def rogers_satchell(
    open: Expression,  # noqa: A002
    high: Expression,
    low: Expression,
    close: Expression,
    timeperiod: int = 20,
) -> Expression:
    """Volatility of one row whatever the drift: √mean(u·(u − c) + d·(d − c)) of ln H/O, ln L/O and ln C/O."""
    return apply(square_root, rogers_satchell_variance(open, high, low, close, timeperiod))


@indicator(
    "YANG_ZHANG",
    group="volatility",
    outputs={"yang_zhang": "logarithm"},
    source="Yang & Zhang 2000, Journal of Business 73:3, k at its minimum of variance (α = 1.34)",
    oracle="formula",
)
def yang_zhang(
    open: Expression,  # noqa: A002
    high: Expression,
    low: Expression,
    close: Expression,
    timeperiod: int = 20,
) -> Expression:
    """Volatility of one row with its gap: √(Var(ln O/C₋₁) + k·Var(ln C/O) + (1−k)·RS²), sample variances."""
    n = timeperiod
    weight = 0.34 / (1.34 + (n + 1) / (n - 1))
    jump = logarithm_of_ratio(open, apply(lag, close, 1))
    night, day = (outcomes(moments, x, n)[1] / (n - 1) for x in (jump, logarithm_of_ratio(close, open)))
    inside = rogers_satchell_variance(open, high, low, close, n)
    return apply(square_root, night + weight * day + (1.0 - weight) * inside)


@indicator(
    "REALIZED_VOL",
    group="volatility",
    outputs={"realized_vol": "logarithm"},
    source="Andersen, Bollerslev, Diebold & Labys 2003, Econometrica 71:2",
    oracle="formula",
)
def realized_vol(close: Expression, timeperiod: int = 20) -> Expression:
    """Realised volatility: root of the sum of squared log returns of the last n rows."""
    change = log_return(close, 1)
    return apply(square_root, apply(rolling_sum, change * change, timeperiod))
