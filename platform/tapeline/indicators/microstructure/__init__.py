"""Microstructure: spreads, price impact, order flow and the book, most of them over ticks, some over bars.

A feature over ticks gives its current value in every row: what the last trade, or the book after the last update, makes
it. It changes only with events that it is about. A value that needs the future of its trade stands in the row that
completes that future, and is available with it.
"""

from __future__ import annotations

from tapeline.indicators.microstructure import (
    bar_spreads,
    costs,
    depth,
    estimated,
    flow,
    impact,
    quotes,
    realized,
    signs,
)

__all__ = ["bar_spreads", "costs", "depth", "estimated", "flow", "impact", "quotes", "realized", "signs"]
