"""Expressions: what an indicator computes, as a graph of primitives that a feature plan can merge with others."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tapeline.kernels.arithmetic import at_least, exceeds, larger
from tapeline.kernels.primitive import Primitive, count_of, primitive_of

Constant = int | float

UNDEFINED = math.nan
"""What a quotient by zero becomes where no convention gives it a value."""


@dataclass(frozen=True, eq=False)
class Operation:
    """One evaluation of a step on given operands; equal operations have equal keys.

    Parameters
    ----------
    kind
        ``input`` (a row column), ``sound`` (1 where a row column is possible or not carried, else NaN), ``guard`` (the
        first operand, NaN where any is), ``today`` (a price in today's shares), an arithmetic sign, or ``call``.
    operands
        The values it is computed from.
    constants
        Compile-time constants of the step; for ``input`` and ``sound``, the column's name.
    primitive
        The step, if the kind is ``call``.
    """

    kind: str
    operands: tuple[Expression, ...] = ()
    constants: tuple[Constant | str, ...] = ()
    primitive: Primitive | None = None

    @cached_property
    def key(self) -> str:
        """Digest of the operation's structure: what common sub-expressions are recognised by."""
        step = f"{self.primitive.module}.{self.primitive.name}" if self.primitive else ""
        parts = [self.kind, step, *(repr(c) for c in self.constants), *(o.key for o in self.operands)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @cached_property
    def warm_up(self) -> int:
        """Valid rows needed up to and with the first that gives a value."""
        needed = max((operand.operation.warm_up for operand in self.operands), default=1)
        return needed + (count_of(self.primitive.delay, self.constants) if self.primitive else 0)


@dataclass(frozen=True, eq=False)
class Expression:
    """One value of a row: a result of an operation. Arithmetic signs and comparisons build new expressions.

    A comparison is 1 where it holds and 0 where it does not; see :func:`every` and :func:`some`.
    """

    operation: Operation
    index: int = 0

    @cached_property
    def key(self) -> str:
        """Digest that is equal for equal computations."""
        return f"{self.operation.key}:{self.index}"

    def __add__(self, other: Expression | float) -> Expression:
        return _arithmetic("+", self, other)

    def __sub__(self, other: Expression | float) -> Expression:
        return _arithmetic("-", self, other)

    def __mul__(self, other: Expression | float) -> Expression:
        return _arithmetic("*", self, other)

    def __truediv__(self, other: float) -> Expression:
        """Divide by a number; between expressions use :func:`tapeline.kernels.arithmetic.ratio`, which says what x/0 is."""
        return _arithmetic("/", self, other)

    def __gt__(self, other: Expression) -> Expression:
        return apply(exceeds, self, other)

    def __lt__(self, other: Expression) -> Expression:
        return apply(exceeds, other, self)

    def __ge__(self, other: Expression) -> Expression:
        return apply(at_least, self, other)

    def __le__(self, other: Expression) -> Expression:
        return apply(at_least, other, self)

    def __radd__(self, other: float) -> Expression:
        return _arithmetic("+", other, self)

    def __rsub__(self, other: float) -> Expression:
        return _arithmetic("-", other, self)

    def __rmul__(self, other: float) -> Expression:
        return _arithmetic("*", other, self)


def _arithmetic(sign: str, left: Expression | float, right: Expression | float) -> Expression:
    return Expression(Operation(sign, (_value(left), _value(right))))


def _value(value: Expression | float) -> Expression:
    """An operand; a number becomes a float by multiplication, which keeps the name of a named one for formulas."""
    return value if isinstance(value, Expression) else Expression(Operation("constant", (), (value * 1.0,)))


def column(name: str) -> Expression:
    """A column of the row: adjusted for splits, NaN where it is missing or impossible."""
    return Expression(Operation("input", (), (name,)))


def sound(name: str) -> Expression:
    """1 where a tick's column is possible or not carried at all, NaN where it is impossible."""
    return Expression(Operation("sound", (), (name,)))


def guard(*values: Expression) -> tuple[Expression, ...]:
    """The values, all NaN on a row where any of them is, so that whatever looks back on them stays aligned."""
    if len(values) == 1:
        return values
    ordered = tuple(sorted(values, key=lambda value: value.key))
    return tuple(
        Expression(Operation("guard", (value, *(other for other in ordered if other.key != value.key))))
        for value in values
    )


def per_share_of_today(price: Expression) -> Expression:
    """A price per share of today, where all others are per share of the first row; nothing may look back on it.

    Only for what depends on the unit of prices itself, such as an angle: outputs are brought to today by their unit.
    """
    return Expression(Operation("today", (price,)))


def every(first: Expression, *others: Expression) -> Expression:
    """1 where all of some conditions (1 or 0) hold, else 0."""
    for other in others:
        first = first * other
    return first


def some(first: Expression, *others: Expression) -> Expression:
    """1 where one of some conditions (1 or 0) holds, else 0."""
    for other in others:
        first = apply(larger, first, other)
    return first


def outcomes(step: Any, *arguments: Expression | Constant) -> tuple[Expression, ...]:
    """All results of a primitive on expressions (first) and constants (after them)."""
    operands = tuple(a for a in arguments if isinstance(a, Expression))
    constants = tuple(a for a in arguments if not isinstance(a, Expression))
    found = primitive_of(step)
    operation = Operation("call", operands, constants, found)
    return tuple(Expression(operation, index) for index in range(found.outputs))


def apply(step: Any, *arguments: Expression | Constant) -> Expression:
    """The first result of a primitive; see :func:`outcomes`."""
    return outcomes(step, *arguments)[0]
