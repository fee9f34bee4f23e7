"""EDGE: the spread from open, high, low and close, over a window of bars.

Ardia, Guidotti and Kroencke's estimator is a weighted mean of two moment conditions, whose moments are means of products of
returns. They are kept as sums and updated in O(1) by the pair of bars that comes and the one that leaves; the sums are
compensated, so that what has left leaves no trace.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.kernels.compensated import add
from tapeline.kernels.memory import address_of, floats_at
from tapeline.kernels.primitive import primitive

State = NDArray[np.float64]

# Of each pair of bars five returns and two counts are kept: mid-range less open, open less mid-range before, mid-range
# less close before, close before less mid-range before, open less close before; how often open, and close before, were
# not an extreme; the counts are −1 of a bar that did not trade (high = low = close before).
_PAIR = 7
_SUMS = 32
_LOW, _TERMS = _SUMS, 2 * _SUMS  # the sums' low parts and the terms of one pair lie behind the sums: eight at once
_HEADER = 6  # whether there was a bar, its high, low, close, pairs seen, next place


@njit(error_model="numpy")
def _account(state: State, sums: int, pair: int, sign: float) -> None:
    """Add the terms of one pair to the sums, or take them away again."""
    r1, r2, r3, r4, r5, opens, closes = (
        state[np.uint64(pair)], state[np.uint64(pair + 1)], state[np.uint64(pair + 2)], state[np.uint64(pair + 3)],
        state[np.uint64(pair + 4)], state[np.uint64(pair + 5)], state[np.uint64(pair + 6)],
    )  # fmt: skip
    traded = 1.0 if opens >= 0.0 else 0.0
    r12, r15, r34, r45 = r1 * r2, r1 * r5, r3 * r4, r4 * r5
    place = address_of(state) + 8 * sums  # as three arrays, which the compiler sees to be apart: it adds four at once
    highs, lows, taken = (
        floats_at(place, _SUMS),
        floats_at(place + 8 * _LOW, _SUMS),
        floats_at(place + 8 * _TERMS, _SUMS),
    )
    taken[0] = sign * r12
    taken[1] = sign * r34
    taken[2] = sign * r15
    taken[3] = sign * r45
    taken[4] = sign * traded
    taken[5] = sign * r1
    taken[6] = sign * (traded * r2)
    taken[7] = sign * r3
    taken[8] = sign * (traded * r4)
    taken[9] = sign * r5
    taken[10] = sign * (r12 * r12)
    taken[11] = sign * (r34 * r34)
    taken[12] = sign * (r15 * r15)
    taken[13] = sign * (r45 * r45)
    taken[14] = sign * (r12 * r34)
    taken[15] = sign * (r15 * r45)
    taken[16] = sign * (traded * (r2 * r2))
    taken[17] = sign * (traded * (r4 * r4))
    taken[18] = sign * (traded * (r5 * r5))
    taken[19] = sign * (traded * (r2 * r12))
    taken[20] = sign * (traded * (r4 * r34))
    taken[21] = sign * (traded * (r5 * r15))
    taken[22] = sign * (traded * (r4 * r45))
    taken[23] = sign * (traded * (r4 * r12))
    taken[24] = sign * (traded * (r2 * r34))
    taken[25] = sign * (traded * (r2 * r4))
    taken[26] = sign * (traded * (r1 * r45))
    taken[27] = sign * (traded * (r5 * r45))
    taken[28] = sign * (traded * (r4 * r5))
    taken[29] = sign * (traded * r5)
    taken[30] = sign * (traded * max(opens, 0.0))
    taken[31] = sign * (traded * max(closes, 0.0))
    for k in range(_SUMS):
        highs[k], lows[k] = add(highs[k], lows[k], taken[k])


@njit(error_model="numpy")
def _mean(state: State, at: int, k: int, share: float) -> float:
    return state[np.uint64(at + k)] * share


@njit(error_model="numpy")
def _estimate(state: State, at: int, n: int) -> float:
    """The squared spread from the sums over n pairs, with its sign; NaN where the window does not identify it."""
    share = 1.0 / n
    pt = _mean(state, at, 4, share)
    po = _mean(state, at, 30, share)
    pc = _mean(state, at, 31, share)
    if pt * n < 1.5 or po == 0.0 or pc == 0.0:
        return math.nan
    o, c = -4.0 / po, -4.0 / pc
    d1 = _mean(state, at, 5, share) / pt
    d3 = _mean(state, at, 7, share) / pt
    d5 = _mean(state, at, 9, share) / pt
    e1 = o * (_mean(state, at, 0, share) - d1 * _mean(state, at, 6, share)) + c * (
        _mean(state, at, 1, share) - d3 * _mean(state, at, 8, share)
    )
    e2 = o * (_mean(state, at, 2, share) - d1 * _mean(state, at, 29, share)) + c * (
        _mean(state, at, 3, share) - d5 * _mean(state, at, 8, share)
    )
    v1 = (
        o * o * (_mean(state, at, 10, share) - 2.0 * d1 * _mean(state, at, 19, share) + d1 * d1 * _mean(state, at, 16, share))
        + c * c * (_mean(state, at, 11, share) - 2.0 * d3 * _mean(state, at, 20, share) + d3 * d3 * _mean(state, at, 17, share))
        + 2.0 * o * c * (
            _mean(state, at, 14, share) - d1 * _mean(state, at, 24, share) - d3 * _mean(state, at, 23, share)
            + d1 * d3 * _mean(state, at, 25, share)
        )
        - e1 * e1
    )  # fmt: skip
    v2 = (
        o * o * (_mean(state, at, 12, share) - 2.0 * d1 * _mean(state, at, 21, share) + d1 * d1 * _mean(state, at, 18, share))
        + c * c * (_mean(state, at, 13, share) - 2.0 * d5 * _mean(state, at, 22, share) + d5 * d5 * _mean(state, at, 17, share))
        + 2.0 * o * c * (
            _mean(state, at, 15, share) - d1 * _mean(state, at, 27, share) - d5 * _mean(state, at, 26, share)
            + d1 * d5 * _mean(state, at, 28, share)
        )
        - e2 * e2
    )  # fmt: skip
    both = v1 + v2
    return (v2 * e1 + v1 * e2) / both if both > 0.0 else 0.5 * (e1 + e2)


@primitive(slots=lambda pairs: _HEADER + 3 * _SUMS + _PAIR * pairs, delay=lambda pairs: pairs)
def edge_square(state: State, at: int, opened: float, high: float, low: float, close: float, pairs: int) -> float:
    """EDGE's squared spread of the last ``pairs`` pairs of bars, negative where the estimate is.

    Slots: _HEADER, the sums, their low parts, terms, the pairs.
    """
    if opened != opened or high != high or low != low or close != close:
        return math.nan
    seen, high_before, low_before, close_before = state[at], state[at + 1], state[at + 2], state[at + 3]
    state[at], state[at + 1], state[at + 2], state[at + 3] = 1.0, high, low, close
    if seen == 0.0:
        return math.nan
    sums = at + _HEADER
    place = int(state[at + 5])
    pair = sums + 3 * _SUMS + _PAIR * place
    if state[at + 4] == pairs:
        _account(state, sums, pair, -1.0)
    else:
        state[at + 4] += 1.0
    r1 = 0.5 * math.log((high / opened) * (low / opened))
    r2 = 0.5 * math.log((opened / high_before) * (opened / low_before))
    r3 = 0.5 * math.log((high / close_before) * (low / close_before))
    r4 = 0.5 * math.log((close_before / high_before) * (close_before / low_before))
    r5 = math.log(opened / close_before)
    opens = -1.0
    closes = -1.0
    if high != low or low != close_before:
        opens = (1.0 if opened != high else 0.0) + (1.0 if opened != low else 0.0)
        closes = (1.0 if close_before != high_before else 0.0) + (1.0 if close_before != low_before else 0.0)
    state[np.uint64(pair)], state[np.uint64(pair + 1)], state[np.uint64(pair + 2)] = r1, r2, r3
    state[np.uint64(pair + 3)], state[np.uint64(pair + 4)] = r4, r5
    state[np.uint64(pair + 5)], state[np.uint64(pair + 6)] = opens, closes
    _account(state, sums, pair, 1.0)
    state[at + 5] = place + 1 if place + 1 < pairs else 0
    return _estimate(state, sums, pairs) if state[at + 4] == pairs else math.nan
