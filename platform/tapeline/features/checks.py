"""What a plan refuses, and in which words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import ContinuityError, InvalidDataError, OutOfOrderError, ParameterError, UnknownNameError
from tapeline.core.timestamps import format_us
from tapeline.features.state import position_of

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_NOT_AFTER, _BAD_SPLIT, _BAD_DIVIDEND = 2, 3, 4  # codes of the compiled step; 1 is a wrong size


def refuse_update(
    code: int, sizes: tuple[int, int, int], state: Floats, event_us: int, sequence: int, row: Floats, out: Floats
) -> NoReturn:
    """Raise the error of an update's code; ``sizes`` are those of state, row and out."""
    if code == _NOT_AFTER:
        last = position_of(state)
        raise ContinuityError(
            "a row does not come after the state it is to continue",
            where=f"row at {format_us(event_us)} #{sequence}, state at {format_us(last.event_us)} #{last.sequence}",
            remedy="Send only rows that are newer than the state",
        )
    if code == _BAD_SPLIT:
        raise InvalidDataError(
            f"split_ratio {row[-1]} is not positive and finite", where=f"row at {format_us(event_us)}"
        )
    if code == _BAD_DIVIDEND:
        raise InvalidDataError(
            f"dividend_ratio {row[-2]} is not positive and finite", where=f"row at {format_us(event_us)}"
        )
    raise ParameterError(
        f"sizes must be state {sizes[0]}, row {sizes[1]}, out {sizes[2]}",
        where=f"state {state.size}, row {np.size(row)}, out {out.size}",
    )


def refuse_batch(code: int, event_us: Integers, sequence: Integers, rows: Floats, offsets: Integers) -> NoReturn:
    """Raise the error of a batch's code: an update's code, plus 8 times the row."""
    reason, row = code % 8, code // 8
    entity = int(np.searchsorted(offsets, row, side="right")) - 1
    where = f"entity {entity}, row {row}, at {format_us(int(event_us[row]))} #{int(sequence[row])}"
    if reason == _BAD_SPLIT:
        raise InvalidDataError(f"split_ratio {rows[row, -1]} is not positive and finite", where=where)
    if reason == _BAD_DIVIDEND:
        raise InvalidDataError(f"dividend_ratio {rows[row, -2]} is not positive and finite", where=where)
    if row == offsets[entity]:
        raise ContinuityError(
            "a row does not come after the state it is to continue",
            where=where,
            remedy="Pass only rows that are newer than the states",
        )
    raise OutOfOrderError(
        "rows of an entity are not in order", where=where, remedy="Sort them by event time and sequence"
    )


def check_batch(
    event_us: Integers, sequence: Integers, available_us: Integers, rows: Floats, offsets: Integers, columns: int
) -> None:
    """Refuse arrays that do not fit each other."""
    expect(rows, "rows", (len(event_us), columns))
    expect(sequence, "sequence", event_us.shape)
    expect(available_us, "available_us", event_us.shape)
    expect_offsets(offsets, len(rows))


def expect_offsets(offsets: Integers, count: int, what: str = "rows") -> None:
    """Refuse offsets that do not part so many rows."""
    if (
        offsets.ndim != 1
        or len(offsets) < 1
        or offsets[0] != 0
        or offsets[-1] != count
        or bool(np.any(np.diff(offsets) < 0))
    ):
        raise ParameterError(f"offsets must rise from 0 to the number of {what}", where=f"{count} {what}")


def positions(names: Sequence[str], outputs: Sequence[str]) -> list[int]:
    """Where the named outputs stand; refuses a name that does not exist or comes twice, and no name at all."""
    for place, name in enumerate(names):
        if name not in outputs:
            raise UnknownNameError("output of the plan", name, outputs)
        if name in names[:place]:
            raise ParameterError(f"output {name} is named twice", remedy="Name each output once")
    if not names:
        raise ParameterError("a plan without outputs computes nothing", remedy="Name the outputs to keep")
    return [outputs.index(name) for name in names]


def expect(array: NDArray[np.float64] | NDArray[np.int64], name: str, shape: tuple[int, ...]) -> None:
    """Refuse an array of another dtype, shape or layout."""
    kind = np.int64 if name in {"event_us", "sequence", "available_us", "available_out"} else np.float64
    if array.shape != shape or array.dtype != kind or not array.flags.c_contiguous:
        raise ParameterError(
            f"{name} must be a C-contiguous {np.dtype(kind).name} array of shape {shape}", where=shape_of(array)
        )


def shape_of(array: NDArray[np.float64] | NDArray[np.int64]) -> str:
    """An array in words, for messages."""
    return f"given: {array.dtype} of shape {array.shape}"
