from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.core.errors import EmptyDataError, ParameterError
from tapeline.training import PurgedKFold, walk_forward


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


@settings(max_examples=150, deadline=None)
@given(history=histories(), count=st.integers(2, 6), embargo=st.integers(0, 6))
def test_no_label_of_a_purged_fold_overlaps_a_tested_one(history, count, embargo):
    event, end = history
    splitter = PurgedKFold(event, end, count, embargo_steps=embargo)
    try:
        folds = list(splitter.split(event))
    except EmptyDataError:
        return
    times = np.unique(event)
    assert len(folds) == splitter.get_n_splits() == count
    np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(len(event)))
    sizes = [len(np.unique(event[test])) for _, test in folds]
    assert max(sizes) - min(sizes) <= 1
    last = -1
    for train, test in folds:
        assert event[test].min() > last
        last = event[test].max()
        # Purge: pair by pair, no label's time overlaps that of a tested row.
        before = end[train][:, None] <= event[test][None, :]
        after = event[train][:, None] >= end[test][None, :]
        assert (before | after).all()
        # Embargo: so many moments lie between the end of the tested labels and the next row that is trained on.
        over = end[test].max()
        later = event[train][event[train] >= over]
        if len(later):
            assert ((times >= over) & (times < later.min())).sum() >= embargo
        # Complete: a row is left out only if its label reaches the block, or it comes too soon after the block's labels.
        for row in np.setdiff1d(np.arange(len(event)), np.concatenate([train, test])):
            too_early = end[row] > event[test].min()
            too_soon = ((times >= over) & (times < event[row])).sum() < embargo or event[row] < over
            assert too_early
            assert too_soon or event[row] < event[test].min()


def test_purged_folds_by_hand():
    event = np.arange(12)
    folds = list(PurgedKFold(event, event + 2, 3, embargo_steps=1).split(event))
    assert [test.tolist() for _, test in folds] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    # The first block's labels end at 5, and 5 itself is under embargo; before 8, the label of 6 ends just in time.
    assert [train.tolist() for train, _ in folds] == [[6, 7, 8, 9, 10, 11], [0, 1, 2, 10, 11], [0, 1, 2, 3, 4, 5, 6]]


def test_purged_folds_go_where_scikit_learn_takes_a_splitter():
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    random = np.random.default_rng(0)
    x = random.normal(size=(300, 2))
    y = (x[:, 0] > 0).astype(float)
    event = random.permutation(300)
    scores = cross_val_score(LogisticRegression(), x, y, cv=PurgedKFold(event, event + 5, 4, embargo_steps=2))
    assert scores.shape == (4,)
    assert scores.min() > 0.9


def test_impossible_purged_folds_are_refused():
    event = np.arange(20)
    for arguments in ((event, event, 1), (event, event[1:], 3), (event, event - 1, 3), (event[None], event[None], 3)):
        with pytest.raises(ParameterError, match=r"folds|differ"):
            PurgedKFold(*arguments)
    with pytest.raises(ParameterError, match="embargo"):
        PurgedKFold(event, event, embargo_steps=-1)
    with pytest.raises(ParameterError, match="19 rows where the times are of 20"):
        list(PurgedKFold(event, event).split(event[1:]))
    with pytest.raises(EmptyDataError, match="too few for 21 folds"):
        list(PurgedKFold(event, event, 21).split(event))
    with pytest.raises(EmptyDataError, match="fold 0 of 2 no training row"):
        list(PurgedKFold(event, event + 30, 2).split(event))
