"""Bars of a longer time frame, made inside a plan from its base rows.

An open frame bar lies in the plan's flat state: three slots of header, then one slot for each column that features of
the frame take. The header holds the rows taken so far (0: no bar is open), the end of the bar that is open or was
finished last (int64 bits), and the number of finished bars.

Each column takes the rows on which it is valid: the open is the first valid open, the volume the sum of the valid
volumes. A column without any is NaN. A finished bar never changes: a further row of its time is left out.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

FRAME_HEADER = 3
NO_BAR = -(2**62)
"""The end of a row that belongs to no bar of the frame, such as one between sessions."""

_EXACT = 2.0**53

State = NDArray[np.float64]


@njit(error_model="numpy", forceinline=True)
def epoch_end(moment_us: int, width_us: int) -> int:
    """End of the interval that a moment lies in; intervals are aligned to multiples of their width since the epoch."""
    return moment_us // width_us * width_us + width_us


@njit(error_model="numpy", forceinline=True)
def given_end(value: float) -> int:
    """End of a row's frame bar from its row column; anything that is no time means none."""
    return int(value) if -_EXACT < value < _EXACT else NO_BAR


@njit(error_model="numpy", forceinline=True)
def frame_is_over(state: State, at: int, moment_us: int, end_us: int) -> bool:
    """Whether a row at a moment, which belongs to the bar of an end, shows that the open bar has ended before it."""
    if state[at] == 0.0:
        return False
    open_us = np.float64(state[at + 1]).view(np.int64)
    return bool(moment_us >= open_us or end_us > open_us)


@njit(error_model="numpy", forceinline=True)
def frame_takes(state: State, at: int, end_us: int) -> bool:
    """Count a row into its bar, opening that if need be; False if the row belongs to none, or to a finished one."""
    if end_us == NO_BAR:
        return False
    if state[at] == 0.0:
        if state[at + 2] > 0.0 and end_us <= np.float64(state[at + 1]).view(np.int64):
            return False
        state[at + 1] = np.int64(end_us).view(np.float64)
    state[at] += 1.0
    return True


@njit(error_model="numpy", forceinline=True)
def frame_close(state: State, at: int) -> None:
    """Count the open bar as finished."""
    state[at] = 0.0
    state[at + 2] += 1.0


@njit(error_model="numpy", forceinline=True)
def take_first(state: State, slot: int, opens: bool, x: float) -> None:
    """The first valid value of a bar."""
    if opens or state[slot] != state[slot]:
        state[slot] = x


@njit(error_model="numpy", forceinline=True)
def take_highest(state: State, slot: int, opens: bool, x: float) -> None:
    """The greatest valid value of a bar."""
    if opens or state[slot] != state[slot] or x > state[slot]:
        state[slot] = x


@njit(error_model="numpy", forceinline=True)
def take_lowest(state: State, slot: int, opens: bool, x: float) -> None:
    """The least valid value of a bar."""
    if opens or state[slot] != state[slot] or x < state[slot]:
        state[slot] = x


@njit(error_model="numpy", forceinline=True)
def take_last(state: State, slot: int, opens: bool, x: float) -> None:
    """The last valid value of a bar."""
    if opens or x == x:
        state[slot] = x


@njit(error_model="numpy", forceinline=True)
def take_sum(state: State, slot: int, opens: bool, x: float) -> None:
    """The sum of the valid values of a bar; it starts anew with each bar, so nothing drifts."""
    if opens or state[slot] != state[slot]:
        state[slot] = x
    elif x == x:
        state[slot] += x


@njit(error_model="numpy", forceinline=True)
def copy_slots(state: State, source: int, target: int, count: int) -> None:
    """Copy a part of the state to another that it does not touch."""
    for i in range(count):
        state[np.uint64(target + i)] = state[np.uint64(source + i)]
