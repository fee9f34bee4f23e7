"""Prices of a bar that stand for the whole of it."""

from __future__ import annotations

from tapeline.indicators.expression import Expression


def typical_price(high: Expression, low: Expression, close: Expression) -> Expression:
    """Mean of high, low and close."""
    return (high + low + close) / 3.0


def average_price(open_: Expression, high: Expression, low: Expression, close: Expression) -> Expression:
    """Mean of the four prices of a bar."""
    return (open_ + high + low + close) / 4.0
