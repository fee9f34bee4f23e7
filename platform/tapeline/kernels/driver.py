"""Runs the sections of compiled programs over one row, one row of many entities, or the histories of many.

One compiled form serves all programs: what differs between them is in the *layout*, an int64 array whose address is a
program's handle, and in the sections, C functions that it names by their addresses. So a program's own code is compiled
once, however it is run, and batch, stream and cross-section cannot differ: they run the very same machine code.

A layout holds the sizes of a state, a row, the outputs and the work in float64 slots, whether prices are adjusted for
dividends, the number of sections, and their addresses. A row's *work* slots begin with :data:`WORK_HEADER` of its own;
behind these, sections hand on what later ones need. ``update`` runs all sections over one row; ``batch`` and ``across`` run
each over a block of rows before the next, so that its code and state stay in the nearest cache. ``scattered`` is ``batch``
over states that lie anywhere in a matrix, for streams.

The whole numbers of a state's header are the bits of float64 slots. Arrays are borrowed from the caller throughout, so
reference counting (_nrt) is off: its atomic operations would cost more than a dozen indicators.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.kernels.memory import address_of, call_section, floats_at, integers_at, stack_floats

STATE_SIZE, ROW_SIZE, OUT_SIZE, WORK_SIZE, DIVIDENDS, SECTIONS, LAYOUT_HEADER = 0, 1, 2, 3, 4, 5, 6
"""Places in a layout; the sections' addresses follow."""

FACTOR, INVERSE, EVENT, DIVIDEND, UNDIVIDEND, WORK_HEADER = 0, 1, 2, 3, 4, 5
"""Work slots: split factor and its inverse, event time (int64 bits), dividend factor and its inverse."""

BLOCK_ROWS = 32
"""Rows that a section takes before the next one: long enough to pay for loading its code, short enough for the cache."""

SIGNATURES = {
    "update": "int64(int64, float64[::1], int64, int64, int64, float64[::1], float64[::1])",
    "batch": (
        "int64(int64, int64[::1], int64[::1], int64[::1], float64[:, ::1], int64[::1], int64, int64, float64[:, ::1], "
        "float64[:, ::1], int64[::1], float64[:, ::1])"
    ),
    "across": (
        "int64(int64, int64[::1], int64[::1], int64[::1], float64[:, ::1], float64[:, ::1], float64[:, ::1], "
        "float64[:, ::1])"
    ),
    "scattered": (
        "int64(int64, int64[::1], int64[::1], int64[::1], float64[:, ::1], int64[::1], int64[::1], float64[:, ::1], "
        "float64[:, ::1], int64[::1], float64[:, ::1])"
    ),
}
"""The one kind of arguments that each of these is compiled for, when it is first needed."""

State = NDArray[np.float64]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@njit(error_model="numpy", nogil=True, _nrt=False)  # type: ignore[call-overload]
def bits(slot: float) -> Any:
    """The whole number that a slot holds."""
    return np.float64(slot).view(np.int64)


@njit(error_model="numpy", nogil=True, _nrt=False)  # type: ignore[call-overload]
def check(state: State, event_us: int, sequence: int, row: Floats, dividends: int) -> int:
    """0, or why a row is refused: 2, it does not come after the state; 3 or 4, its split or dividend ratio is impossible."""
    if bits(state[0]) > 0:
        last_us = bits(state[1])
        if event_us < last_us or (event_us == last_us and sequence <= bits(state[2])):
            return 2
    if not 0.0 < row[-1] < math.inf:
        return 3
    if dividends != 0 and not 0.0 < row[-2] < math.inf:
        return 4
    return 0


@njit(error_model="numpy", nogil=True, _nrt=False)  # type: ignore[call-overload]
def begin(
    state: State, event_us: int, sequence: int, available_us: int, row: Floats, work: Floats, dividends: int
) -> None:
    """Take a row into the state's header, and write what every section needs of it into its work slots."""
    rows = bits(state[0])
    if rows > 0:
        available_us = max(available_us, bits(state[3]))
    factor = state[4] * row[-1]
    state[0] = np.int64(rows + 1).view(np.float64)
    state[1] = np.int64(event_us).view(np.float64)
    state[2] = np.int64(sequence).view(np.float64)
    state[3] = np.int64(available_us).view(np.float64)
    state[4] = factor
    work[FACTOR] = factor
    work[INVERSE] = 1.0 / factor
    work[EVENT] = np.int64(event_us).view(np.float64)
    if dividends != 0:
        dividend = state[5] * row[-2]
        state[5] = dividend
        work[DIVIDEND] = dividend
        work[UNDIVIDEND] = 1.0 / dividend


