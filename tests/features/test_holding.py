"""Outputs that show their last known value within an age limit, against a plain loop over the outputs that do not."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tapeline.core.errors import ParameterError
from tapeline.core.timestamps import HOUR_US, MINUTE_US
from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.features.explain import explain_plan
from tapeline.features.leakage import find_leaks
from tapeline.features.view import FeatureViewSpec, SessionBars

from tests.indicators.market import same_bits

of = FeatureRequest.of
PLAIN = (
    of("RSI", timeperiod=3),
    of("SMA", timeperiod=2),
    of("BBANDS", timeperiod=3),
    of("OBV"),
    of("RSI", frame="1h", timeperiod=2),
    of("SMA", frame="1h/partial", timeperiod=2),
)
LIMIT_US = 90 * MINUTE_US
HELD = tuple(FeatureRequest(r.name, r.parameters, r.frame, LIMIT_US) for r in PLAIN)
POWER = {"price": -1, "shares": 1, "percent": 0}  # how an output follows the cumulative split factor


@cache
def plan() -> FeaturePlan:
    return FeaturePlan.of([*PLAIN, *HELD])


@st.composite
def histories(draw: st.DrawFn) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows with gaps, rows of one moment, runs of bad values and splits."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(1, 90))
    event = (
        np.cumsum(rng.choice([0, 1, 30, 60, 90, 91, 400], count, p=[0.1, 0.1, 0.4, 0.2, 0.1, 0.05, 0.05])) * MINUTE_US
    )
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, count)))
    bad = rng.random(count) < draw(st.sampled_from([0.0, 0.2, 0.6]))
    close[bad] = rng.choice([np.nan, 0.0, -1.0, np.inf], bad.sum())
    volume = np.where(rng.random(count) < 0.2, np.nan, rng.integers(0, 50, count).astype(float))
    columns = {"close": close, "volume": volume, "split_ratio": np.where(rng.random(count) < 0.1, 2.0, 1.0)}
    return event.astype(np.int64), np.column_stack([columns[name] for name in plan().inputs])


def run(p: FeaturePlan, event: NDArray[np.int64], rows: NDArray[np.float64], state: NDArray[np.float64] | None = None):
    number = np.arange(len(event), dtype=np.int64)
    states = None if state is None else state[None]
    features, ends = p.batch(event, number, event, rows, np.array([0, len(event)]), states)
    return features, ends[0]


def expected(raw: NDArray[np.float64], event: NDArray[np.int64], factor: NDArray[np.float64], power: int):
    """Value and age of each row: the newest number of this row or an earlier one, if that is not too old."""
    values, ages = np.full(len(raw), math.nan), np.full(len(raw), math.nan)
    for row in range(len(raw)):
        known = [earlier for earlier in range(row + 1) if not math.isnan(raw[earlier])]
        if not known or event[row] - event[known[-1]] > LIMIT_US:
            continue
        last = known[-1]
        values[row] = raw[last] * (factor[row] / factor[last]) ** power
        ages[row] = 0.0 if last == row else max(event[row] - event[last], 1) / 1e6
    return values, ages


@settings(max_examples=120, deadline=None)
@given(histories())
def test_values_and_ages_are_those_of_a_plain_loop(history) -> None:
    event, rows = history
    p = plan()
    features, _ = run(p, event, rows)
    factor = np.cumprod(rows[:, p.inputs.index("split_ratio")])
    for plain, held in zip(PLAIN, HELD, strict=True):
        for place, name in enumerate(plain.columns):
            values, ages = expected(features[:, p.outputs.index(name)], event, factor, POWER[plain.units[place]])
            mine = features[:, p.outputs.index(held.columns[place])]
            np.testing.assert_allclose(mine, values, rtol=1e-13)
            age = features[:, p.outputs.index(f"{held.columns[place]}_age")]
            np.testing.assert_allclose(age, ages, rtol=1e-15)
            own = ages == 0.0
            np.testing.assert_array_equal(mine[own], features[own, p.outputs.index(name)])


@settings(max_examples=40, deadline=None)
@given(histories(), st.data())
def test_stream_equals_batch_and_a_saved_state_goes_on(history, data) -> None:
    event, rows = history
    p = plan()
    features, end = run(p, event, rows)
    cut = data.draw(st.integers(0, len(rows)))
    state, out = p.new_state(), np.empty(len(p.outputs))
    for i in range(len(rows)):
        if i == cut:
            state = p.restore(p.save(state))
        p.update(state, int(event[i]), i, int(event[i]), rows[i], out)
        assert same_bits(out, features[i])
    assert same_bits(state, end)


@settings(max_examples=20, deadline=None)
@given(histories().filter(lambda history: len(history[0]) > 2), st.data())
def test_nothing_of_the_future_is_seen(history, data) -> None:
    event, rows = history
    cut = data.draw(st.integers(1, len(rows) - 1))
    assert find_leaks(plan(), event, event, rows, [cut]) == ()


@settings(max_examples=20, deadline=None)
@given(histories())
def test_a_cut_plan_gives_the_same_bits(history) -> None:
    event, rows = history
    keep = ("obv_last_90m_age", "bbands_middle_3_2_2_last_90m", "rsi_2_1h_last_90m_age", "rsi_3")
    small = plan().cut(keep)
    assert small.state_size < plan().state_size
    columns = [plan().inputs.index(name) for name in small.inputs]
    part, _ = run(small, event, np.ascontiguousarray(rows[:, columns]))
    whole, _ = run(plan(), event, rows)
    places = [plan().outputs.index(name) for name in keep]
    np.testing.assert_array_equal(part, whole[:, places])


def test_the_limit_itself_is_still_inside_and_a_value_of_the_same_moment_has_an_age() -> None:
    p = FeaturePlan.of([of("MOM", timeperiod=1, last_within="1h")])
    event = np.array([0, 10, 10, 10 + HOUR_US, 11 + HOUR_US, 20 + HOUR_US])
    close = np.array([100.0, 101.0, np.nan, np.nan, np.nan, 105.0])
    features, _ = run(p, event, np.column_stack([close, np.ones(6)]))
    nan = math.nan
    np.testing.assert_array_equal(features[:, 0], [nan, 1.0, 1.0, 1.0, nan, 4.0])
    np.testing.assert_array_equal(features[:, 1], [nan, 0.0, 1e-6, 3600.0, nan, 0.0])


def test_an_unheld_twin_and_a_limit_of_its_own_stand_side_by_side() -> None:
    p = FeaturePlan.of([of("RSI"), of("RSI", last_within="2d"), of("RSI", last_within="48h", frame="1d")])
    assert p.outputs == (
        "rsi_14", "rsi_14_last_2d", "rsi_14_last_2d_age", "rsi_14_1d_last_2d", "rsi_14_1d_last_2d_age",
    )  # fmt: skip
    assert p.units == ("percent", "percent", "seconds", "percent", "seconds")
    assert p.warm_up == (15,) * 5
    assert explain_plan(p).outputs[2] == ("rsi_14_last_2d_age", "seconds", 15)
    hashes = {FeaturePlan.of([of("RSI", last_within=limit)]).hash for limit in ("1h", "60m", "61m")}
    assert len(hashes | {FeaturePlan.of([of("RSI")]).hash}) == 3


def test_a_definition_carries_the_limit_and_comes_back() -> None:
    spec = FeatureViewSpec(
        "held", 1, SessionBars("s", "XNYS"), (of("RSI", timeperiod=14, last_within="1w"), of("OBV")), 0
    )
    definition = spec.definition()
    assert [feature.get("last_within") for feature in definition["features"]] == ["7d", None]
    again = FeatureViewSpec.from_definition(definition)
    assert again == spec
    assert again.lineage_hash == spec.lineage_hash
    assert again.columns == ("rsi_14_last_7d", "rsi_14_last_7d_age", "obv")


@pytest.mark.parametrize("limit", ["", "3", "0d", "-1h", "1.5h", "soon"])
def test_what_is_no_limit_is_refused(limit: str) -> None:
    with pytest.raises(ParameterError, match="is not a duration"):
        of("RSI", last_within=limit)
    with pytest.raises(ParameterError, match="last_within_us is 0"):
        FeatureRequest("RSI", last_within_us=0)
