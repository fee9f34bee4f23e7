"""What each column of a feature view is, as plain data: unit, bounds, warm-up, parameters, and a hash of what computes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tapeline.core.hashing import sha256_json
from tapeline.features.bounds import bounds_of
from tapeline.features.kernel_source import kernel_sources
from tapeline.features.request import AGE_UNIT, FeatureRequest
from tapeline.features.view import FeatureViewSpec
from tapeline.features.writer import in_order
from tapeline.indicators.expression import Constant, Expression


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
    bounds = bounds_of(spec)
    found: list[FeatureDefinition] = []
    for request in spec.features:
        spelled = request.definition()
        given = spelled.pop("parameters")
        assert isinstance(given, dict)
        parameters = given | {name: str(value) for name, value in spelled.items() if name != "name"}
        for column, unit, expression in zip(request.columns, request.units, request.expressions, strict=True):
            age = unit == AGE_UNIT
            bound = bounds[len(found)]
            summary = request.indicator.summary
            found.append(
                FeatureDefinition(
                    feature=column,
                    position=len(found) + 1,
                    dtype="float64",
                    unit=unit,
                    lowest=bound.lowest if math.isfinite(bound.lowest) else None,
                    highest=bound.highest if math.isfinite(bound.highest) else None,
                    warm_up=expression.operation.warm_up,
                    indicator=request.name,
                    parameters=parameters,
                    description=f"Age of the value beside it. {summary}" if age else summary,
                    kernel_hash=_hash_of(request, expression),
                )
            )
    return tuple(found)


def _hash_of(request: FeatureRequest, expression: Expression) -> str:
    functions = [o.primitive.function for o in in_order([expression]) if o.primitive is not None]
    return sha256_json(
        {
            "expression": expression.key,
            "kernels": kernel_sources(functions),
            "request": {name: value for name, value in request.definition().items() if name != "parameters"},
        }
    )
