"""What is current between the events that change it. An absent (NaN) input leaves the state, and gives what it holds."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tapeline.kernels.primitive import primitive

State = NDArray[np.float64]


@primitive(outputs=2, slots=2)
def before_and_now(state: State, at: int, x: float) -> tuple[float, float]:
    """The last value that was carried by a row before this one, and by this row or one before it.

    Slots: whether there was one, the last one.
    """
    before = state[at + 1] if state[at] != 0.0 else math.nan
    if x != x:
        return before, before
    state[at], state[at + 1] = 1.0, x
    return before, x


@primitive(slots=2)
def of_last(state: State, at: int, event: float, value: float) -> float:
    """The value at the last row that carried the event; NaN if that row gave none. Slots: whether there was one, value."""
    if event == event:
        state[at], state[at + 1] = 1.0, value
        return value
    return state[at + 1] if state[at] != 0.0 else math.nan


@primitive()
def either(a: float, b: float) -> float:
    """1 where at least one of two is carried, else NaN."""
    return 1.0 if a == a or b == b else math.nan
