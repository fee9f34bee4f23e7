"""TA-Lib's 61 candle patterns, each one output of −200 to 200, from conditions and averages that all of them share."""

from __future__ import annotations

from tapeline.indicators.candles import advancing, candle, double, longer, single, triple

__all__ = ["advancing", "candle", "double", "longer", "single", "triple"]
