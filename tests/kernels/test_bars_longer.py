"""Longer bars against bars made with lists; stream equals batch, cuts change nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tapeline.core.errors import OutOfOrderError, ParameterError
from tapeline.kernels.bars import BAR_COLUMNS, BAR_STATE_SIZE
from tapeline.kernels.bars_longer import longer_bar_flush, longer_bar_update, longer_bars_batch
from tapeline.kernels.frames import NO_BAR

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
WIDTH_US, LAG_US = 300, 7
Rows = tuple[Integers, Integers, Integers, Integers, Floats]
"""End of the longer bar, end, available, sequence, values."""


@st.composite
def shorter(draw: st.DrawFn, max_size: int = 40) -> Rows:
    """Ordered bars of up to 60 µs with gaps, equal ends, missing values, and rows that belong to no bar."""
    seed, count = draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, max_size))
    rng = np.random.default_rng(seed)
    event = 10_020 + np.cumsum(rng.choice([0, 60, 60, 60, 120, 240, 900], count)).astype(np.int64)
    available = event + rng.choice([0, 3, LAG_US, 400], count)
    price = np.exp(rng.normal(0, 0.1, (count, 4)))
    values = np.column_stack(
        [event - 60, price[:, 0], price.max(axis=1), price.min(axis=1), price[:, 1], rng.integers(0, 9, count)]
    )
    values = values.reshape(count, 6)
    bad = rng.random((count, 5)) < 0.1
    values[:, 1:][bad] = rng.choice([math.nan, math.inf, -1.0], int(bad.sum()))
    ends = (event - 1) // WIDTH_US * WIDTH_US + WIDTH_US
    ends[rng.random(count) < 0.1] = NO_BAR
    return ends, event, available, np.arange(count, dtype=np.int64), values


def _directly(rows: Rows, *, flush: bool) -> list[list[float]]:
    """Bars by collecting rows in a list."""
    bars: list[list[float]] = []
    open_bar: list[tuple[int, int, int, list[float]]] = []
    end_us = finished_us = -1

    def close(*, at_once: bool) -> None:
        columns = list(zip(*(row[3] for row in open_bar), strict=True))
        prices = [[x for x in column if 0.0 < x < math.inf] for column in columns[1:5]]
        volumes = [x for x in columns[5] if 0.0 <= x < math.inf]
        choose = [
            how(p) if p else math.nan
            for how, p in zip((lambda p: p[0], max, min, lambda p: p[-1]), prices, strict=True)
        ]
        available = max(row[1] for row in open_bar)
        bars.append([
            open_bar[0][3][0], end_us, *choose, sum(volumes) if volumes else math.nan, len(open_bar),
            open_bar[0][2], open_bar[-1][2], available if at_once else max(available, end_us + LAG_US), 1.0, 1.0,
        ])  # fmt: skip
        open_bar.clear()

    for end, event, available, sequence, values in zip(*(array.tolist() for array in rows), strict=True):
        if open_bar and (event > end_us or end > end_us):
            close(at_once=False)
            finished_us = end_us
        if end == NO_BAR or end <= finished_us:
            continue
        end_us = end
        open_bar.append((event, available, sequence, values))
        if event >= end:
            close(at_once=True)
            finished_us = end_us
    if flush and open_bar:
        close(at_once=False)
    return bars


def _batch(rows: Rows, *, flush: bool, states: Floats | None = None) -> tuple[Floats, Floats]:
    bars, _, ends = longer_bars_batch(LAG_US, *rows, np.array([0, len(rows[0])]), states, flush=flush)
    return bars, ends


@settings(max_examples=200, deadline=None)
@given(shorter(), st.booleans())
def test_bars_equal_those_made_with_lists(rows: Rows, flush: bool) -> None:
    bars, _ = _batch(rows, flush=flush)
    np.testing.assert_array_equal(bars, np.array(_directly(rows, flush=flush)).reshape(-1, len(BAR_COLUMNS)))


@settings(max_examples=100, deadline=None)
@given(shorter(), st.data())
def test_stream_equals_batch_and_cuts_change_nothing(rows: Rows, data: st.DataObject) -> None:
    whole, ends = _batch(rows, flush=False)
    state, out, streamed = np.zeros(BAR_STATE_SIZE), np.empty((2, len(BAR_COLUMNS))), []
    for i in range(len(rows[0])):
        end, event, available, sequence = (int(array[i]) for array in rows[:4])
        made = longer_bar_update(state, LAG_US, end, event, available, sequence, rows[4][i], out)
        streamed += [bar.copy() for bar in out[:made]]
    assert np.array(streamed).tobytes() == whole.tobytes()
    assert state.tobytes() == ends[0].tobytes()
    cut = data.draw(st.integers(0, len(rows[0])))
    first, middle = _batch(tuple(a[:cut] for a in rows), flush=False)
    second, last = _batch(tuple(a[cut:] for a in rows), flush=False, states=middle)
    assert np.concatenate([first, second]).tobytes() == whole.tobytes()
    assert last.tobytes() == ends.tobytes()
    flushed, _ = _batch(rows, flush=True)
    if longer_bar_flush(state, LAG_US, out[0]) == 1:
        np.testing.assert_array_equal(flushed[-1], out[0])


def test_a_bar_is_finished_by_its_last_row_or_by_the_first_after_it() -> None:
    event = np.array([300, 420, 660, 1_500], dtype=np.int64)
    ends = np.array([300, 600, 900, 1_500], dtype=np.int64)
    values = np.column_stack([event - 60, *(np.arange(4.0) + k for k in (10, 30, 5, 20)), np.ones(4)])
    bars, _ = _batch((ends, event, event + 1, np.arange(4), values), flush=False)
    shown = {
        name: bars[:, BAR_COLUMNS.index(name)].tolist() for name in ("end_us", "available_us", "open", "last_sequence")
    }
    assert shown["end_us"] == [300.0, 600.0, 900.0, 1_500.0]
    assert shown["available_us"] == [301.0, 607.0, 907.0, 1_501.0]  # at once, after the lag, after the lag, at once
    assert shown["open"] == [10.0, 11.0, 12.0, 13.0]
    assert shown["last_sequence"] == [0.0, 1.0, 2.0, 3.0]


def test_disorder_and_wrong_shapes_are_refused() -> None:
    event, values = np.array([60, 180, 120]), np.ones((3, 6))
    with pytest.raises(OutOfOrderError, match="entity 0, row 2"):
        longer_bars_batch(0, event, event, event, np.arange(3), values, np.array([0, 3]))
    for lag, shape in ((-1, (3, 6)), (0, (3, 5)), (0, (2, 6))):
        with pytest.raises(ParameterError, match="one length"):
            longer_bars_batch(lag, event, event, event, np.arange(3), np.ones(shape), np.array([0, 3]))
