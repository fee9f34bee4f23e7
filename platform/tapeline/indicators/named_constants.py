"""Numbers that remember how they were written: a specification built with them yields formulas with names in them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

Number = int | float

_LEVELS = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 3, "**": 3}


class Named:
    """What a named whole number and a named float have in common: their text, and how tightly it binds (1 to 3)."""

    text: str
    level: int


def spelled(value: Number) -> str:
    """A number to six digits, with a minus sign."""
    return f"{value:.6g}".replace("-", "−")


def named(value: Number, text: str, level: int = 3) -> Any:
    """A number that equals, hashes and prints like the plain one, and whose sums and products stay named."""
    kind = _NamedWhole if isinstance(value, int) else _NamedFloat
    result = kind(value)
    result.text, result.level = text, level
    return result


def _parts(value: Any) -> tuple[str, int]:
    if isinstance(value, Named):
        return value.text, value.level
    return spelled(value), 1 if value < 0 else 3


def _combined(sign: str, left: Number, right: Number) -> Any:
    result = _COMPUTE[sign](_plain(left), _plain(right))
    if sign == "*" and 1.0 in {_unnamed(left), _unnamed(right)}:
        return named(result, *_parts(left if isinstance(left, Named) else right))  # only converts the type
    level = _LEVELS[sign]
    (first, first_level), (second, second_level) = _parts(left), _parts(right)
    first = first if first_level >= level else f"({first})"
    second = second if second_level >= level + (sign in {"-", "/"}) else f"({second})"
    if sign == "//":
        return named(result, f"⌊{first}/{second}⌋")
    shown = {"-": " − ", "+": " + ", "*": " · ", "/": "/", "**": "^"}[sign]
    return named(result, f"{first}{shown}{second}", level)


def _plain(value: Number) -> Number:
    return int(value) if isinstance(value, int) else float(value)


def _unnamed(value: Number) -> Number | None:
    return None if isinstance(value, Named) else value


_COMPUTE: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul,
    "/": operator.truediv, "//": operator.floordiv, "**": operator.pow,
}  # fmt: skip
_METHODS = {"+": "add", "-": "sub", "*": "mul", "/": "truediv", "//": "floordiv", "**": "pow"}


def _operator(sign: str, *, reflected: bool) -> Callable[[Any, Any], Any]:
    """An arithmetic method; what is no number decides by itself what to do with one."""

    def method(self: Any, other: Any) -> Any:
        if not isinstance(other, int | float):
            return NotImplemented
        return _combined(sign, other, self) if reflected else _combined(sign, self, other)

    return method


def _negative(self: Any) -> Any:
    return named(-_plain(self), f"−{self.text}", 1)


class _NamedWhole(Named, int):
    pass


class _NamedFloat(Named, float):
    pass


for _kind in (_NamedWhole, _NamedFloat):
    for _sign, _name in _METHODS.items():
        setattr(_kind, f"__{_name}__", _operator(_sign, reflected=False))
        setattr(_kind, f"__r{_name}__", _operator(_sign, reflected=True))
    setattr(_kind, "__neg__", _negative)  # noqa: B010
