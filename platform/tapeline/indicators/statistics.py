"""Statistics of a window."""

from __future__ import annotations

from tapeline.indicators.expression import UNDEFINED, Expression, apply, outcomes
from tapeline.indicators.specification import indicator
from tapeline.kernels.arithmetic import ratio, square_root
from tapeline.kernels.moments import correlation, line, moments


@indicator("LINEARREG", group="statistics", outputs={"linearreg": "price"}, source="TA-Lib TA_LINEARREG")
def linearreg(close: Expression, timeperiod: int = 14) -> Expression:
    """Value at the newest row of the least-squares line through the last n closes."""
    return outcomes(line, close, timeperiod)[0]


@indicator(
    "LINEARREG_SLOPE", group="statistics", outputs={"linearreg_slope": "price"}, source="TA-Lib TA_LINEARREG_SLOPE"
)
def linearreg_slope(close: Expression, timeperiod: int = 14) -> Expression:
    """Slope, in price per row, of the least-squares line through the last n closes."""
    return outcomes(line, close, timeperiod)[1]


@indicator("CORREL", group="statistics", outputs={"correl": "ratio"}, source="Pearson; TA-Lib TA_CORREL")
def correl(high: Expression, low: Expression, timeperiod: int = 30) -> Expression:
    """Correlation of highs and lows; 0 where either is constant."""
    return apply(correlation, high, low, timeperiod)


def z_score(x: Expression, n: int, degrees_lost: int) -> Expression:
    """Deviation from the mean of the last n values in their standard deviations; undefined where they are equal."""
    mean, squares = outcomes(moments, x, n)
    return apply(ratio, x - mean, apply(square_root, squares / (n - degrees_lost)), UNDEFINED)


@indicator("ZSCORE", group="statistics", outputs={"zscore": "ratio"}, source="pandas-ta zscore", oracle="formula")
def zscore(close: Expression, timeperiod: int = 30) -> Expression:
    """Close in sample standard deviations from its mean; undefined where prices are constant."""
    return z_score(close, timeperiod, degrees_lost=1)
