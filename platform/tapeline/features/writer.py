"""Writes the statements of a plan's operations, section by section, and lays out the state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from tapeline.features.state import HEADER_SIZE
from tapeline.indicators.expression import Constant, Expression, Operation
from tapeline.indicators.schema import COLUMNS
from tapeline.indicators.specification import SPLIT_EXPONENT
from tapeline.kernels.driver import DIVIDEND, EVENT, FACTOR, INVERSE, UNDIVIDEND, WORK_HEADER
from tapeline.kernels.primitive import Primitive, count_of
from tapeline.kernels.rolling import RING_HEADER

DIVIDEND_EXPONENT: Mapping[str, int] = MappingProxyType({"price": 1, "price squared": 2, "money": 1})
"""How often an output is divided by the cumulative dividend factor to be in terms of the prices of the day."""

_HEADER_NAMES = {
    "factor": f"work[{FACTOR}]",
    "inverse": f"work[{INVERSE}]",
    "dividend": f"work[{DIVIDEND}]",
    "undividend": f"work[{UNDIVIDEND}]",
    "event_us": f"np.float64(work[{EVENT}]).view(np.int64)",
}


def in_order(outputs: Sequence[Expression]) -> list[Operation]:
    """Every operation once, operands before users, in the order in which the outputs need them."""
    order: dict[str, Operation] = {}

    def visit(operation: Operation) -> None:
        if operation.key not in order:
            for operand in operation.operands:
                visit(operand.operation)
            order[operation.key] = operation

    for expression in outputs:
        visit(expression.operation)
    return list(order.values())


def ring_capacities(order: Sequence[Operation]) -> dict[str, int]:
    """For each series that something looks back on: the values its ring must hold, the newest included."""
    rings: dict[str, int] = {}
    for operation in order:
        if operation.primitive is not None and operation.primitive.history is not None:
            needed = count_of(operation.primitive.history, operation.constants) + 1
            for operand in operation.operands:
                rings[operand.key] = max(rings.get(operand.key, 0), needed)
    return rings


def slots_of(order: Sequence[Operation]) -> int:
    """State slots of all operations, without rings."""
    return sum(count_of(o.primitive.slots, o.constants) for o in order if o.primitive is not None)


def literal(constant: Constant | str) -> str:
    """A constant as source text that evaluates to the very same number.

    Whole numbers are wrapped, because numba compiles a function anew for every literal integer it is called with.
    """
    if isinstance(constant, int):
        return f"np.int64({constant})"
    return "math.nan" if constant != constant else repr(constant)  # noqa: PLR0124


def scaled(name: str, exponent: int) -> str:
    """A value times a power of the split factor."""
    return name + " * factor" * exponent + " * inverse" * -exponent


def output(name: str, unit: str, *, dividends: bool) -> str:
    """A value in terms of the share of the day."""
    value = scaled(name, SPLIT_EXPONENT.get(unit, 0))
    return value + " * undividend" * DIVIDEND_EXPONENT.get(unit, 0) if dividends else value


class Writer:
    """Lays out the state and writes one statement for each operation.

    Slots come before all rings, so that what every row touches lies together. A section that looks back on a series has
    a ring of its own for it: the sections of a block of rows do not see the same newest row.

    Parameters
    ----------
    inputs
        Row columns, in order.
    slots
        State slots that the operations will take, without rings.
    size
        The first free slot.
    """

    def __init__(
        self, inputs: Sequence[str], slots: int = 0, size: int = HEADER_SIZE, *, dividends: bool = False
    ) -> None:
        self.inputs = inputs
        self.dividends = dividends
        self.next_slot = size
        self.size = size + slots
        self.lines: list[str] = []
        self.names: dict[str, str] = {}
        self.rings: dict[str, int] = {}
        self.ring_names: dict[str, str] = {}
        self.primitives: dict[str, Primitive] = {}
        self.work_size = WORK_HEADER
        self._targets: dict[str, str] = {}
        self._work: dict[str, int] = {}
        self._home: dict[str, tuple[list[str], int]] = {}

    def line(self, text: str) -> None:
        """Add a line to the section."""
        self.lines.append(f"    {text}\n")

    def take(self, slots: int) -> int:
        """Reserve state behind everything so far; returns the first slot."""
        at = self.size
        self.size += slots
        return at

    def section(self, rings: Mapping[str, int], *, header: bool = True) -> list[str]:
        """Begin a section with these rings of its own; returns its lines, which grow as it is written."""
        self.lines, self.names, self.ring_names, self.rings = [], {}, {}, dict(rings)
        if header:
            for name, source in _HEADER_NAMES.items():
                if self.dividends or "dividend" not in name:
                    self.line(f"{name} = {source}")
        return self.lines

    def need(self, expression: Expression) -> str:
        """Name of a value in this section; what an earlier section computed comes through its work slot."""
        key = expression.key
        if key not in self.names:
            if expression.operation.kind == "constant":
                self.names[key] = literal(expression.operation.constants[0])
                return self.names[key]
            target = self._targets[key]
            if key not in self._work:
                self._work[key] = self.work_size
                self.work_size += 1
                lines, place = self._home[key]  # at once: held until the section's end it would cost a register
                lines[place] += f"    work[{self._work[key]}] = {target}\n"
            self.line(f"{target} = work[{self._work[key]}]")
            self.names[key] = target
            self._push(key, target)
        return self.names[key]

    def write(self, operation: Operation) -> None:
        """Write an operation into this section, once."""
        if operation.kind == "constant" or Expression(operation).key in self._targets:
            return
        number = len(self._targets)
        count = operation.primitive.outputs if operation.primitive else 1
        targets = [f"v{number}" if count == 1 else f"v{number}_{index}" for index in range(count)]
        for statement in self.statements(operation, targets):
            self.line(statement)
        for index, target in enumerate(targets):
            key = Expression(operation, index).key
            self.names[key] = self._targets[key] = target
            self._home[key] = self.lines, len(self.lines) - 1
            self._push(key, target)

    def _push(self, key: str, target: str) -> None:
        if key in self.rings:
            ring, capacity = self.take(RING_HEADER + self.rings[key]), self.rings[key]
            place = f"{literal(ring)}, {literal(capacity)}"
            self.ring_names[key] = f"{place}, n{target}"
            self.line(f"n{target} = push(state, {place}, {target})")

    def statements(self, operation: Operation, targets: Sequence[str]) -> list[str]:
        """The source of an operation."""
        operands = [self.need(operand) for operand in operation.operands]
        target = targets[0]
        if operation.kind == "input":
            name = str(operation.constants[0])
            rule = COLUMNS[name]
            condition = rule.condition.format(target)
            value = scaled(target, rule.split_power)
            if self.dividends and rule.split_power > 0:
                value += " * dividend"
            return [
                f"{target} = row[{self.inputs.index(name)}]",
                f"{target} = {value} if {condition} else math.nan",
            ]
        if operation.kind == "sound":
            name = str(operation.constants[0])
            condition = COLUMNS[name].condition.format(target)
            return [
                f"{target} = row[{self.inputs.index(name)}]",
                f"{target} = 1.0 if {target} != {target} or {condition} else math.nan",
            ]
        if operation.kind == "guard":
            condition = " and ".join(f"{name} == {name}" for name in operands)
            return [f"{target} = {operands[0]} if {condition} else math.nan"]
        if operation.kind == "today":
            return [f"{target} = {scaled(operands[0], -1)}"]
        if operation.primitive is None:
            return [f"{target} = {operands[0]} {operation.kind} {operands[1]}"]
        return [f"{', '.join(targets)} = {self._call(operation, operation.primitive, operands)}"]

    def _call(self, operation: Operation, primitive: Primitive, operands: Sequence[str]) -> str:
        self.primitives[f"{primitive.module}.{primitive.name}"] = primitive
        slots = count_of(primitive.slots, operation.constants)
        arguments = []
        if slots or primitive.history is not None:
            arguments += ["state", literal(self.next_slot)]
            self.next_slot += slots
        if primitive.history is not None:
            arguments += [self.ring_names[operand.key] for operand in operation.operands]
        arguments += [*operands, *(literal(constant) for constant in operation.constants)]
        return f"{primitive.name}({', '.join(arguments)})"
