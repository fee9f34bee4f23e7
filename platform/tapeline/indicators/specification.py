"""What an indicator is, and the registry of all of them."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from tapeline.core.errors import ParameterError, UnknownNameError
from tapeline.indicators.expression import Constant, Expression, column, guard, sound
from tapeline.indicators.schema import COLUMNS, Schema, schemas_of

Unit = Literal[
    "price",
    "price squared",
    "price per share",
    "price squared per share",
    "shares",
    "money",
    "per money",
    "per root money",
    "percent",
    "ratio",
    "logarithm",
    "degrees",
    "rows",
    "flag",
]
Group = Literal[
    "averages",
    "oscillators",
    "trend",
    "volatility",
    "volume",
    "statistics",
    "momentum",
    "composites",
    "candles",
    "microstructure",
    "custom",
]
Oracle = Literal[
    "TA-Lib",
    "formula",
    "pandas-ta-classic",
    "wickra",
    "talipp",
    "tulipy",
    "ta",
    "orderflow_metrics",
    "bidask",
    "tclf",
    "none",
]

SPLIT_EXPONENT: Mapping[str, int] = MappingProxyType(
    {"price": -1, "price squared": -2, "price per share": -2, "price squared per share": -3, "shares": 1}
)
"""Power of the cumulative split factor that turns a value per share of the first day into one per share of today."""

PERIOD_MAX = 10_000


@dataclass(frozen=True)
class Parameter:
    """A parameter of an indicator: its default decides its type, its bounds are inclusive.

    A ``quiet`` parameter appears in column names only where it differs from its default.
    """

    name: str
    default: Constant
    lowest: Constant
    highest: Constant
    quiet: bool = False

    def check(self, value: Constant, indicator: str) -> Constant:
        """The value in the parameter's type.

        Raises
        ------
        ParameterError
            If it has a wrong type or lies outside the bounds.
        """
        where = f"indicator {indicator}, parameter {self.name}"
        whole = isinstance(self.default, int)
        if isinstance(value, bool) or not isinstance(value, int | float) or (whole and not float(value).is_integer()):
            raise ParameterError(
                f"{value!r} is not a {'whole ' if whole else ''}number", where=where, remedy=f"Default: {self.default}"
            )
        if not self.lowest <= value <= self.highest:
            raise ParameterError(
                f"{value} is out of bounds", where=where, remedy=f"Give a value from {self.lowest} to {self.highest}"
            )
        return int(value) if whole else float(value)


@dataclass(frozen=True)
class Indicator:
    """A specification: names, parameters and meaning of an indicator, and the function that builds its expressions.

    Parameters
    ----------
    name
        TA-Lib's name where it has the indicator.
    group
        The catalogue's group.
    inputs
        Columns it takes, all of bars or all of ticks. A bar where one of them is missing or impossible (NaN, infinite,
        price ≤ 0, volume < 0) gives NaN and otherwise counts as absent. A tick need not carry them all; where one of
        them is impossible, the tick gives NaN and otherwise counts as absent.
    parameters
        In the order of the column name.
    outputs
        Output name → unit, in TA-Lib's order.
    source
        Where the formula is from.
    oracle
        What the tests compare with: a library, or ``formula``, the definition written directly over whole windows.
    summary
        One line.
    build
        Expressions of the outputs from the guarded inputs and the parameters. Of a tick, an input is NaN where the event
        does not carry it, and the outputs are current values: between the events that change one, it is what it was.
    """

    name: str
    group: Group
    inputs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    outputs: Mapping[str, Unit]
    source: str
    oracle: Oracle
    summary: str
    build: Callable[..., Expression | tuple[Expression, ...]] = field(repr=False)

    @property
    def schema(self) -> Schema:
        """The kind of rows it is computed over."""
        return next(iter(schemas_of(self.inputs)))

    def complete(self, given: Mapping[str, Constant]) -> dict[str, Constant]:
        """All parameters: the given ones, checked, and the others' defaults.

        Raises
        ------
        UnknownNameError, ParameterError
            If a parameter does not exist or has an impossible value.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in given:
            if name not in known:
                raise UnknownNameError("parameter", name, known, where=f"indicator {self.name}")
        return {name: p.check(given.get(name, p.default), self.name) for name, p in known.items()}

    def columns(self, given: Mapping[str, Constant]) -> tuple[str, ...]:
        """Output column names: output name and the parameters' values, such as ``bbands_upper_20_2_2``."""
        complete = self.complete(given)
        shown = [complete[p.name] for p in self.parameters if not p.quiet or complete[p.name] != p.default]
        suffix = "".join(f"_{_spell(value)}" for value in shown)
        return tuple(f"{output}{suffix}" for output in self.outputs)

    def expressions(self, given: Mapping[str, Constant]) -> tuple[Expression, ...]:
        """The outputs' expressions.

        Raises
        ------
        UnknownNameError, ParameterError
            If a parameter does not exist or has an impossible value.
        """
        return self.expressions_of(self.complete(given))

    def expressions_of(self, complete: Mapping[str, Constant]) -> tuple[Expression, ...]:
        """The outputs' expressions for a value of every parameter, unchecked."""
        if self.schema == "bars":
            built = self.build(*guard(*(column(name) for name in self.inputs)), **complete)
            return built if isinstance(built, tuple) else (built,)
        usable = guard(*(sound(name) for name in self.inputs))[0]
        columns = (guard(column(name), usable)[0] for name in self.inputs)
        built = self.build(*columns, **complete)
        return tuple(guard(value, usable)[0] for value in (built if isinstance(built, tuple) else (built,)))


