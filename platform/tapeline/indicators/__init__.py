"""Technical indicators: specifications over kernels.

An indicator is a function from row columns to expressions, registered with its names, units, bounds and source. To add
one, write such a function in the module of its group; tests, command line and plans find it by introspection.
"""

from __future__ import annotations

from tapeline.indicators import (
    averages,
    candles,
    composites,
    convergence,
    cycles,
    microstructure,
    momentum,
    oscillators,
    scalers,
    statistics,
    stochastics,
    trend,
    volatility,
    volatility_estimators,
    volume,
)
from tapeline.indicators.expression import Expression
from tapeline.indicators.schema import INPUTS, TICK_INPUTS
from tapeline.indicators.specification import (
    SPLIT_EXPONENT,
    Indicator,
    Parameter,
    all_indicators,
    indicator_named,
)

__all__ = [
    "INPUTS",
    "SPLIT_EXPONENT",
    "TICK_INPUTS",
    "Expression",
    "Indicator",
    "Parameter",
    "all_indicators",
    "averages",
    "candles",
    "composites",
    "convergence",
    "cycles",
    "indicator_named",
    "microstructure",
    "momentum",
    "oscillators",
    "scalers",
    "statistics",
    "stochastics",
    "trend",
    "volatility",
    "volatility_estimators",
    "volume",
]
