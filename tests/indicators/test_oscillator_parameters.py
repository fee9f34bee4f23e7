"""Oscillators and volume indicators at other parameters than their defaults, against TA-Lib; and what they refuse."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import talib.abstract
from tapeline.core.errors import ParameterError
from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.indicators import indicator_named

from tests.indicators.market import compute, goog
from tests.indicators.references.arithmetic import Array

CASES: list[tuple[str, dict[str, int]]] = [
    ("STOCHF", {"fastk_period": 1, "fastd_period": 1}),
    ("STOCHF", {"fastk_period": 12, "fastd_period": 4, "fastd_matype": 1}),
    ("STOCHRSI", {"timeperiod": 9, "fastk_period": 7, "fastd_period": 5, "fastd_matype": 2}),
    ("KDJ", {"fastk_period": 5, "slowk_period": 4, "slowk_matype": 0, "slowd_period": 6, "slowd_matype": 3}),
    ("KDJ", {"slowk_period": 1, "slowd_period": 1}),
    ("SMI", {"timeperiod": 5, "fastperiod": 3, "slowperiod": 8, "signalperiod": 4}),
    ("APO", {"fastperiod": 5, "slowperiod": 17, "matype": 3}),
    ("PPO", {"fastperiod": 5, "slowperiod": 17, "matype": 4}),
    ("PVO", {"fastperiod": 2, "slowperiod": 9, "matype": 2}),
    ("MACDEXT", {"fastmatype": 1, "slowmatype": 1, "signalmatype": 1}),
    ("MACDEXT", {"fastperiod": 9, "fastmatype": 4, "slowmatype": 2, "signalperiod": 1}),
    ("MACDEXT", {"fastperiod": 20, "fastmatype": 3, "slowperiod": 21, "slowmatype": 1, "signalmatype": 4}),
    ("MACDFIX", {"signalperiod": 1}),
    ("TSI", {"firstperiod": 7, "secondperiod": 20}),
    ("COPPOCK", {"wmaperiod": 4, "roc1period": 1, "roc2period": 3}),
    ("RVI", {"timeperiod": 1, "stddevperiod": 5}),
    ("RVI", {"timeperiod": 5, "stddevperiod": 2}),
    ("DPO", {"timeperiod": 2}),
    ("DPO", {"timeperiod": 7}),
    ("FOSC", {"timeperiod": 2}),
    ("IMI", {"timeperiod": 2}),
    ("AROONOSC", {"timeperiod": 3}),
    ("ROCP", {"timeperiod": 1}),
    ("ROCR", {"timeperiod": 3}),
    ("ROCR100", {"timeperiod": 3}),
    ("EFI", {"timeperiod": 1}),
    ("RVOL", {"timeperiod": 1}),
    ("ER", {"timeperiod": 2}),
    ("ERI", {"timeperiod": 5}),
]


@cache
def _plan() -> FeaturePlan:
    return FeaturePlan.of([FeatureRequest.of(name, **parameters) for name, parameters in CASES])


@cache
def _features() -> Array:
    return compute(_plan(), goog())


@pytest.mark.parametrize(("name", "parameters"), CASES, ids=str)
def test_other_parameters_agree_with_talib(name: str, parameters: dict[str, int]) -> None:
    indicator = indicator_named(name)
    columns = {column: goog()[column] for column in ("open", "high", "low", "close", "volume")}
    result = talib.abstract.Function(name)(columns, **indicator.complete(parameters))
    references = result if isinstance(result, list | tuple) else [result]
    for column, reference in zip(indicator.columns(parameters), references, strict=True):
        ours = _features()[:, _plan().outputs.index(column)]
        known = ~np.isnan(reference)
        assert np.array_equal(~np.isnan(ours), known)
        typical = np.median(np.abs(reference[known]))
        np.testing.assert_allclose(ours[known], reference[known], rtol=1e-9, atol=1e-9 * typical)


@pytest.mark.parametrize(
    "name", ["APO", "PPO", "PVO", "MACD", "MACDEXT", "SMI", "STC", "ADOSC", "KLINGER"]
)  # fmt: skip
@pytest.mark.parametrize("fast", [20, 30])
def test_a_fast_period_that_is_not_below_the_slow_one_is_refused(name: str, fast: int) -> None:
    with pytest.raises(ParameterError, match=f"fastperiod {fast} is not below slowperiod 20 .*{name}"):
        FeaturePlan.of([FeatureRequest.of(name, fastperiod=fast, slowperiod=20)])


@pytest.mark.parametrize(
    ("name", "parameter", "kind"),
    [("KDJ", "slowk_matype", 11), ("KDJ", "slowd_matype", 12), ("MACDEXT", "signalmatype", 14), ("APO", "matype", 14)],
)
def test_an_average_that_does_not_exist_is_refused(name: str, parameter: str, kind: int) -> None:
    with pytest.raises(ParameterError, match=f"{kind} is (not supported|out of bounds) .*{name}.*Give a value from 0"):
        FeaturePlan.of([FeatureRequest.of(name, **{parameter: kind})])


def _constant_after(moves: int, count: int, price: float) -> dict[str, Array]:
    walk = price * np.exp(np.cumsum(np.random.default_rng(11).normal(0, 0.02, moves)))
    close = np.concatenate([walk, np.full(count - moves, walk[-1])])
    return {"open": close, "high": close, "low": close, "close": close, "volume": np.full(count, 1e3)}


@pytest.mark.parametrize("price", [1e-6, 0.1, 1e6 / 3])
def test_a_halt_leaves_no_oscillator_swinging_on_roundings(price: float) -> None:
    """A ratio of two decaying numbers keeps its value but for the last bits: its range is empty, not full of noise."""
    plan = FeaturePlan.of([FeatureRequest("STOCHRSI"), FeatureRequest("STC")])
    results = compute(plan, _constant_after(200, 3_000, price))
    for column, settled in (("stochrsi_k_14_5_3", 230), ("stochrsi_d_14_5_3", 230), ("stc_23_50_10", 1_500)):
        values = results[settled:, plan.outputs.index(column)]
        assert np.ptp(values) < 1e-9, column


def test_the_detrended_price_does_not_look_ahead() -> None:
    """The centred form would change the past when a row is added; this one takes an older close instead."""
    plan = FeaturePlan.of([FeatureRequest("DPO")])
    whole = compute(plan, goog())
    jumped = {name: values.copy() for name, values in goog().items()}
    jumped["close"][1_000:] *= 2
    assert np.array_equal(compute(plan, jumped)[:1_000], whole[:1_000], equal_nan=True)
    centred = goog()["close"][1_000 - 11] - goog()["close"][1_000 - 19 : 1_001].mean()
    assert whole[1_000, 0] == pytest.approx(centred, rel=1e-12)
