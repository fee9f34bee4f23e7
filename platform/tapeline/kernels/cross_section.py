"""One moment of many listings at once: ranks, moments and breadth across them, betas and correlations along each.

A moment is given as its rows: the listings that have one, by column number in rising order, each with a value and a group
(−1: none). A row whose value is NaN or infinite takes no part and gets NaN; a listing without a row takes no part either,
so nothing depends on how many listings the universe holds besides.

The flat state is a header, then for each listing the windows of its pairs (own value, reference value). A state of zeros
is fresh. Sums run in the order of the columns, and deviations are taken from the first value of the part they are over,
so that a constant cross-section has a spread of exactly 0.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.kernels.moments import co_moments
from tapeline.kernels.rolling import RING_HEADER, push

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

HEADER_SIZE = 4
"""Slots: moments seen, last event and running available time (int64 bits), one spare."""

GROUPS_MAX = 65_536

RANK, PERCENT_RANK, Z_SCORE, MEAN, COUNT, BREADTH, NET_BREADTH, BETA, CORRELATION = range(9)
UNIVERSE, GROUP, INDEX = range(3)
WRONG_SIZE, NOT_AFTER, BAD_COLUMN, BAD_GROUP = 1, 2, 3, 4

_PAIR_SLOTS = 9


def pair_size(n: int) -> int:
    """State slots of a pair over n rows: those of :func:`~tapeline.kernels.moments.co_moments`, and two rings."""
    return _PAIR_SLOTS + 2 * (RING_HEADER + n + 1)


@njit(error_model="numpy", cache=True, nogil=True)
def pair_step(state: Floats, at: int, n: int, x: float, y: float) -> tuple[float, float]:
    """Least-squares slope of x on y and their correlation over the last n pairs; NaN before, and where a side is constant."""
    first, capacity = at + _PAIR_SLOTS, n + 1
    second = first + RING_HEADER + capacity
    newest_x, newest_y = push(state, first, capacity, x), push(state, second, capacity, y)
    xx, xy, yy, _, _ = co_moments(state, at, first, capacity, newest_x, second, capacity, newest_y, x, y, n)
    scale = math.sqrt(xx) * math.sqrt(yy)
    beta = xy / yy if yy > 0.0 else math.nan
    return beta, min(1.0, max(-1.0, xy / scale)) if scale > 0.0 else math.nan


@njit(error_model="numpy", cache=True, nogil=True)
def across(
    values: Floats, part: Integers, parts: int, rank: Floats, deviation: Floats
) -> tuple[Floats, Floats, Floats]:
    """Ranks and deviations of each value within its part, and of each part its size, mean and standard deviation.

    Parameters
    ----------
    values
        float64 (rows,).
    part
        int64 (rows,): number of the part below `parts`, −1 for a row that takes no part.
    rank, deviation
        float64 (rows,), overwritten: rank from 1, the mean of their ranks for equal values; value minus mean.

    Returns
    -------
    tuple
        Size, mean and sample standard deviation, each (parts,).
    """
    size = np.zeros(parts)
    first = np.zeros(parts)
    mean = np.zeros(parts)
    spread = np.full(parts, math.nan)
    taking = np.empty(len(values), np.int64)
    count = 0
    for row in range(len(values)):
        rank[row] = math.nan
        deviation[row] = math.nan
        p = part[row]
        if p >= 0:
            taking[count] = row
            count += 1
            if size[p] == 0.0:
                first[p] = values[row]
            size[p] += 1.0
            mean[p] += values[row] - first[p]
    for p in range(parts):
        mean[p] = mean[p] / size[p] if size[p] > 0.0 else math.nan
    squares = np.zeros(parts)
    chosen = taking[:count]
    for row in chosen:
        p = part[row]
        deviation[row] = (values[row] - first[p]) - mean[p]
        squares[p] += deviation[row] * deviation[row]
    for p in range(parts):
        mean[p] += first[p]
        if size[p] > 1.0:
            spread[p] = math.sqrt(squares[p] / (size[p] - 1.0))
    # Forward in the order of the values, every one of a run of equal values gets the run's first rank; backward, the
    # run's last rank is met first, and the mean of the two is the mean of all.
    order = chosen[np.argsort(values[chosen])]
    seen = np.zeros(parts)
    edge = np.zeros(parts)
    level = np.zeros(parts)
    for row in order:
        p = part[row]
        seen[p] += 1.0
        if seen[p] == 1.0 or values[row] != level[p]:
            edge[p], level[p] = seen[p], values[row]
        rank[row] = edge[p]
    for row in order[::-1]:
        p = part[row]
        if seen[p] == size[p] or values[row] != level[p]:
            edge[p], level[p] = seen[p], values[row]
        seen[p] -= 1.0
        rank[row] = 0.5 * (rank[row] + edge[p])
    return size, mean, spread


@njit(error_model="numpy", cache=True, nogil=True)
def above_and_below(values: Floats, part: Integers, parts: int, threshold: float) -> tuple[Floats, Floats]:
    """How many values of each part lie above a threshold, and below it; each (parts,)."""
    above = np.zeros(parts)
    below = np.zeros(parts)
    for row in range(len(values)):
        if part[row] >= 0:
            if values[row] > threshold:
                above[part[row]] += 1.0
            elif values[row] < threshold:
                below[part[row]] += 1.0
    return above, below


@njit(error_model="numpy", cache=True, nogil=True)
def update(
    state: Floats,
    event_us: int,
    available_us: int,
    columns: Integers,
    values: Floats,
    groups: Integers,
    index: float,
    features: Integers,
    thresholds: Floats,
    pairs: Integers,
    slots: int,
    out: Floats,
) -> int:
    """Take one moment.

    Parameters
    ----------
    state
        float64 (HEADER_SIZE + listings · slots,), changed in place.
    event_us, available_us
        When the moment is, after the last one; and when all of it could have been known.
    columns, values, groups
        The rows; int64, float64 and int64 (rows,).
    index
        The index's value, NaN if it has none.
    features, thresholds
        int64 (features, 3): kind, part (universe or group), number of the pair; float64 (features,).
    pairs
        int64 (pairs, 3): reference (universe, group or index), window, first slot within a listing's.
    slots
        Slots of a listing.
    out
        float64 (rows, features), overwritten.

    Returns
    -------
    int
        0, or what is wrong; the state is then as it was.
    """
    rows = len(columns)
    if len(values) != rows or len(groups) != rows or out.shape[0] != rows or out.shape[1] != len(features):
        return WRONG_SIZE
    moments = np.float64(state[0]).view(np.int64)
    if moments > 0 and event_us <= np.float64(state[1]).view(np.int64):
        return NOT_AFTER
    before = -1
    groups_count = 1
    for row in range(rows):
        if columns[row] <= before or HEADER_SIZE + (columns[row] + 1) * slots > len(state):
            return BAD_COLUMN
        before = columns[row]
        if groups[row] < -1 or groups[row] >= GROUPS_MAX:
            return BAD_GROUP
        if groups[row] >= groups_count:
            groups_count = groups[row] + 1
    if moments > 0:
        available_us = max(available_us, int(np.float64(state[2]).view(np.int64)))
    state[0] = np.int64(moments + 1).view(np.float64)
    state[1] = np.int64(event_us).view(np.float64)
    state[2] = np.int64(available_us).view(np.float64)

    part = np.full((2, rows), -1, np.int64)
    for row in range(rows):
        if -math.inf < values[row] < math.inf:
            part[UNIVERSE, row] = 0
            part[GROUP, row] = groups[row]
    rank = np.empty((2, rows))
    deviation = np.empty((2, rows))
    size, mean, spread = across(values, part[UNIVERSE], 1, rank[UNIVERSE], deviation[UNIVERSE])
    group_size, group_mean, group_spread = across(values, part[GROUP], groups_count, rank[GROUP], deviation[GROUP])

    slope = np.full((len(pairs), rows), math.nan)
    likeness = np.full((len(pairs), rows), math.nan)
    for pair in range(len(pairs)):
        for row in range(rows):
            reference = index
            if pairs[pair, 0] == UNIVERSE:
                reference = mean[0]
            elif pairs[pair, 0] == GROUP:
                reference = group_mean[groups[row]] if groups[row] >= 0 else math.nan
            if part[UNIVERSE, row] == 0 and -math.inf < reference < math.inf:
                at = HEADER_SIZE + columns[row] * slots + pairs[pair, 2]
                slope[pair, row], likeness[pair, row] = pair_step(state, at, pairs[pair, 1], values[row], reference)

    for f in range(len(features)):
        kind, within, pair = features[f, 0], features[f, 1], features[f, 2]
        counts, centres, spreads = (
            (size, mean, spread) if within == UNIVERSE else (group_size, group_mean, group_spread)
        )
        above, below = counts, counts
        if kind in (BREADTH, NET_BREADTH):
            above, below = above_and_below(values, part[within], len(counts), thresholds[f])
        for row in range(rows):
            if kind == BETA:
                out[row, f] = slope[pair, row]
            elif kind == CORRELATION:
                out[row, f] = likeness[pair, row]
            elif part[within, row] < 0:
                out[row, f] = math.nan
            else:
                p = part[within, row]
                if kind == RANK:
                    out[row, f] = rank[within, row]
                elif kind == PERCENT_RANK:
                    out[row, f] = rank[within, row] / counts[p]
                elif kind == Z_SCORE:
                    out[row, f] = deviation[within, row] / spreads[p] if spreads[p] > 0.0 else math.nan
                elif kind == MEAN:
                    out[row, f] = centres[p]
                elif kind == COUNT:
                    out[row, f] = counts[p]
                elif kind == BREADTH:
                    out[row, f] = above[p] / counts[p]
                else:
                    out[row, f] = (above[p] - below[p]) / counts[p]
    return 0


@njit(error_model="numpy", cache=True, nogil=True)
def batch(
    state: Floats,
    event_us: Integers,
    available_us: Integers,
    offsets: Integers,
    columns: Integers,
    values: Floats,
    groups: Integers,
    index: Floats,
    features: Integers,
    thresholds: Floats,
    pairs: Integers,
    slots: int,
    out: Floats,
    available_out: Integers,
) -> int:
    """:func:`update` over successive moments, moment m having the rows offsets[m] to offsets[m+1]; its code + 8 · moment."""
    for m in range(len(event_us)):
        first, last = offsets[m], offsets[m + 1]
        code = update(
            state,
            event_us[m],
            available_us[m],
            columns[first:last],
            values[first:last],
            groups[first:last],
            index[m],
            features,
            thresholds,
            pairs,
            slots,
            out[first:last],
        )
        if code != 0:
            return code + 8 * m
        available_out[m] = np.float64(state[2]).view(np.int64)
    return 0
