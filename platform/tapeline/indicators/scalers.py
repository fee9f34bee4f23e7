"""Point-in-time forms of scalers: each value against the last n, itself included. Of the standard scaler it is ZSCORE."""

from __future__ import annotations

from tapeline.indicators.expression import UNDEFINED, Expression, apply, outcomes
from tapeline.indicators.specification import indicator
from tapeline.kernels.arithmetic import ratio
from tapeline.kernels.quartiles import quartiles
from tapeline.kernels.rolling import highest, lowest


@indicator(
    "MINMAX_SCALE",
    group="statistics",
    outputs={"minmax_scale": "ratio"},
    source="scikit-learn MinMaxScaler, fitted on the last n rows",
    oracle="formula",
)
def minmax_scale(close: Expression, timeperiod: int = 20) -> Expression:
    """Place of the close between the lowest (0) and the highest (1) of the last n; undefined where they are equal."""
    low = outcomes(lowest, close, timeperiod)[0]
    return apply(ratio, close - low, outcomes(highest, close, timeperiod)[0] - low, UNDEFINED)


@indicator(
    "ROBUST_SCALE",
    group="statistics",
    outputs={"robust_scale": "ratio"},
    source="scikit-learn RobustScaler, fitted on the last n rows",
    oracle="formula",
)
def robust_scale(close: Expression, timeperiod: int = 20) -> Expression:
    """Close less the median of the last n, in their interquartile ranges; undefined where that is 0."""
    lower, median, upper = outcomes(quartiles, close, timeperiod)
    return apply(ratio, close - median, upper - lower, UNDEFINED)