def _spell(value: Constant) -> str:
    return f"{value:g}".replace("-", "m").replace("+", "").replace(".", "p")


_REGISTRY: dict[str, Indicator] = {}


def indicator(
    name: str,
    *,
    group: Group,
    outputs: Mapping[str, Unit],
    source: str,
    oracle: Oracle = "TA-Lib",
    bounds: Mapping[str, tuple[Constant, Constant]] | None = None,
    quiet: tuple[str, ...] = (),
) -> Callable[[Callable[..., Expression | tuple[Expression, ...]]], Indicator]:
    """Register a function as an indicator.

    Its arguments without a default are columns of bars or of ticks, those with one are parameters; a whole-number parameter without
    bounds is a period of 2 to 10,000 rows. The docstring's first line is the summary.
    """

    def register(build: Callable[..., Expression | tuple[Expression, ...]]) -> Indicator:
        arguments = inspect.signature(build).parameters.values()
        inputs = tuple(a.name for a in arguments if a.default is inspect.Parameter.empty)
        parameters = tuple(
            Parameter(a.name, a.default, *(bounds or {}).get(a.name, (2, PERIOD_MAX)), quiet=a.name in quiet)
            for a in arguments
            if a.default is not inspect.Parameter.empty
        )
        if name in _REGISTRY or not set(inputs) <= set(COLUMNS) or not build.__doc__:
            raise ValueError(f"indicator {name}: registered twice, takes an unknown column, or has no docstring")
        if len(schemas_of(inputs)) != 1:
            raise ValueError(f"indicator {name}: takes no column, or columns of bars and of ticks")
        _REGISTRY[name] = Indicator(
            name, group, inputs, parameters, dict(outputs), source, oracle, build.__doc__.splitlines()[0], build
        )
        return _REGISTRY[name]

    return register


def expect_rising(indicator: str, **periods: int) -> None:
    """Refuse periods that are not in rising order, such as a fast one that is not below the slow one.

    Raises
    ------
    ParameterError
        If a period is not below the next one given.
    """
    for (shorter, low), (longer, high) in itertools.pairwise(periods.items()):
        if low >= high:
            raise ParameterError(
                f"{shorter} {low} is not below {longer} {high}",
                where=f"indicator {indicator}",
                remedy=f"Give a {shorter} that is smaller than {longer}",
            )


def indicator_named(name: str) -> Indicator:
    """The indicator of a name.

    Raises
    ------
    UnknownNameError
        If there is none; the message names the nearest.
    """
    if name not in _REGISTRY and "." in name:
        _load_custom()
    if name not in _REGISTRY:
        where = "custom features come from TAPELINE_FEATURE_MODULES and installed entry points" if "." in name else None
        raise UnknownNameError("indicator", name, _REGISTRY, where=where)
    return _REGISTRY[name]


def _load_custom() -> None:
    from tapeline.indicators.custom import load_feature_modules

    load_feature_modules()


def indicator_like(name: str) -> Indicator:
    """The indicator of a name in any case.

    Raises
    ------
    UnknownNameError
        If there is none; the message names the nearest.
    """
    if "." in name:
        _load_custom()
    folded = {known.casefold(): known for known in _REGISTRY}
    return indicator_named(folded.get(name.casefold(), name))


def all_indicators() -> tuple[Indicator, ...]:
    """Every registered indicator, in order of registration; custom ones if their module was imported."""
    return tuple(_REGISTRY.values())
