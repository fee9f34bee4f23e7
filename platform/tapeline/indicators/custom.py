"""Features of your own: a compiled step, a specification, a name in your own namespace.

Everything that such a module needs can be imported from here. The module must be a file that every process can import
under one name, because generated programs import its steps and numba keeps their machine code.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import get_args

from tapeline.core.errors import ConfigurationError, ParameterError, TapelineError, UnknownNameError
from tapeline.indicators.expression import UNDEFINED, Constant, Expression, apply, guard, outcomes
from tapeline.indicators.schema import COLUMNS, schemas_of
from tapeline.indicators.specification import Indicator, Oracle, Unit, all_indicators, indicator
from tapeline.kernels.primitive import primitive

__all__ = ["UNDEFINED", "Expression", "apply", "feature", "guard", "load_feature_modules", "outcomes", "primitive"]

ENTRY_POINT_GROUP = "tapeline.features"
_NAME = re.compile(r"^([a-z][a-z0-9]*(?:_[a-z0-9]+)*)\.([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*)$")
_OUTPUT = re.compile(r"^[a-z][a-z0-9]*(?:_[a-z0-9]+)*$")

Build = Callable[..., Expression | tuple[Expression, ...]]


def feature(
    name: str,
    *,
    outputs: Mapping[str, Unit],
    source: str,
    oracle: Oracle = "none",
    bounds: Mapping[str, tuple[Constant, Constant]] | None = None,
    quiet: tuple[str, ...] = (),
) -> Callable[[Build], Indicator]:
    """Register a function as a feature of your own.

    Parameters
    ----------
    name
        ``namespace.NAME``. No built-in name has a dot.
    outputs
        Output name → unit. Columns are called ``namespace__output`` and the parameters' values; no built-in column has
        two underscores together.
    source
        Where the formula is from.
    oracle
        ``formula`` if you check it against a definition of your own, see :func:`tapeline.features.testing.check_indicator`.
    bounds
        Parameter → lowest and highest value; a whole number without bounds is a period of 2 to 10,000 rows.
    quiet
        Parameters that appear in column names only where they differ from their defaults.

    Returns
    -------
    callable
        A decorator. The function's arguments without a default are row columns, those with one are parameters; its
        docstring's first line is the summary.

    Raises
    ------
    ParameterError
        If the name or an output's name is malformed or taken, a unit is unknown, the docstring is missing, or the
        function is defined where other processes cannot import it.
    UnknownNameError
        If it takes a row column that does not exist.
    """

    def register(build: Build) -> Indicator:
        namespace = _checked(name, outputs, build)
        columns = {f"{namespace}__{output}": unit for output, unit in outputs.items()}
        return indicator(
            name, group="custom", outputs=columns, source=source, oracle=oracle, bounds=bounds, quiet=quiet
        )(build)

    return register


def _checked(name: str, outputs: Mapping[str, Unit], build: Build) -> str:
    """Refuse what cannot be registered; returns the namespace."""
    where = f"feature {name!r}, function {build.__module__}.{build.__name__}"
    match = _NAME.match(name)
    if match is None:
        raise ParameterError("its name is malformed", where=where, remedy="Write namespace.NAME, such as mine.DRAWUP")
    if not outputs or not all(_OUTPUT.match(output) for output in outputs):
        raise ParameterError(
            f"output names {list(outputs)} are malformed", where=where, remedy="Use lower-case words joined by _"
        )
    for output, unit in outputs.items():
        if unit not in get_args(Unit):
            raise UnknownNameError("unit", unit, get_args(Unit), where=f"{where}, output {output}")
    if not build.__doc__:
        raise ParameterError("it has no docstring", where=where, remedy="Its first line becomes the summary")
    if build.__module__ == "__main__":
        raise ParameterError(
            "it is defined in a script or notebook, where no other process can import it",
            where=where,
            remedy="Move it to a module file, and import that",
        )
    if any(known.name == name for known in all_indicators()):
        raise ParameterError("it is registered already", where=where, remedy="Rename one; after an edit, start anew")
    arguments = inspect.signature(build).parameters.values()
    inputs = [argument.name for argument in arguments if argument.default is inspect.Parameter.empty]
    for column in inputs:
        if column not in COLUMNS:
            raise UnknownNameError("row column", column, COLUMNS, where=where)
    if len(schemas_of(inputs)) != 1:
        raise ParameterError("it must read columns of bars or columns of ticks", where=f"{where}, reads {inputs}")
    return match[1]


def load_feature_modules() -> None:
    """Import the modules of custom features: those of ``TAPELINE_FEATURE_MODULES``, and installed entry points.

    Only names that the operator configured or installed are imported, never one that comes with data.

    Raises
    ------
    ConfigurationError
        If one cannot be imported, or registers no feature.
    """
    from tapeline.core.settings import get_settings

    for name in filter(None, map(str.strip, get_settings().feature_modules.split(","))):
        load_feature_module(name, "setting feature_modules (TAPELINE_FEATURE_MODULES)")
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        package = entry.dist.name if entry.dist else "an unknown package"
        load_feature_module(entry.module, f"entry point {entry.name!r} of {package}, group {ENTRY_POINT_GROUP}")


def load_feature_module(name: str, where: str) -> tuple[Indicator, ...]:
    """Import one module and return the features that it, or a module below it, registers.

    Raises
    ------
    ConfigurationError
        If it cannot be imported, or registers none.
    """
    try:
        importlib.import_module(name)  # waits where another thread is half through it
    except TapelineError as error:
        raise ConfigurationError(f"feature module {name!r} is refused: {error}", where=where) from error
    except Exception as error:
        raise ConfigurationError(
            f"feature module {name!r} cannot be imported: {type(error).__name__}: {error}",
            where=where,
            remedy="Put its folder on PYTHONPATH or install its package, and correct what it says",
        ) from error
    found = tuple(
        known for known in all_indicators() if f"{known.build.__module__}.".startswith(f"{name}.") and "." in known.name
    )
    if not found:
        raise ConfigurationError(
            f"feature module {name!r} registers no feature",
            where=where,
            remedy="Decorate a function with @tapeline.indicators.custom.feature",
        )
    return found
