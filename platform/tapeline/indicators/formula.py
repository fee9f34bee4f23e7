"""Formulas in readable form, written from the expression graph, so that they cannot disagree with what is computed."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tapeline.indicators.expression import Expression, Operation
from tapeline.indicators.named_constants import Named, named, spelled
from tapeline.indicators.specification import Indicator
from tapeline.kernels.primitive import Primitive

LENGTH_MAX = 72
"""Characters of a formula beyond which its parts get lines of their own."""

_SUM, _PRODUCT, _ATOM = 1, 2, 3
_LETTERS = "abcdefghijkmnpqrsuvwxyz"

# Steps that everybody writes in one way; all others are written as name(arguments) and explained below the formula.
_PLAIN = {
    "logarithm": "ln({0})",
    "square_root": "√({0})",
    "absolute": "|{0}|",
    "larger": "max({0}, {1})",
    "smaller": "min({0}, {1})",
    "positive": "[{0} > 0]",
    "exceeds": "[{0} > {1}]",
    "at_least": "[{0} ≥ {1}]",
}
_OTHER_KINDS = {
    "today": ("today(price)", "The price per share of the row's day; all others are per share of the first row.")
}


@dataclass(frozen=True)
class Formula:
    """An indicator's computation as text.

    Attributes
    ----------
    lines
        Definitions in the order in which they are computed; the last ones are the outputs'.
    steps
        Name of each compiled step that the lines call → what it computes.
    notes
        Sentences on rows without a value.
    """

    lines: tuple[str, ...]
    steps: Mapping[str, str]
    notes: tuple[str, ...]


def formula(indicator: Indicator) -> Formula:
    """The formula of an indicator, with its parameters as names.

    A number that the specification derives from parameters by more than arithmetic appears as it is for the defaults.

    Parameters
    ----------
    indicator
        Any registered one.

    Returns
    -------
    Formula
        Written anew from the graph that plans compile.
    """
    parameters = {p.name: named(p.default, p.name) for p in indicator.parameters}
    outputs = indicator.expressions_of(parameters)
    return _Writer({*indicator.inputs, *parameters}).write(dict(zip(indicator.outputs, outputs, strict=True)))


def _seen_through(expression: Expression) -> Expression:
    """What a guard guards: a formula says in a note what guards do."""
    while expression.operation.kind == "guard":
        expression = expression.operation.operands[0]
    return expression


class _Writer:
    """Writes one formula; letters name what is used more than once, is long, or has several results."""

    def __init__(self, taken: set[str]) -> None:
        self.taken = taken
        self.letters = iter([*_LETTERS, *(f"{letter}{number}" for number in range(1, 100) for letter in _LETTERS)])
        self.lines: list[str] = []
        self.steps: dict[str, str] = {}
        self.quotients: set[str] = set()
        self.guarded = False
        self.uses: dict[str, int] = {}
        self.results: dict[str, set[int]] = {}
        self.written: dict[str, tuple[str, int]] = {}

    def write(self, outputs: Mapping[str, Expression]) -> Formula:
        self.taken |= set(outputs)
        for expression in outputs.values():
            self._count(expression)
        lasts = []
        for name, expression in outputs.items():
            lasts.append(f"{name} = {self._text(expression)[0]}")
        notes = []
        if "nan" in self.quotients:
            notes.append("A quotient by zero has no value.")
        elif len(self.quotients) == 1:
            notes.append(f"A quotient by zero counts as {next(iter(self.quotients))}.")
        if len(self.quotients) > 1:
            notes.append("“(a / b, or c)” is c where b is 0.")
        if any("[" in line.replace("[t−", "") for line in (*self.lines, *lasts)):
            notes.append("“[condition]” is 1 where it holds, else 0.")
        if self.guarded:
            notes.append("Values that are used together are given from the row on which all of them exist.")
        return Formula((*self.lines, *lasts), self.steps, tuple(notes))

    def _count(self, expression: Expression) -> None:
        """How often each value and which results of each operation are used."""
        if expression.operation.kind == "guard":
            others = expression.operation.operands
            self.guarded |= any(_seen_through(o).operation.kind not in {"input", "sound"} for o in others)
        expression = _seen_through(expression)
        operation = expression.operation
        self.results.setdefault(operation.key, set()).add(expression.index)
        self.uses[expression.key] = self.uses.get(expression.key, 0) + 1
        if operation.primitive is not None and operation.primitive.name == "ratio":
            self.quotients.add(_constant(operation.constants[0])[0])
        if sum(self.uses.get(f"{operation.key}:{index}", 0) for index in self.results[operation.key]) == 1:
            for operand in operation.operands:
                self._count(operand)

    def _text(self, expression: Expression) -> tuple[str, int]:
        """A value's text and how tightly it binds."""
        expression = _seen_through(expression)
        if expression.key in self.written:
            return self.written[expression.key]
        operation = expression.operation
        text, level = self._operation(operation)
        several = operation.primitive is not None and operation.primitive.outputs > 1
        simple = operation.kind in {"input", "constant"}
        if several and operation.primitive is not None:
            names = [
                self._letter() if i in self.results[operation.key] else "_" for i in range(operation.primitive.outputs)
            ]
            self.lines.append(f"{', '.join(names)} = {text}")
            for index, name in enumerate(names):
                self.written[Expression(operation, index).key] = name, _ATOM
            return self.written[expression.key]
        if not simple and self.uses[expression.key] > 1:
            return self._define(expression.key, text)
        self.written[expression.key] = text, level
        return text, level

    def _define(self, key: str, text: str) -> tuple[str, int]:
        name = self._letter()
        self.lines.append(f"{name} = {text}")
        self.written[key] = name, _ATOM
        return name, _ATOM

    def _letter(self) -> str:
        letter: str = next(letter for letter in self.letters if letter not in self.taken)
        return letter

    def _operation(self, operation: Operation) -> tuple[str, int]:
        if operation.kind in {"input", "constant"}:
            return _constant(operation.constants[0])
        parts = [self._text(operand) for operand in operation.operands]
        if sum(len(text) for text, _ in parts) > LENGTH_MAX:
            parts = [
                self._define(_seen_through(operand).key, text) if len(text) > LENGTH_MAX // 3 else (text, level)
                for operand, (text, level) in zip(operation.operands, parts, strict=True)
            ]
        if operation.kind in _OTHER_KINDS:
            self.steps |= [_OTHER_KINDS[operation.kind]]
        if operation.primitive is None:
            return _signed(operation.kind, *parts)
        return self._call(operation, parts)

    def _call(self, operation: Operation, parts: Sequence[tuple[str, int]]) -> tuple[str, int]:
        assert operation.primitive is not None
        name = operation.primitive.name
        constants = [_constant(constant)[0] for constant in operation.constants]
        if name == "ratio":
            text, level = _signed("/", *parts)
            if constants[0] == "nan" or len(self.quotients) == 1:
                return text, level
            return f"({text}, or {constants[0]})", _ATOM
        if name == "lag":
            return f"{_inside(parts[0], _ATOM)}[t−{_wrapped(constants[0])}]", _ATOM
        if name in _PLAIN:
            return _PLAIN[name].format(*(text for text, _ in parts)), _ATOM
        signature, summary = _explained(operation.primitive)
        self.steps[signature] = summary
        return f"{name}({', '.join([*(text for text, _ in parts), *constants])})", _ATOM


