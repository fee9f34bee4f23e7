"""Volatility, statistics, momentum and composites on coarse bars: ties, dojis, gaps, flat spells, rows without volume."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from tapeline.indicators import Indicator

from tests.indicators.market import INDICATORS, Columns, compute, everything, positions
from tests.indicators.references import expected
from tests.indicators.references.arithmetic import Array
from tests.indicators.references.candles import bars

COUNT = 6_000
COMPARED = [i for i in INDICATORS if i.group in {"volatility", "statistics", "momentum", "composites"}]


@cache
def _bars() -> Columns:
    """Bars on quarters, of which every 400 some stand still, for longer than any window or shorter."""
    rng = np.random.default_rng(31)
    columns = bars(COUNT, seed=31)
    for start in range(300, COUNT - 400, 400):
        flat = slice(start, start + int(rng.integers(2, 130)))
        for name in columns:
            columns[name][flat] = columns["close"][start]
    return columns | {"volume": rng.integers(0, 3, COUNT) * 100.0, "session": np.arange(COUNT) // 50.0}


@cache
def _features() -> Array:
    return compute(everything(), _bars())


@pytest.mark.parametrize("indicator", COMPARED, ids=lambda indicator: indicator.name)
def test_agrees_with_its_oracle_there_too(indicator: Indicator) -> None:
    with np.errstate(invalid="ignore", divide="ignore"):
        references = expected(indicator, _bars())
    for position, reference in zip(positions(indicator), references, strict=True):
        ours, known = _features()[:, position], ~np.isnan(reference)
        assert np.array_equal(~np.isnan(ours), known)
        typical = np.median(np.abs(reference[known]))
        np.testing.assert_allclose(ours[known], reference[known], rtol=1e-9, atol=1e-9 * typical)


def test_the_bars_are_what_they_are_for() -> None:
    columns = _bars()
    assert (columns["high"] == columns["low"]).sum() > 500
    assert (np.diff(columns["close"]) == 0).sum() > 500
    assert (columns["volume"] == 0).sum() > 500
    assert np.isnan(_features()[1_000:, everything().outputs.index("zscore_30")]).sum() > 100
