"""Bars of a time frame made the plain way: rows grouped by the bar they belong to, in lists."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tapeline.features import FeaturePlan, FeatureRequest

Rows = Sequence[tuple[int, dict[str, float]]]
"""Base rows: time, columns."""


@dataclass
class Grouped:
    """A frame bar: its end, the rows in it, and the number of the base row that finishes it (None: none so far)."""

    end_us: int
    rows: list[dict[str, float]]
    finished_by: int | None = None


def group(rows: Rows, end_of: Callable[[int], int | None], *, moments: bool = False) -> list[Grouped]:
    """Bars in order. A row goes into the bar in which it ends, or, of a moment, in which it lies."""
    bars: list[Grouped] = []
    for number, (event_us, columns) in enumerate(rows):
        moment_us = event_us if moments else event_us - 1
        end_us = end_of(moment_us)
        last = bars[-1] if bars else None
        if last and last.finished_by is None and (moment_us >= last.end_us or (end_us or 0) > last.end_us):
            last.finished_by = number
        if end_us is None or (last and last.finished_by is not None and end_us <= last.end_us):
            continue
        if last is None or last.finished_by is not None:
            bars.append(Grouped(end_us, []))
        bars[-1].rows.append(columns)
        if event_us >= end_us:
            bars[-1].finished_by = number
    return bars


def bar_of(rows: list[dict[str, float]]) -> dict[str, float]:
    """Columns of a bar; each takes the rows in which it is valid."""

    def valid(name: str) -> list[float]:
        lowest = 0.0 if name == "volume" else math.ulp(0.0)
        return [row[name] for row in rows if lowest <= row[name] < math.inf]

    def choose(name: str, how: Callable[[list[float]], float]) -> float:
        return how(valid(name)) if valid(name) else math.nan

    def total(values: list[float]) -> float:
        result = values[0]
        for value in values[1:]:
            result += value
        return result

    return {
        "open": choose("open", lambda v: v[0]),
        "high": choose("high", max),
        "low": choose("low", min),
        "close": choose("close", lambda v: v[-1]),
        "volume": choose("volume", total),
    }


def values_of_bars(requests: Sequence[FeatureRequest], bars: Sequence[dict[str, float]]) -> NDArray[np.float64]:
    """Features of bars by a plan of their own."""
    plan = FeaturePlan.of(requests)
    rows = np.array([[(bar | {"split_ratio": 1.0})[name] for name in plan.inputs] for bar in bars])
    at = np.arange(len(bars), dtype=np.int64)
    features, _ = plan.batch(at, at, at, rows.reshape(len(bars), len(plan.inputs)), np.array([0, len(bars)]))
    return features


def expected(
    requests: Sequence[FeatureRequest],
    rows: Rows,
    end_of: Callable[[int], int | None],
    *,
    moments: bool = False,
    partial: bool = False,
) -> NDArray[np.float64]:
    """What each base row must show of features over a frame's bars, shape (rows, outputs)."""
    width = len(FeaturePlan.of(requests).outputs)
    result = np.full((len(rows), width), math.nan)
    if not partial:
        bars = [bar for bar in group(rows, end_of, moments=moments) if bar.finished_by is not None]
        features = values_of_bars(requests, [bar_of(bar.rows) for bar in bars])
        for bar, values in zip(bars, features, strict=True):
            result[bar.finished_by :] = values
        return result
    for number in range(len(rows)):  # from scratch for each row, its bar cut off there
        bars = group(rows[: number + 1], end_of, moments=moments)
        if bars:
            result[number] = values_of_bars(requests, [bar_of(bar.rows) for bar in bars])[-1]
    return result
