"""What the pictures show: every feature over real daily bars, or over simulated ticks where it reads those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from bokeh_sampledata.stocks import GOOG
from numpy.typing import NDArray
from tapeline.core.timestamps import DAY_US
from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.features.sample_rows import rows_of, sample_ticks
from tapeline.indicators import INPUTS, Indicator

Floats = NDArray[np.float64]
TICKS = 20_000

BARS_NAME = "GOOG, daily bars as traded"
TICKS_NAME = "simulated ticks"


@dataclass(frozen=True)
class Series:
    """A feature's values beside the price: all float64 (N,); ``places`` are texts for the rows, such as dates."""

    title: str
    price: Floats
    values: Mapping[str, Floats]
    places: Sequence[str]


def series(indicators: Sequence[Indicator]) -> dict[str, Series]:
    """Feature name → its values with default parameters; the plans are those of the test suite, compiled once for both."""
    ticks = [indicator for indicator in indicators if indicator.schema == "ticks"]
    candles = [indicator for indicator in indicators if indicator.group == "candles"]
    bars = [indicator for indicator in indicators if indicator not in ticks and indicator not in candles]
    found: dict[str, Series] = {}
    for chosen, compute in ((bars, _bars), (candles, _bars), (ticks, _ticks)):
        if chosen:
            found |= compute(chosen)
    return found


def _computed(
    indicators: Sequence[Indicator], columns: dict[str, Floats], event_us: NDArray[np.int64]
) -> dict[str, Floats]:
    plan = FeaturePlan.of([FeatureRequest(indicator.name) for indicator in indicators])
    rows = rows_of(plan.inputs, columns)
    count = len(rows)
    features, _ = plan.batch(event_us, np.arange(count), event_us, rows, np.array([0, count]))
    return dict(zip(plan.outputs, features.T, strict=True))


def _bars(indicators: Sequence[Indicator]) -> dict[str, Series]:
    columns = {name: np.array(GOOG[name], dtype=np.float64) for name in INPUTS if name != "session"}
    days = [date.fromisoformat(day) for day in GOOG["date"]]
    columns["session"] = np.array([day.isocalendar().week for day in days], dtype=np.float64)
    event_us = np.array([day.toordinal() for day in days], dtype=np.int64) * DAY_US
    computed = _computed(indicators, columns, event_us)
    return {
        indicator.name: Series(
            BARS_NAME, columns["close"], {name: computed[name] for name in indicator.columns({})}, GOOG["date"]
        )
        for indicator in indicators
    }


def _ticks(indicators: Sequence[Indicator]) -> dict[str, Series]:
    columns = sample_ticks(TICKS)
    computed = _computed(indicators, columns, columns["time"].astype(np.int64))
    price = columns["price"].copy()
    known = np.maximum.accumulate(np.where(np.isnan(price), 0, np.arange(TICKS)))
    places = [f"event {number}" for number in range(TICKS)]
    return {
        indicator.name: Series(
            TICKS_NAME, price[known], {name: computed[name] for name in indicator.columns({})}, places
        )
        for indicator in indicators
    }
