"""Momentum and reversion: returns, distances and z-scores."""

from __future__ import annotations

from tapeline.indicators.averages import simple
from tapeline.indicators.expression import UNDEFINED, Expression, apply
from tapeline.indicators.specification import PERIOD_MAX, indicator
from tapeline.indicators.statistics import z_score
from tapeline.indicators.volatility_estimators import log_return
from tapeline.kernels.arithmetic import ratio
from tapeline.kernels.rolling import highest, lag, lowest

_FROM_ONE = {"timeperiod": (1, PERIOD_MAX)}


def simple_return(x: Expression, before: Expression) -> Expression:
    """Relative change against an earlier value."""
    return apply(ratio, x, before, UNDEFINED) - 1.0


@indicator(
    "RETURN", group="momentum", outputs={"return": "ratio"}, source="definition", oracle="formula", bounds=_FROM_ONE
)
def return_(close: Expression, timeperiod: int = 1) -> Expression:
    """Simple return over n rows."""
    return simple_return(close, apply(lag, close, timeperiod))


@indicator(
    "LOG_RETURN",
    group="momentum",
    outputs={"log_return": "logarithm"},
    source="definition",
    oracle="formula",
    bounds=_FROM_ONE,
)
def log_return_(close: Expression, timeperiod: int = 1) -> Expression:
    """Logarithmic return over n rows."""
    return log_return(close, timeperiod)


@indicator("PRICE_Z", group="momentum", outputs={"price_z": "ratio"}, source="definition", oracle="formula")
def price_z(close: Expression, timeperiod: int = 20) -> Expression:
    """Close in population standard deviations from its mean; undefined where prices are constant."""
    return z_score(close, timeperiod, degrees_lost=0)


@indicator("VOLUME_Z", group="momentum", outputs={"volume_z": "ratio"}, source="definition", oracle="formula")
def volume_z(volume: Expression, timeperiod: int = 20) -> Expression:
    """Volume in population standard deviations from its mean; undefined where volume is constant."""
    return z_score(volume, timeperiod, degrees_lost=0)


@indicator("DIST_SMA", group="momentum", outputs={"dist_sma": "ratio"}, source="definition", oracle="formula")
def dist_sma(close: Expression, timeperiod: int = 50) -> Expression:
    """Relative distance of the close from its simple moving average."""
    return simple_return(close, simple(close, timeperiod))


@indicator(
    "HIGH_52W",
    group="momentum",
    outputs={"high_52w": "ratio"},
    source="George & Hwang 2004, Journal of Finance 59:5",
    oracle="formula",
    quiet=("timeperiod",),
)
def high_52w(high: Expression, close: Expression, timeperiod: int = 252) -> Expression:
    """Close over the highest high of a year of sessions."""
    return apply(ratio, close, apply(highest, high, timeperiod), UNDEFINED)


@indicator(
    "LOW_52W",
    group="momentum",
    outputs={"low_52w": "ratio"},
    source="George & Hwang 2004, Journal of Finance 59:5, mirrored",
    oracle="formula",
    quiet=("timeperiod",),
)
def low_52w(low: Expression, close: Expression, timeperiod: int = 252) -> Expression:
    """Close over the lowest low of a year of sessions."""
    return apply(ratio, close, apply(lowest, low, timeperiod), UNDEFINED)


@indicator("GAP", group="momentum", outputs={"gap": "ratio"}, source="definition", oracle="formula")
def gap(open: Expression, close: Expression) -> Expression:  # noqa: A002
    """Open relative to the previous close."""
    return simple_return(open, apply(lag, close, 1))
