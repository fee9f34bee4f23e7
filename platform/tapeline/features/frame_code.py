"""Generated code of time frames: bars made from base rows, and the features over them, inside a plan's one function.

For each frame the program gets a function that computes the features of a finished bar and keeps them in the state; the
row's own code only takes the row into the bar, and calls that function when the bar is finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tapeline.core.errors import ParameterError
from tapeline.features.codegen import PartCode
from tapeline.features.timeframes import TimeFrame
from tapeline.features.writer import Writer, in_order, literal, ring_capacities, slots_of
from tapeline.indicators.expression import Expression, Operation, column
from tapeline.kernels import frames as kernels

_FOLDS = {
    "open": kernels.take_first,
    "high": kernels.take_highest,
    "low": kernels.take_lowest,
    "close": kernels.take_last,
    "volume": kernels.take_sum,
    "session": kernels.take_first,
}
_STEPS = (
    kernels.epoch_end,
    kernels.given_end,
    kernels.frame_is_over,
    kernels.frame_takes,
    kernels.frame_close,
    kernels.copy_slots,
)


def frame_kernels(name: str) -> tuple[Any, ...]:
    """The compiled steps that make a column of a frame's bars."""
    return (*_STEPS, _FOLDS[name])


_DECORATOR = '\n\n@njit(error_model="numpy", nogil=True, _nrt=False)\n'


@dataclass
class FrameFeatures:
    """The features of one frame in a plan; a part of a program, see :class:`tapeline.features.codegen.ProgramPart`.

    Attributes
    ----------
    frame
        The frame, not partial.
    number
        Of the frame in the plan, for names.
    positions
        Which of the plan's outputs they are.
    expressions
        What is computed of a finished bar.
    partial
        For each whether the unfinished bar is to show in it.
    """

    frame: TimeFrame
    number: int
    positions: list[int] = field(default_factory=list)
    expressions: list[Expression] = field(default_factory=list)
    partial: list[bool] = field(default_factory=list)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that its bars have, in alphabetical order.

        Raises
        ------
        ParameterError
            If a feature takes a column that bars made of rows do not have.
        """
        found = {str(o.constants[0]) for o in in_order(self.expressions) if o.kind in {"input", "sound"}}
        if not found <= _FOLDS.keys():
            raise ParameterError(
                f"bars of a time frame have no {min(found - _FOLDS.keys())}",
                where=f"time frame {self.frame.text}",
                remedy="Ask for features of events without a time frame",
            )
        return tuple(sorted(found))

    @property
    def end_column(self) -> str | None:
        """The row column with the ends of its bars, if it needs one."""
        return self.frame.end_column

    def write(self, writer: Writer, moment: str) -> PartCode:
        """Add the row's code and the state to a program.

        Parameters
        ----------
        writer
            Writes the row's code, where all :attr:`columns` have their names.
        moment
            Source of the moment that decides which bar a row belongs to.
        """
        number = self.number
        at = writer.take(kernels.FRAME_HEADER)
        slots = {name: writer.take(1) for name in self.columns}
        held = [writer.take(1) for _ in self.expressions]
        inner = self._bar_code(slots, held, at, writer.size)
        writer.size = inner.size

        call, end = f"frame_{number}(state)", f"end_{number}"
        if self.end_column is None:
            writer.line(f"{end} = epoch_end({moment}, {literal(self.frame.width_us)})")
        else:
            writer.line(f"{end} = given_end(row[{writer.inputs.index(self.end_column)}])")
        writer.line(f"if frame_is_over(state, {literal(at)}, {moment}, {end}):")
        writer.line(f"    {call}")
        writer.line(f"if frame_takes(state, {literal(at)}, {end}):")
        writer.line(f"    opens_{number} = state[{at}] == 1.0")
        for name, slot in slots.items():
            value = writer.names[column(name).key]
            writer.line(f"    {_FOLDS[name].py_func.__name__}(state, {literal(slot)}, opens_{number}, {value})")
        writer.line(f"    if event_us >= {end}:")
        writer.line(f"        {call}")
        names = tuple(f"h{number}_{place}" for place in range(len(held)))
        for name, slot, partial in zip(names, held, self.partial, strict=True):
            if not partial:
                writer.line(f"{name} = state[{slot}] if state[{at + 2}] > 0.0 else math.nan")
        if any(self.partial):
            self._write_partial(writer, names, held, at, inner.size)
        function = f"{_DECORATOR}def frame_{number}(state):\n" + "".join(inner.lines)
        used = (*_STEPS, *(_FOLDS[name] for name in self.columns))
        return PartCode(function, names, tuple(inner.primitives.values()), used)

    def _bar_code(self, slots: dict[str, int], held: Sequence[int], at: int, size: int) -> _BarWriter:
        """Code that computes and keeps the features of the bar that is complete."""
        order = in_order(self.expressions)
        inner = _BarWriter(slots, slots_of(order), size)
        inner.section(ring_capacities(order), header=False)
        for operation in order:
            inner.write(operation)
        for slot, expression in zip(held, self.expressions, strict=True):
            inner.line(f"state[{slot}] = {inner.need(expression)}")
        inner.line(f"frame_close(state, {literal(at)})")
        return inner

    def _write_partial(self, writer: Writer, names: Sequence[str], held: Sequence[int], at: int, end: int) -> None:
        """Finish the open bar, note what it gives, and put the state back as it was."""
        copy, size = writer.take(end - at), literal(end - at)
        pending = f"pending_{self.number}"
        writer.line(f"{pending} = state[{at}] > 0.0")
        writer.line(f"if {pending}:")
        writer.line(f"    copy_slots(state, {literal(at)}, {literal(copy)}, {size})")
        writer.line(f"    frame_{self.number}(state)")
        for name, slot, partial in zip(names, held, self.partial, strict=True):
            if partial:
                writer.line(f"{name} = state[{slot}] if state[{at + 2}] > 0.0 else math.nan")
        writer.line(f"if {pending}:")
        writer.line(f"    copy_slots(state, {literal(copy)}, {literal(at)}, {size})")


class _BarWriter(Writer):
    """Writes the features of a frame's bar, whose columns lie in the state."""

    def __init__(self, columns: dict[str, int], slots: int, size: int) -> None:
        super().__init__((), slots, size)
        self.columns = columns

    def statements(self, operation: Operation, targets: Sequence[str]) -> list[str]:
        if operation.kind == "input":
            return [f"{targets[0]} = state[{self.columns[str(operation.constants[0])]}]"]
        return super().statements(operation, targets)


def frames_of(expressions: Sequence[Expression], frames: Sequence[TimeFrame | None]) -> tuple[FrameFeatures, ...]:
    """The outputs of a plan that have a frame, grouped by the bars that they are computed from."""
    groups: dict[TimeFrame, FrameFeatures] = {}
    for position, (expression, frame) in enumerate(zip(expressions, frames, strict=True)):
        if frame is not None:
            group = groups.setdefault(frame.finished, FrameFeatures(frame.finished, len(groups)))
            group.positions.append(position)
            group.expressions.append(expression)
            group.partial.append(frame.partial)
    return tuple(groups.values())
