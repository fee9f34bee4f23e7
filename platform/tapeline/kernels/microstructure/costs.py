"""What a trade cost against the mid: at once, and when some time has passed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tapeline.kernels.primitive import primitive

State = NDArray[np.float64]

PLACE = 6  # time of the newest trade, trades, reference mid, Σ q(p − mid), Σ q(m − mid), Σ q


@primitive()
def twice_signed_distance(price: float, direction: float, mid: float) -> float:
    """2q(p − m); NaN where the direction is not known."""
    return 2.0 * direction * (price - mid) if direction != 0.0 else math.nan


@primitive(outputs=3, slots=lambda _horizon_us, places: 2 + PLACE * places, delay=1)
def after_horizon(
    state: State, at: int, time: float, price: float, direction: float, mid: float, horizon_us: float, places: int
) -> tuple[float, float, float]:
    """Whether trades reached their horizon in this row, and their mean 2q(p − m₊) and 2q(m₊ − m).

    ``mid`` is the one that the row's event found. The first row later than a trade's time plus the horizon completes it:
    that row's ``mid`` was in force at the horizon. Price and direction may be NaN; such a row brings no trade. Trades of
    one microsecond wait together; when all places are taken, a trade waits with the newest ones, whose horizon then
    starts at its own time. Slots: oldest place, places taken, places.
    """
    if time != time:
        return math.nan, math.nan, math.nan
    first, taken = int(state[at]), int(state[at + 1])
    count = 0.0
    realized = 0.0
    impact = 0.0
    done = 0.0
    while taken > 0:
        place = at + 2 + PLACE * first
        if state[np.uint64(place)] + horizon_us >= time:
            break
        if mid == mid:
            moved = (mid - state[np.uint64(place + 2)]) * state[np.uint64(place + 5)]
            realized += state[np.uint64(place + 3)] - moved
            impact += moved - state[np.uint64(place + 4)]
            count += state[np.uint64(place + 1)]
        done = 1.0
        taken -= 1
        first = first + 1 if first + 1 < places else 0
    if mid == mid and abs(direction) == 1.0:
        newest = first + taken - 1
        place = at + 2 + PLACE * (newest if newest < places else newest - places)
        if taken == 0 or (taken < places and state[np.uint64(place)] != time):
            newest = first + taken
            place = at + 2 + PLACE * (newest if newest < places else newest - places)
            state[np.uint64(place + 1)] = 0.0
            state[np.uint64(place + 2)] = mid
            state[np.uint64(place + 3)] = 0.0
            state[np.uint64(place + 4)] = 0.0
            state[np.uint64(place + 5)] = 0.0
            taken += 1
        reference = state[np.uint64(place + 2)]
        state[np.uint64(place)] = time
        state[np.uint64(place + 1)] += 1.0
        state[np.uint64(place + 3)] += direction * (price - reference)
        state[np.uint64(place + 4)] += direction * (mid - reference)
        state[np.uint64(place + 5)] += direction
    state[at], state[at + 1] = first, taken
    if done == 0.0:
        return math.nan, math.nan, math.nan
    return 1.0, 2.0 * realized / count, 2.0 * impact / count