def _explained(primitive: Primitive) -> tuple[str, str]:
    """A step's call with the names of its arguments, and the first sentences of its docstring without its slots."""
    function = primitive.function.py_func
    machinery = ("state", "at", "ring", "capacity", "newest")
    arguments = [name for name in inspect.signature(function).parameters if name.partition("_")[0] not in machinery]
    first = (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ")
    return f"{primitive.name}({', '.join(arguments)})", first.partition(" Slot")[0]


def _wrapped(text: str) -> str:
    return f"({text})" if " " in text else text


def _inside(part: tuple[str, int], level: int) -> str:
    """A part's text, in brackets if it binds less tightly than needed."""
    text, own = part
    return text if own >= level else f"({text})"


def _signed(kind: str, *parts: tuple[str, int]) -> tuple[str, int]:
    if kind == "+":
        return f"{_inside(parts[0], _SUM)} + {_inside(parts[1], _SUM)}", _SUM
    if kind == "-":
        return f"{_inside(parts[0], _SUM)} − {_inside(parts[1], _PRODUCT)}", _SUM
    if kind == "*":
        left, right = parts if _is_number(parts[0][0]) or not _is_number(parts[1][0]) else (parts[1], parts[0])
        return f"{_inside(left, _PRODUCT)} · {_inside(right, _PRODUCT)}", _PRODUCT
    if kind == "/":
        return f"{_inside(parts[0], _PRODUCT)} / {_inside(parts[1], _ATOM)}", _PRODUCT
    return f"{kind}({', '.join(text for text, _ in parts)})", _ATOM


def _is_number(text: str) -> bool:
    return text.removeprefix("−").replace(".", "", 1).isdigit()


def _constant(value: object) -> tuple[str, int]:
    if isinstance(value, str):
        return value, _ATOM
    if isinstance(value, Named):
        return value.text, value.level
    assert isinstance(value, int | float)
    if math.isnan(value):
        return "nan", _ATOM
    return spelled(value), _PRODUCT if value < 0 else _ATOM
