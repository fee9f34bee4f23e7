"""How a program is cut into sections decides its speed, never its numbers."""

from __future__ import annotations

import numpy as np
import pytest
from tapeline.core.errors import ParameterError
from tapeline.features import FeaturePlan, FeatureRequest, codegen

from tests.features.histories import batch, make
from tests.features.test_every_feature_runs_alike import assert_same

NAMES = ("SMA", "RSI", "MACD", "STOCH", "BBANDS", "ULTOSC", "LINEARREG", "KAMA", "VWAP", "ZSCORE", "MFI")
REQUESTS = [FeatureRequest(name) for name in NAMES]


def _sections(plan: FeaturePlan) -> int:
    """Of its operations; the first section of all takes the row's columns."""
    return plan._program.sections - 1


def test_the_cut_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codegen, "SECTION_WEIGHT", 10_000)
    one = FeaturePlan.of(REQUESTS)
    monkeypatch.setattr(codegen, "SECTION_WEIGHT", 1)
    many = FeaturePlan.of(REQUESTS)
    assert (_sections(one), _sections(many)) == (1, sum(len(r.columns) for r in REQUESTS))
    for seed in range(5):
        history = make("bars", 300, seed, 100.0)
        wanted = [list(_bar_inputs()).index(name) for name in one.inputs]
        rows = np.ascontiguousarray(history.rows[:, wanted])
        short = type(history)(history.event_us, history.sequence, rows)
        assert_same(one, batch(one, short)[0], batch(many, short)[0])


def _bar_inputs() -> tuple[str, ...]:
    from tests.features.histories import plan_of

    return plan_of("bars").inputs


def test_an_operation_is_computed_once_whatever_the_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codegen, "SECTION_WEIGHT", 1)
    source = FeaturePlan.of([FeatureRequest("ATR"), FeatureRequest("NATR"), FeatureRequest("TRANGE")])._program.source
    assert source.count(" = true_range(") == 1
    assert source.count(" = wilder_mean(") == 1


def test_a_large_plan_has_several_sections_and_a_small_one_has_one() -> None:
    assert _sections(FeaturePlan.of([FeatureRequest("RSI")])) == 1
    assert _sections(FeaturePlan.of([FeatureRequest.of("SMA", timeperiod=n) for n in range(2, 60)])) > 1


def test_steps_of_one_name_are_refused() -> None:
    with pytest.raises(ParameterError, match="two steps of one plan are called past"):
        codegen._check_names([("one.module", "past"), ("another.module", "past")])
