"""From expressions to the source of a compiled program: what :mod:`tapeline.features.program_text` describes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tapeline.core.errors import ParameterError
from tapeline.features import program_text as text
from tapeline.features.outlet import Outlet
from tapeline.features.request import Hold
from tapeline.features.writer import Writer, in_order, literal, ring_capacities, slots_of
from tapeline.indicators.expression import Expression, Operation, column
from tapeline.indicators.schema import COLUMNS, schemas_of
from tapeline.kernels.primitive import Primitive

__all__ = ["PartCode", "Program", "ProgramPart", "Writer", "generate", "in_order", "literal", "ring_capacities"]

SECTION_WEIGHT = 150
"""Weight of operations at which a section ends (see :func:`_weight`): about 10 KiB of machine code."""


@dataclass(frozen=True)
class Program:
    """Generated source and the layout it assumes.

    ``sections`` is how many it has, ``inputs`` are the row columns, ``primitives`` the steps the source imports, ``support``
    other compiled functions that it imports, ``state_size`` and ``work_size`` are in float64 slots.
    """

    source: str
    sections: int
    inputs: tuple[str, ...]
    primitives: tuple[Primitive, ...]
    state_size: int
    work_size: int
    support: tuple[Any, ...] = ()


@dataclass(frozen=True)
class PartCode:
    """What a part adds to a program: a function before the update, and names that hold its outputs in the row's code."""

    function: str
    names: tuple[str, ...]
    primitives: tuple[Primitive, ...]
    support: tuple[Any, ...]


class ProgramPart(Protocol):
    """Outputs that are not computed from the row itself, such as those of longer time frames."""

    @property
    def positions(self) -> Sequence[int]:
        """Which outputs they are."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Row columns whose checked values it uses."""
        ...

    @property
    def end_column(self) -> str | None:
        """A row column that it reads unchecked."""
        ...

    def write(self, writer: Writer, moment: str) -> PartCode:
        """Add its lines and its state."""
        ...


def generate(
    outputs: Sequence[Expression],
    units: Sequence[str],
    parts: Sequence[ProgramPart] = (),
    *,
    holds: Sequence[Hold | None] = (),
    moments: bool = False,
    dividends: bool = False,
) -> Program:
    """Merge expressions into one program; equal sub-expressions are computed once.

    Parameters
    ----------
    outputs, units
        In order, those of the parts among them.
    parts
        Compute some of the outputs in another way.
    holds
        For each output what it shows of a last known value; empty: no output shows one.
    moments
        Whether a row's time is a moment of its own rather than the end of an interval that excludes it.
    dividends
        Whether prices are adjusted for dividends as well as for splits.
    """
    elsewhere = {position for part in parts for position in part.positions}
    base = [position for position in range(len(outputs)) if position not in elsewhere]
    order = in_order([*(outputs[p] for p in base), *(column(name) for part in parts for name in part.columns)])
    columns = {str(o.constants[0]) for o in order if o.kind in {"input", "sound"}}
    carried = tuple(name for name in COLUMNS if name in columns)
    _check_one_schema(carried)
    ends = (part.end_column for part in parts if part.end_column is not None)
    extra = ("dividend_ratio",) if dividends else ()
    inputs = (*carried, *ends, *extra, "split_ratio")

    writer = Writer(inputs, slots_of(order), dividends=dividends)
    outlet = Outlet(writer, units, holds or (None,) * len(outputs))
    bodies = [writer.section({})]
    for operation in order:
        if operation.kind in {"input", "sound"}:
            writer.write(operation)
    for section in _sections(outputs, base):
        bodies.append(writer.section(ring_capacities([o for _, operations in section for o in operations])))
        for position, operations in section:
            for operation in operations:
                writer.write(operation)
            if not outlet.is_written(position):
                outlet.write(position, writer.need(outputs[position]))
    written: list[PartCode] = []
    for part in parts:
        bodies.append(writer.section({}))
        for name in part.columns:
            writer.need(column(name))
        code = part.write(writer, "event_us" if moments else "event_us - 1")
        written.append(code)
        for position, name in zip(part.positions, code.names, strict=True):
            if not outlet.is_written(position):
                outlet.write(position, name)
    return _assemble(writer, bodies, written, outlet.support, len(outputs))


def _assemble(
    writer: Writer, bodies: Sequence[Sequence[str]], written: Sequence[PartCode], steps: Sequence[Any], out_size: int
) -> Program:
    """The source of all functions, and what it imports."""
    used = {(p.module, p.name): p for code in written for p in code.primitives}
    used |= {(p.module, p.name): p for p in writer.primitives.values()}
    primitives = tuple(used[key] for key in sorted(used))
    support = {f.py_func.__name__: f for f in (*steps, *(f for code in written for f in code.support))}
    _check_names([*used, *((f.py_func.__module__, name) for name, f in support.items())])
    imports = "".join(f"from {p.module} import {p.name}\n" for p in primitives)
    imports += "".join(f"from {f.py_func.__module__} import {name}\n" for name, f in sorted(support.items()))

    sizes = {
        "state_size": writer.size, "row_size": len(writer.inputs), "out_size": out_size, "work_size": writer.work_size,
    }  # fmt: skip
    sections = [text.SECTION.format(number=n, **sizes) + "".join(body) for n, body in enumerate(bodies)]
    source = "".join([text.HEAD, imports, *(code.function for code in written), *sections])
    return Program(
        source, len(sections), tuple(writer.inputs), primitives, writer.size, writer.work_size,
        tuple(support[n] for n in sorted(support)),
    )  # fmt: skip


def _check_names(used: Iterable[tuple[str, str]]) -> None:
    """A program imports steps by their bare names: two of one name would shadow each other."""
    modules: dict[str, str] = {}
    for module, name in used:
        if modules.setdefault(name, module) != module:
            raise ParameterError(
                f"two steps of one plan are called {name}",
                where=f"{modules[name]} and {module}",
                remedy="Rename one of them",
            )


def _weight(operation: Operation) -> int:
    """How much code an operation is likely to become."""
    if operation.primitive is None:
        return 1
    return 2 + (operation.primitive.history is not None) + 2 * (operation.primitive.outputs > 1)


def _sections(outputs: Sequence[Expression], positions: Sequence[int]) -> list[list[tuple[int, list[Operation]]]]:
    """Cut outputs, in their order, into runs of about equal weight, each output with the operations it is first to need."""
    seen: set[str] = set()
    found: list[list[tuple[int, list[Operation]]]] = []
    weight = SECTION_WEIGHT
    for position in positions:
        new = [o for o in in_order([outputs[position]]) if o.key not in seen and o.kind not in {"input", "sound"}]
        if weight >= SECTION_WEIGHT:
            found.append([])
            weight = 0
        found[-1].append((position, new))
        seen.update(operation.key for operation in new)
        weight += sum(map(_weight, new))
    return found


def _check_one_schema(names: Sequence[str]) -> None:
    if len(schemas_of(names)) > 1:
        bars = [name for name in names if COLUMNS[name].schema == "bars"]
        raise ParameterError(
            "features of bars and features of ticks are in one plan",
            where=f"of bars: {', '.join(bars)}; of ticks: {', '.join(name for name in names if name not in bars)}",
            remedy="Make one plan for each; `tapeline features show NAME` tells what a feature reads",
        )
