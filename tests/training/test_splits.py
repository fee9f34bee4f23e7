from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.core.errors import EmptyDataError
from tapeline.training import walk_forward


@st.composite
def histories(draw):
    """Rows of several symbols at shared moments, labels of any length, in any order of rows."""
    seed = draw(st.integers(0, 10_000))
    random = np.random.default_rng(seed)
    steps = draw(st.integers(30, 120))
    times = np.cumsum(random.integers(1, 50, size=steps))
    kept = random.random((steps, 3)) < 0.8
    kept[:, 0] = True
    event = np.concatenate([times[kept[:, column]] for column in range(3)])
    end = event + random.integers(1, 200, size=len(event))
    order = random.permutation(len(event))
    return event[order], end[order]


@settings(max_examples=150, deadline=None)
@given(
    history=histories(),
    train_steps=st.integers(12, 25),
    test_steps=st.integers(1, 20),
    embargo=st.integers(0, 6),
    window=st.sampled_from(["expanding", "rolling"]),
)
def test_no_fold_trains_on_what_it_tests(history, train_steps, test_steps, embargo, window):
    event, end = history
    end = np.minimum(end, event + 300)
    try:
        folds = list(
            walk_forward(
                event, end, train_steps=train_steps, test_steps=test_steps, embargo_steps=embargo, window=window
            )
        )
    except EmptyDataError:
        return
    times = np.unique(event)
    tested = np.concatenate([fold.test for fold in folds])
    assert len(np.unique(tested)) == len(tested)
    last = -1
    for fold in folds:
        start = event[fold.test].min()
        position = np.searchsorted(times, start)
        # Purge: no label interval of training reaches into the test window; embargo: nor into the gap before it.
        assert end[fold.train].max() <= start
        assert end[fold.train].max() <= times[max(position - embargo, 0)] == fold.known_by_us
        assert event[fold.train].max() < start
        # Complete: every row that may be trained on is, and every row of the window is tested.
        allowed = (event < start) & (end <= fold.known_by_us)
        if window == "rolling":
            allowed &= event >= times[position - train_steps]
        np.testing.assert_array_equal(np.flatnonzero(allowed), fold.train)
        stop = event[fold.test].max()
        np.testing.assert_array_equal(np.flatnonzero((event >= start) & (event <= stop)), fold.test)
        assert start > last
        last = stop
    first = times[train_steps]
    assert event[tested].min() == first


def test_windows():
    event = np.arange(100)
    expanding = list(walk_forward(event, event + 1, train_steps=40, test_steps=20))
    rolling = list(walk_forward(event, event + 1, train_steps=40, test_steps=20, window="rolling"))
    assert [len(fold.train) for fold in expanding] == [40, 60, 80]
    assert [len(fold.train) for fold in rolling] == [40, 40, 40]
    assert [fold.test[0] for fold in expanding] == [40, 60, 80]


def test_a_last_window_of_less_than_half_is_left_out():
    event = np.arange(100)
    assert [len(f.test) for f in walk_forward(event, event, train_steps=40, test_steps=41)] == [41]
    assert [len(f.test) for f in walk_forward(event, event, train_steps=40, test_steps=40)] == [40, 20]


def test_too_short():
    event = np.arange(50)
    with pytest.raises(EmptyDataError, match="too few"):
        list(walk_forward(event, event, train_steps=48, test_steps=10))
    with pytest.raises(EmptyDataError, match="no training row"):
        list(walk_forward(event, event + 1_000, train_steps=20, test_steps=10))
