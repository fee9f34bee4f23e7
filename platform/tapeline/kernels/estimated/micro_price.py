"""Stoikov's micro-price: the expected mid after its next infinitely many changes, from imbalance and spread.

Imbalance and spread, both in classes, are the state of a Markov chain; each step may move the mid. With r the expected move
of the next step and P the chain, the expected sum of all moves solves ``g = r + P g``. That is Stoikov's fixed point: his
``G¹ = (I−Q)⁻¹ R K`` and ``G* = Σ Bⁱ G¹`` with ``B = (I−Q)⁻¹ T`` sum up to it, where Q and T are the parts of P without and
with a move (Stoikov 2018, theorem 3.1). As he does, each step is counted a second time in the mirror (bid and ask
exchanged), so that g changes sign there, and half of the states are left to solve for.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.kernels.estimated.linear import solve
from tapeline.kernels.primitive import primitive

State = NDArray[np.float64]

# changes seen, since the fit, fitted, age, tick of the fit, last class, last bid, last ask
_HEADER = 8
_PARTS = 3  # of a ring's entry: class of the imbalance, bid, ask


def _slots(samples: int, classes: int, spreads: int, _every: int) -> int:
    half = classes // 2 * spreads
    return _HEADER + _PARTS * samples + 2 * half + half * (half + 1)


@njit(error_model="numpy", forceinline=True)
def class_of(bid_size: float, ask_size: float, classes: int) -> int:
    """The class of an imbalance: 0 is all ask; of a pair of mirrored ones, the class and its mirror."""
    total = bid_size + ask_size
    share = bid_size / total if total > 0.0 else 0.5
    return min(int(share * classes), classes - 1)


@njit(error_model="numpy", forceinline=True)
def _half_state(kind: int, bid: float, ask: float, tick: float, classes: int, spreads: int) -> tuple[int, float]:
    """The state among those that lean to the ask, and the sign by which this one is it or its mirror."""
    spread = min(max(int((ask - bid) / tick + 0.5), 1), spreads)
    half = classes // 2
    if kind < half:
        return (spread - 1) * half + kind, 1.0
    return (spread - 1) * half + classes - 1 - kind, -1.0


@njit(error_model="numpy", cache=True)
def fit_adjustments(state: State, at: int, samples: int, oldest: int, classes: int, spreads: int, table: int) -> float:
    """Expected moves of the mid for each state that leans to the ask; returns the tick, NaN if nothing was determined.

    Parameters
    ----------
    state, at, samples, oldest
        From slot ``at`` on a ring of so many observations (class, bid, ask), the oldest at this position.
    classes, spreads
        Of the imbalance (even), and of the spread in ticks, the last one open.
    table
        Where to write: per state the adjustment (NaN if it was never left), then scratch: per state the number of steps,
        then the system. The tick is the smallest spread of the window.
    """
    half = classes // 2 * spreads
    count, system, width = table + half, table + 2 * half, half + 1
    state[table : system + half * width] = 0.0
    tick = math.inf
    for i in range(samples):
        place = at + _PARTS * i
        tick = min(tick, state[place + 2] - state[place + 1])
    before, sign_before, place_before = 0, 0.0, at
    for i in range(samples):
        place = at + _PARTS * ((oldest + i) % samples)
        bid, ask = state[place + 1], state[place + 2]
        here, sign = _half_state(int(state[place]), bid, ask, tick, classes, spreads)
        if i > 0:
            # Of a step and its mirror the one that starts in this half: the move, and where it leads, take the sign.
            move = 0.5 * (bid - state[place_before + 1]) + 0.5 * (ask - state[place_before + 2])
            state[system + before * width + half] += sign_before * move
            state[system + before * width + here] -= sign_before * sign
            state[count + before] += 1.0
        before, sign_before, place_before = here, sign, place
    for i in range(half):
        steps = state[count + i]
        if steps > 0.0:
            for j in range(width):
                state[system + i * width + j] /= steps
        state[system + i * width + i] += 1.0
    if not solve(state, system, half, 1):
        return math.nan
    for i in range(half):
        state[table + i] = state[system + i * width + half] if state[count + i] > 0.0 else math.nan
    return tick


@primitive(outputs=2, slots=_slots)
def fixed_point(
    state: State, at: int, usable: float, bid: float, ask: float, bid_size: float, ask_size: float,
    samples: int, classes: int, spreads: int, every: int,
) -> tuple[float, float]:  # fmt: skip
    """The micro-price of the current quotes by the last fit, and the fit's age in rows.

    An observation is a change of bid, ask or class; steps that change nothing would cancel. Fitted every so many of them
    once the window is full. The first price is NaN while a side is empty, the book crossed or locked, or the state one
    that the window never left. ``usable`` is NaN where the row is not to count.
    """
    ring = at + _HEADER
    table = ring + _PARTS * samples
    if usable != usable:
        return math.nan, math.nan
    state[at + 3] += 1.0
    valid = 0.0 < bid < ask and bid_size + ask_size > 0.0
    kind = class_of(bid_size, ask_size, classes) if valid else 0
    if valid and (state[at] == 0.0 or kind != state[at + 5] or bid != state[at + 6] or ask != state[at + 7]):
        place = ring + _PARTS * (int(state[at]) % samples)
        state[place], state[place + 1], state[place + 2] = kind, bid, ask
        state[at + 5], state[at + 6], state[at + 7] = kind, bid, ask
        state[at] += 1.0
        state[at + 1] += 1.0
        if state[at] >= samples and (state[at + 1] >= every or state[at + 2] == 0.0):
            oldest = int(state[at]) % samples
            state[at + 4] = fit_adjustments(state, ring, samples, oldest, classes, spreads, table)
            state[at + 1] = 0.0
            state[at + 2] = 1.0
            state[at + 3] = 0.0
    if state[at + 2] == 0.0:
        return math.nan, math.nan
    tick = state[at + 4]
    if not valid or tick != tick:
        return math.nan, state[at + 3]
    number, sign = _half_state(kind, bid, ask, tick, classes, spreads)
    return bid + 0.5 * (ask - bid) + sign * state[table + number], state[at + 3]