# Unlike the others it holds the interpreter's lock: to give it away and get it back takes a tenth of its time.
@njit(error_model="numpy", _nrt=False, cache=True)  # type: ignore[call-overload]
def update(handle: int, state: State, event_us: int, sequence: int, available_us: int, row: Floats, out: Floats) -> int:
    """Take one row: advance the state and write its outputs; 0, or a code of :func:`check`, or 1 if a size is wrong."""
    layout = integers_at(handle, LAYOUT_HEADER)
    if state.size != layout[STATE_SIZE] or row.size != layout[ROW_SIZE] or out.size != layout[OUT_SIZE]:
        return 1
    code = check(state, event_us, sequence, row, layout[DIVIDENDS])
    if code != 0:
        return code
    state_at, row_at, out_at = address_of(state), address_of(row), address_of(out)
    work_at = stack_floats(layout[WORK_SIZE])
    begin(state, event_us, sequence, available_us, row, floats_at(work_at, layout[WORK_SIZE]), layout[DIVIDENDS])
    sections = integers_at(handle + 8 * LAYOUT_HEADER, layout[SECTIONS])
    for number in range(layout[SECTIONS]):
        call_section(sections[number], state_at, row_at, work_at, out_at)
    return 0


@njit(error_model="numpy", nogil=True, _nrt=False)  # type: ignore[call-overload]
def run_block(handle: int, state_at: int, state_step: int, row_at: int, work_at: int, out_at: int, count: int) -> None:
    """Run each section over so many rows before the next; ``state_step`` (bytes) is 0 if they are of one entity."""
    layout = integers_at(handle, LAYOUT_HEADER)
    sections = integers_at(handle + 8 * LAYOUT_HEADER, layout[SECTIONS])
    row_step, work_step, out_step = 8 * layout[ROW_SIZE], 8 * layout[WORK_SIZE], 8 * layout[OUT_SIZE]
    for number in range(layout[SECTIONS]):
        section = sections[number]
        for k in range(count):
            call_section(
                section,
                state_at + k * state_step,
                row_at + k * row_step,
                work_at + k * work_step,
                out_at + k * out_step,
            )


@njit(error_model="numpy", nogil=True, _nrt=False, cache=True)  # type: ignore[call-overload]
def batch(
    handle: int,
    event_us: Integers,
    sequence: Integers,
    available_us: Integers,
    rows: Floats,
    offsets: Integers,
    first: int,
    last: int,
    states: Floats,
    out: Floats,
    available_out: Integers,
    work: Floats,
) -> int:
    """The histories of entities ``first`` to ``last``; 0, or the code of the first refused row plus 8 times its number."""
    dividends = integers_at(handle, LAYOUT_HEADER)[DIVIDENDS]
    for entity in range(first, last):
        state = states[entity]
        for block in range(offsets[entity], offsets[entity + 1], BLOCK_ROWS):
            count = min(BLOCK_ROWS, offsets[entity + 1] - block)
            for k in range(count):
                i = block + k
                code = check(state, event_us[i], sequence[i], rows[i], dividends)
                if code != 0:
                    return int(code + 8 * i)
                begin(state, event_us[i], sequence[i], available_us[i], rows[i], work[k], dividends)
                available_out[i] = bits(state[3])
            run_block(
                handle, address_of(state), 0, address_of(rows[block]), address_of(work), address_of(out[block]), count
            )
    return 0


@njit(error_model="numpy", nogil=True, _nrt=False, cache=True)  # type: ignore[call-overload]
def scattered(
    handle: int,
    event_us: Integers,
    sequence: Integers,
    available_us: Integers,
    rows: Floats,
    offsets: Integers,
    places: Integers,
    states: Floats,
    out: Floats,
    available_out: Integers,
    work: Floats,
) -> int:
    """The next rows of some of many entities: those from ``offsets[k]`` on go on from ``states[places[k]]``; codes as in :func:`batch`."""
    for k in range(len(places)):
        place = places[k]
        code = batch(
            handle, event_us, sequence, available_us, rows, offsets[k : k + 2], 0, 1, states[place : place + 1], out,
            available_out, work,
        )  # fmt: skip
        if code != 0:
            return int(code)
    return 0


@njit(error_model="numpy", nogil=True, _nrt=False, cache=True)  # type: ignore[call-overload]
def across(
    handle: int,
    event_us: Integers,
    sequence: Integers,
    available_us: Integers,
    rows: Floats,
    states: Floats,
    out: Floats,
    work: Floats,
) -> int:
    """One row of each entity; codes as in :func:`batch`, and then no state is changed."""
    layout = integers_at(handle, LAYOUT_HEADER)
    dividends = layout[DIVIDENDS]
    for i in range(len(states)):
        code = check(states[i], event_us[i], sequence[i], rows[i], dividends)
        if code != 0:
            return int(code + 8 * i)
    for block in range(0, len(states), BLOCK_ROWS):
        count = min(BLOCK_ROWS, len(states) - block)
        for k in range(count):
            i = block + k
            begin(states[i], event_us[i], sequence[i], available_us[i], rows[i], work[k], dividends)
        run_block(
            handle, address_of(states[block]), 8 * layout[STATE_SIZE], address_of(rows[block]), address_of(work),
            address_of(out[block]), count,
        )  # fmt: skip
    return 0
