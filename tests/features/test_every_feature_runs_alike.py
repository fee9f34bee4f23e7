"""Every registered feature, found by introspection: batch, stream, cross-section, cuts and threads give the same bits.

One compiled plan holds all features of a kind of rows, so a new one is covered the moment it is registered. ``make soak``
runs these again and again with new seeds.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tapeline.core.errors import ContinuityError, OutOfOrderError
from tapeline.features import FeaturePlan
from tapeline.indicators import all_indicators
from tapeline.kernels.driver import BLOCK_ROWS

from tests.features.histories import SCHEMAS, Floats, History, batch, histories, make, plan_of

each_schema = pytest.mark.parametrize("schema", SCHEMAS)
quick = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


def assert_same(plan: FeaturePlan, a: Floats, b: Floats) -> None:
    """Equal bit for bit, any NaN like any other; names the outputs that are not."""
    assert a.shape == b.shape
    left, right = np.ascontiguousarray(a), np.ascontiguousarray(b)
    same = (left.view(np.int64) == right.view(np.int64)) | (np.isnan(left) & np.isnan(right))
    assert same.all(), [plan.outputs[column] for column in np.flatnonzero(~same.all(axis=0))]


def stream(plan: FeaturePlan, history: History, state: Floats) -> Floats:
    out = np.empty((len(history), len(plan.outputs)))
    for i, (at, sequence) in enumerate(zip(history.event_us.tolist(), history.sequence.tolist(), strict=True)):
        plan.update(state, at, sequence, at, history.rows[i], out[i])
    return out


def test_no_registered_feature_is_left_out() -> None:
    columns = {column for schema in SCHEMAS for column in plan_of(schema).outputs}
    assert columns == {column for indicator in all_indicators() for column in indicator.columns({})}


@each_schema
@quick
@given(data=st.data())
def test_stream_equals_batch_and_leaves_the_same_state(schema: str, data: st.DataObject) -> None:
    plan, history = plan_of(schema), data.draw(histories(schema))
    features, end = batch(plan, history)
    state = plan.new_state()
    assert_same(plan, stream(plan, history, state), features)
    assert plan.save(state) == plan.save(end)


@each_schema
@quick
@given(data=st.data())
def test_cuts_with_states_saved_and_restored_change_nothing(schema: str, data: st.DataObject) -> None:
    """Also prefix invariance: the first piece is computed without the rest."""
    plan, history = plan_of(schema), data.draw(histories(schema))
    cuts = sorted({0, len(history), *data.draw(st.lists(st.integers(0, len(history)), max_size=5))})
    whole, end = batch(plan, history)
    state, pieces = plan.new_state(), []
    for first, last in itertools.pairwise(cuts):
        features, state = batch(plan, history.part(first, last), state)
        pieces.append(features)
        state = plan.restore(plan.save(state))
    assert_same(plan, np.concatenate(pieces), whole)
    assert plan.save(state) == plan.save(end)


@each_schema
@quick
@given(data=st.data())
def test_a_cross_section_in_one_call_equals_single_updates(schema: str, data: st.DataObject) -> None:
    plan = plan_of(schema)
    count = data.draw(st.integers(1, 2 * BLOCK_ROWS + 3))
    seed = data.draw(st.integers(0, 2**31))
    length = data.draw(st.integers(1, 12))
    entities = [make(schema, length, seed + number, 50.0) for number in range(count)]
    states = np.tile(plan.new_state(), (count, 1))
    out = np.empty((count, len(plan.outputs)))
    columns = []
    for row in range(length):
        at = np.array([e.event_us[row] for e in entities])
        sequence = np.array([e.sequence[row] for e in entities])
        plan.update_many(states, at, sequence, at, np.stack([e.rows[row] for e in entities]), out)
        columns.append(out.copy())
    for number, entity in enumerate(entities):
        features, end = batch(plan, entity)
        assert_same(plan, np.stack([column[number] for column in columns]), features)
        assert plan.save(states[number].copy()) == plan.save(end)


@each_schema
@quick
@given(data=st.data())
def test_neighbours_and_threads_change_nothing(schema: str, data: st.DataObject) -> None:
    plan = plan_of(schema)
    entities = data.draw(st.lists(histories(schema), min_size=1, max_size=5))
    offsets = np.cumsum([0, *map(len, entities)])
    at = np.concatenate([e.event_us for e in entities])
    sequence = np.concatenate([e.sequence for e in entities])
    rows = np.concatenate([e.rows for e in entities])
    threads = data.draw(st.integers(1, 6))
    features, ends = plan.batch(at, sequence, at, rows, offsets, threads=threads)
    for number, entity in enumerate(entities):
        alone, end = batch(plan, entity)
        assert_same(plan, features[offsets[number] : offsets[number + 1]], alone)
        assert plan.save(ends[number].copy()) == plan.save(end)


@each_schema
@pytest.mark.parametrize("count", [1, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 3 * BLOCK_ROWS])
def test_histories_around_a_block_of_rows(schema: str, count: int) -> None:
    plan, history = plan_of(schema), make(schema, count, 11, 100.0)
    features, end = batch(plan, history)
    state = plan.new_state()
    assert_same(plan, stream(plan, history, state), features)
    assert plan.save(state) == plan.save(end)
    if count == 1:
        late = [w > 1 for w in plan.warm_up]
        assert np.isnan(features[0, late]).all()


@each_schema
@quick
@given(data=st.data())
def test_a_row_of_the_same_place_in_time_is_refused_and_changes_nothing(schema: str, data: st.DataObject) -> None:
    plan, history = plan_of(schema), data.draw(histories(schema, rows_min=2))
    _, state = batch(plan, history)
    before, out = plan.save(state), np.full(len(plan.outputs), 7.0)
    place = int(history.event_us[-1]), int(history.sequence[-1])
    with pytest.raises(ContinuityError):
        plan.update(state, *place, place[0], history.rows[-1], out)
    assert plan.save(state) == before
    assert (out == 7.0).all()
    twice = data.draw(st.integers(1, len(history) - 1))
    at, sequence = history.event_us.copy(), history.sequence.copy()
    at[twice], sequence[twice] = at[twice - 1], sequence[twice - 1]
    with pytest.raises(OutOfOrderError, match=f"row {twice},"):
        plan.batch(at, sequence, at, history.rows, np.array([0, len(at)]))


@each_schema
def test_a_cross_section_with_one_bad_row_changes_no_state(schema: str) -> None:
    plan, count = plan_of(schema), 2 * BLOCK_ROWS
    history = make(schema, count, 3, 100.0)
    states, out = np.tile(plan.new_state(), (count, 1)), np.empty((count, len(plan.outputs)))
    at, rows = np.arange(count, dtype=np.int64), history.rows.copy()
    plan.update_many(states, at, at, at, rows, out)
    before = states.copy()
    later = at + 10
    later[count - 2] = at[count - 2]
    with pytest.raises(ContinuityError, match=f"entity {count - 2}"):
        plan.update_many(states, later, at, later, rows, out)
    assert np.array_equal(states.view(np.int64), before.view(np.int64))


@each_schema
@quick
@given(data=st.data())
def test_gaps_in_time_do_not_matter_to_features_over_rows(schema: str, data: st.DataObject) -> None:
    """Bars count rows, not time; ticks carry their time as a column, which is left as it was here."""
    plan, history = plan_of(schema), data.draw(histories(schema))
    features, _ = batch(plan, history)
    stretched = History(history.event_us * 3 + 17, history.sequence, history.rows)
    assert_same(plan, batch(plan, stretched)[0], features)
