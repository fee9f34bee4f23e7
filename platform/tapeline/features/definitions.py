"""What each column of a feature view is, as plain data: unit, bounds, warm-up, parameters, and a hash of what computes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tapeline.core.hashing import sha256_json
from tapeline.features.kernel_source import kernel_sources
from tapeline.features.request import AGE_UNIT, FeatureRequest
from tapeline.features.view import FeatureViewSpec
from tapeline.indicators.expression import Constant, Expression, Operation

Bounds = tuple[float | None, float | None]

_PERCENT: Bounds = (0.0, 100.0)
_BOUNDS: Mapping[str, Bounds] = MappingProxyType(
    {
        "rsi": _PERCENT, "mfi": _PERCENT, "adx": _PERCENT, "dx": _PERCENT, "adxr": _PERCENT,
        "plus_di": _PERCENT, "minus_di": _PERCENT, "aroon_up": _PERCENT, "aroon_down": _PERCENT,
        "aroonosc": (-100.0, 100.0), "cmo": (-100.0, 100.0), "willr": (-100.0, 0.0), "ultosc": _PERCENT,
        "bop": (-1.0, 1.0), "correl": (-1.0, 1.0), "atr": (0.0, None), "natr": (0.0, None), "trange": (0.0, None),
        "stddev": (0.0, None), "var": (0.0, None),
    }
)  # fmt: skip
"""Of outputs whose formula cannot leave them, by name; rounding may pass them by the last digits."""


@dataclass(frozen=True, slots=True)
class FeatureDefinition:
    """A column of a view version.

    Attributes
    ----------
    feature
        Name of the column.
    position
        Its place among the view's features, from 1.
    dtype
        ``float64`` for everything that a kernel computes.
    unit
        What it is measured in.
    lowest, highest
        What its formula cannot pass but by rounding; none: no bound.
    warm_up
        Rows up to and with the first that has a value, of its time frame where it has one.
    indicator, parameters
        What computes it, with every parameter spelled out, and its time frame and age limit if it has them.
    description
        One line.
    kernel_hash
        SHA-256 over its expression and the normalised syntax trees of all kernels that compute it.
    """

    feature: str
    position: int
    dtype: str
    unit: str
    lowest: float | None
    highest: float | None
    warm_up: int
    indicator: str
    parameters: Mapping[str, Constant | str]
    description: str
    kernel_hash: str | None


def definitions_of(spec: FeatureViewSpec) -> tuple[FeatureDefinition, ...]:
    """The definitions of a view's columns, in their order; nothing is compiled."""
    found: list[FeatureDefinition] = []
    for request in spec.features:
        outputs = tuple(request.indicator.outputs)
        spelled = request.definition()
        given = spelled.pop("parameters")
        assert isinstance(given, dict)
        parameters = given | {name: str(value) for name, value in spelled.items() if name != "name"}
        for number, (column, unit, expression) in enumerate(
            zip(request.columns, request.units, request.expressions, strict=True)
        ):
            age = unit == AGE_UNIT
            low, high = (0.0, None) if age else _BOUNDS.get(outputs[number % len(outputs)], (None, None))
            summary = request.indicator.summary
            found.append(
                FeatureDefinition(
                    feature=column,
                    position=len(found) + 1,
                    dtype="float64",
                    unit=unit,
                    lowest=low,
                    highest=high,
                    warm_up=expression.operation.warm_up,
                    indicator=request.name,
                    parameters=parameters,
                    description=f"Age of the value beside it. {summary}" if age else summary,
                    kernel_hash=_hash_of(request, expression),
                )
            )
    return tuple(found)


def _hash_of(request: FeatureRequest, expression: Expression) -> str:
    functions = {}
    waiting: list[Operation] = [expression.operation]
    seen: set[str] = set()
    while waiting:
        operation = waiting.pop()
        if operation.key in seen:
            continue
        seen.add(operation.key)
        waiting += [operand.operation for operand in operation.operands]
        if operation.primitive is not None:
            functions[operation.primitive.name] = operation.primitive.function
    return sha256_json(
        {
            "expression": expression.key,
            "kernels": kernel_sources(functions.values()),
            "request": {name: value for name, value in request.definition().items() if name != "parameters"},
        }
    )
