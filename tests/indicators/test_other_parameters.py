"""Volatility and statistics with other parameters than their defaults, the shortest periods among them, against TA-Lib."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import talib.abstract
from tapeline.features import FeaturePlan, FeatureRequest

from tests.indicators.market import compute, goog
from tests.indicators.references import TALIB_NAMES

Parameters = dict[str, float]

CASES: list[tuple[str, Parameters]] = [
    ("KELTNER", {"timeperiod": 5, "atrperiod": 14, "nbdev": 1.5}),
    ("KELTNER", {"timeperiod": 15, "atrperiod": 14}),
    ("KELTNER", {"timeperiod": 2, "atrperiod": 1}),
    ("KELTNER", {"timeperiod": 50, "atrperiod": 3, "nbdev": -1.0}),
    ("ACCBANDS", {"timeperiod": 2}),
    ("ACCBANDS", {"timeperiod": 63}),
    ("DONCHIAN", {"timeperiod": 55}),
    ("VAR", {"timeperiod": 1}),
    ("VAR", {"timeperiod": 30, "nbdev": 3.0}),
    ("AVGDEV", {"timeperiod": 2}),
    ("AVGDEV", {"timeperiod": 40}),
    ("CVI", {"timeperiod": 2, "rocperiod": 1}),
    ("CVI", {"timeperiod": 21, "rocperiod": 5}),
    ("MASSI", {"fastperiod": 2, "slowperiod": 2}),
    ("MASSI", {"fastperiod": 5, "slowperiod": 40}),
    ("LINEARREG_ANGLE", {"timeperiod": 2}),
    ("LINEARREG_INTERCEPT", {"timeperiod": 100}),
    ("TSF", {"timeperiod": 2}),
    ("BETA", {"timeperiod": 1}),
    ("BETA", {"timeperiod": 3}),
    ("BETA", {"timeperiod": 60}),
    ("MIDPOINT", {"timeperiod": 2}),
    ("MIDPRICE", {"timeperiod": 90}),
    ("PERCENTILE", {"timeperiod": 2, "percentile": 0.0}),
    ("PERCENTILE", {"timeperiod": 100, "percentile": 7.0}),
    ("PERCENTILE", {"timeperiod": 40, "percentile": 97.5}),
    ("PERCENTILE", {"timeperiod": 15, "percentile": 100.0}),
    ("PERCENTRANK", {"timeperiod": 2}),
    ("PERCENTRANK", {"timeperiod": 251}),
    ("FRACTAL", {"leftbars": 1, "rightbars": 1}),
    ("FRACTAL", {"leftbars": 5, "rightbars": 1}),
    ("FRACTAL", {"leftbars": 1, "rightbars": 7}),
    ("ADR", {"timeperiod": 1}),
    ("ADR", {"timeperiod": 30}),
]


@cache
def _results() -> dict[str, np.ndarray]:
    plan = FeaturePlan.of([FeatureRequest.of(name, **given) for name, given in CASES])
    return dict(zip(plan.outputs, compute(plan, goog()).T, strict=True))


@pytest.mark.parametrize(("name", "given"), CASES)
def test_agrees_with_talib(name: str, given: Parameters) -> None:
    function = talib.abstract.Function(TALIB_NAMES.get(name, name))
    function.parameters = given
    prices = {column: goog()[column] for column in ("open", "high", "low", "close", "volume")}
    result = function(prices)
    references = result if isinstance(result, list | tuple) else [result]
    columns = FeatureRequest.of(name, **given).columns
    assert len(columns) == len(references)
    for column, reference in zip(columns, references, strict=True):
        ours, known = _results()[column], np.arange(len(reference)) >= function.lookback
        assert np.isnan(ours[~known]).all()
        typical = np.median(np.abs(reference[known]))
        np.testing.assert_allclose(ours[known], reference[known], rtol=1e-9, atol=1e-9 * typical)
