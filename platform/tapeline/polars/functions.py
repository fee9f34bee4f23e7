"""A function for each registered feature, with a signature and a docstring made from its specification."""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Callable
from typing import Any

from tapeline.features import FeatureRequest
from tapeline.indicators import Indicator
from tapeline.polars.feature_expression import AUTO, Feature, IntoColumn, Time  # noqa: F401  names of annotations

Function = Callable[..., Feature]

_TIME_INPUT = "time"


def function_name(indicator: Indicator) -> str:
    """The indicator's name in lower case, without its namespace; a Python keyword gets an underscore."""
    name = indicator.name.rpartition(".")[2].lower()
    return f"{name}_" if keyword.iskeyword(name) else name


def signature_of(indicator: Indicator) -> inspect.Signature:
    """Parameters by position or name; then by name only input columns, ``split_ratio`` and ``time``."""
    either, named = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    arguments = [
        inspect.Parameter(p.name, either, default=p.default, annotation=type(p.default).__name__)
        for p in indicator.parameters
    ]
    arguments += [
        inspect.Parameter(name, named, default=name, annotation="IntoColumn")
        for name in indicator.inputs
        if name != _TIME_INPUT
    ]
    arguments.append(inspect.Parameter("split_ratio", named, default=None, annotation="IntoColumn | None"))
    arguments.append(inspect.Parameter("time", named, default=AUTO, annotation="Time"))
    return inspect.Signature(arguments, return_annotation="Feature")


def docstring_of(indicator: Indicator) -> str:
    """NumPy docstring of the function."""
    lines = [indicator.summary, "", "Parameters", "----------"]
    for p in indicator.parameters:
        lines += [p.name, f"    From {p.lowest:g} to {p.highest:g}; {p.default:g} by default."]
    inputs = [name for name in indicator.inputs if name != _TIME_INPUT]
    if inputs:
        lines += [", ".join(inputs), "    Columns to read; null and NaN are missing values, which give NaN."]
    lines += [
        "split_ratio",
        "    Column with r on the first row after an r-for-1 split, else 1; None: no splits.",
        "time",
        "    Column by which rows are sorted; None: not checked.",
        "",
        "Returns",
        "-------",
        "Feature",
    ]
    warm_ups = [expression.operation.warm_up for expression in indicator.expressions({})]
    for name, unit, warm_up in zip(indicator.columns({}), indicator.outputs.values(), warm_ups, strict=True):
        lines.append(f"    ``{name}`` ({unit}), NaN before row {warm_up} of the valid ones.")
    lines += ["", "Notes", "-----", f"Source: {indicator.source}."]
    return "\n".join(lines)


def function_of(indicator: Indicator, module: str) -> Function:
    """The function of an indicator."""
    signature = signature_of(indicator)
    parameters = [p.name for p in indicator.parameters]

    def feature(*positional: Any, **named: Any) -> Feature:
        try:
            bound = signature.bind(*positional, **named)
        except TypeError as error:
            raise TypeError(f"{function_name(indicator)}() {error}") from None
        bound.apply_defaults()
        values = dict(bound.arguments)
        given = {name: values[name] for name in parameters}
        columns = {name: values[name] for name in indicator.inputs if name != _TIME_INPUT}
        return Feature([FeatureRequest.of(indicator.name, **given)], columns, values["split_ratio"], values["time"])

    feature.__name__ = feature.__qualname__ = function_name(indicator)
    feature.__module__ = module
    feature.__doc__ = docstring_of(indicator)
    feature.__signature__ = signature  # type: ignore[attr-defined]
    return feature
