"""Steps of oscillators: aligned and fixed-factor averages, guarded quotients, Ehlers' Fisher transform."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tapeline.kernels.compensated import add
from tapeline.kernels.primitive import primitive

State = NDArray[np.float64]


@primitive()
def positive_part(x: float) -> float:
    """The value where it is positive, else 0."""
    if x != x:
        return math.nan
    return max(x, 0.0)


@primitive(slots=3, delay=lambda n, skip, _factor: skip + n - 1)
def fixed_exponential_mean(state: State, at: int, x: float, n: int, skip: int, factor: float) -> float:
    """Exponential mean with a given factor, seeded with the plain mean of values skip+1 … skip+n.

    Slots: count, value or sum, its low part.
    """
    if x != x:
        return math.nan
    count = state[at] + 1.0
    state[at] = count
    if count > skip + n:
        state[at + 1] += factor * (x - state[at + 1])
        return state[at + 1]
    if count <= skip:
        return math.nan
    state[at + 1], state[at + 2] = add(state[at + 1], state[at + 2], x)
    if count < skip + n:
        return math.nan
    state[at + 1] /= n
    return state[at + 1]


@primitive(slots=2)
def exponential_filter(state: State, at: int, x: float, factor: float) -> float:
    """Exponential mean with a given factor, seeded with the first value. Slots: started, value."""
    if x != x:
        return math.nan
    if state[at] == 0.0:
        state[at], state[at + 1] = 1.0, x
    else:
        state[at + 1] += factor * (x - state[at + 1])
    return state[at + 1]


@primitive()
def quotient_above(numerator: float, denominator: float, floor: float, otherwise: float) -> float:
    """Quotient, or ``otherwise`` where the denominator is at most ``floor``: a range of rounding errors is no range."""
    if numerator != numerator or denominator != denominator or floor != floor:
        return math.nan
    return numerator / denominator if denominator > floor else otherwise


@primitive(slots=1)
def held_quotient_above(state: State, at: int, numerator: float, denominator: float, floor: float) -> float:
    """Quotient, or the last one (before the first: 0) where the denominator is at most ``floor``. Slot: the last one."""
    if numerator != numerator or denominator != denominator or floor != floor:
        return math.nan
    if denominator > floor:
        state[at] = numerator / denominator
    return state[at]


@primitive()
def efficiency(change: float, path: float) -> float:
    """How straight a path was, 0 to 1: its net change over its length; 1 for a path of no length, as TA-Lib has it."""
    if change != change or path != path:
        return math.nan
    distance = abs(change)
    return 1.0 if path <= distance else distance / path


@primitive(slots=2)
def fisher_transform(state: State, at: int, position: float) -> float:
    """Ehlers' Fisher transform of a position in a range, −½ to ½: smoothed, kept inside ±0.999, transformed, smoothed.

    Slots: smoothed position, transform.
    """
    if position != position:
        return math.nan
    value = 0.66 * position + 0.67 * state[at]
    if value > 0.99:
        value = 0.999
    elif value < -0.99:
        value = -0.999
    state[at] = value
    state[at + 1] = 0.5 * math.log((1.0 + value) / (1.0 - value)) + 0.5 * state[at + 1]
    return state[at + 1]
