"""Real bars, and one plan with every indicator, compiled once for all tests."""

from __future__ import annotations

from functools import cache

import numpy as np
from bokeh_sampledata.stocks import GOOG, MSFT
from numpy.typing import NDArray
from tapeline.core.timestamps import DAY_US
from tapeline.features import FeaturePlan, FeatureRequest, sample_rows
from tapeline.indicators import INPUTS, Indicator, all_indicators

Columns = dict[str, NDArray[np.float64]]

_OVER_BARS = tuple(indicator for indicator in all_indicators() if indicator.schema == "bars")
INDICATORS = tuple(indicator for indicator in _OVER_BARS if indicator.group != "candles")
CANDLES = tuple(indicator for indicator in _OVER_BARS if indicator.group == "candles")


@cache
def everything() -> FeaturePlan:
    """Every indicator over bars but the candle patterns, with its defaults."""
    return FeaturePlan.of([FeatureRequest(indicator.name) for indicator in INDICATORS])


@cache
def candles() -> FeaturePlan:
    """Every candle pattern with its defaults: a plan of their own."""
    return FeaturePlan.of([FeatureRequest(indicator.name) for indicator in CANDLES])


def _columns(stock: dict[str, list[float]]) -> Columns:
    columns = {name: np.array(stock[name], dtype=np.float64) for name in INPUTS if name != "session"}
    columns["session"] = np.arange(len(columns["close"]), dtype=np.float64) // 5  # trading weeks, near enough
    return columns


@cache
def goog() -> Columns:
    """GOOG daily, 2,148 rows without a split, as traded."""
    return _columns(GOOG)


@cache
def msft() -> Columns:
    """MSFT daily, 3,270 rows with a 2-for-1 split."""
    return _columns(MSFT)


def rows_of(plan: FeaturePlan, columns: Columns) -> NDArray[np.float64]:
    """The plan's row columns; no splits unless the columns say so."""
    return sample_rows.rows_of(plan.inputs, columns)


def times(count: int) -> NDArray[np.int64]:
    """A time for each row."""
    return (np.arange(count, dtype=np.int64) + 12_000) * DAY_US


def compute(plan: FeaturePlan, columns: Columns) -> NDArray[np.float64]:
    """Batch over one entity."""
    rows = rows_of(plan, columns)
    at = times(len(rows))
    features, _ = plan.batch(at, np.zeros(len(rows), np.int64), at, rows, np.array([0, len(rows)]))
    return features


@cache
def goog_features() -> NDArray[np.float64]:
    """Everything over GOOG; not to be changed."""
    features = compute(everything(), goog())
    features.setflags(write=False)
    return features


def positions(indicator: Indicator) -> list[int]:
    """Output positions of an indicator in :func:`everything`."""
    return [everything().outputs.index(column) for column in indicator.columns({})]


def same_bits(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Equal bit for bit, NaN where NaN."""
    return a.shape == b.shape and np.array_equal(
        np.ascontiguousarray(a).view(np.int64), np.ascontiguousarray(b).view(np.int64)
    )
