"""Fitted scikit-learn transformations as nodes of the model's graph, computing in float64 what scikit-learn computes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from scipy.stats import norm
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, PowerTransformer, QuantileTransformer, RobustScaler, StandardScaler
from sklearn.utils.validation import check_is_fitted

from tapeline.core.errors import ParameterError
from tapeline.export.functions import Functions
from tapeline.export.nodes import INPUT_NAME, Graph
from tapeline.models.transformations.imputation import Imputer
from tapeline.models.transformations.scaling import RangeLimit

# scikit-learn's QuantileTransformer keeps this far from 0 and 1.
_BOUND = 1e-7
_P_MIN, _P_MAX = _BOUND - np.spacing(1), 1 - (_BOUND - np.spacing(1))


def add_transformation(graph: Graph, column: str, step: BaseEstimator, *, name: str = "preprocessing") -> str:
    """Add a fitted transformation; returns the name of its output, float64 (rows, features that come out).

    Parameters
    ----------
    graph, column
        Where to, and the input there, float64 (rows, features).
    step
        A pipeline, :class:`Imputer`, a selector, or scikit-learn's standard, min-max, robust, quantile or power scaler.
    name
        What the nodes' names begin with.

    Raises
    ------
    ParameterError
        If a step has no export, or is not fitted.
    """
    if isinstance(step, Pipeline):
        for number, (_, part) in enumerate(step.steps):
            if part not in {None, "passthrough"}:
                column = add_transformation(graph, column, part, name=f"{name}_{number}")
        return column
    for kind, write in _WRITERS.items():
        if isinstance(step, kind):
            try:
                check_is_fitted(step)
            except ValueError as error:  # scikit-learn's NotFittedError
                raise ParameterError(str(error), where="ONNX export") from None
            return str(write(Functions(graph, name), column, step))
    raise ParameterError(
        f"{type(step).__name__} cannot be exported",
        where="ONNX export",
        remedy="Use the imputer, a scaler of tapeline.models.transformations.scaling, or a selector",
    )


def transformation_graph(step: BaseEstimator, feature_count: int) -> bytes:
    """A transformation alone: ``features`` float32 (rows, features) to ``transformed`` float64, as an ONNX model."""
    graph = Graph()
    wide = graph.add("Cast", [INPUT_NAME], "wide", to=TensorProto.DOUBLE)
    graph.add("Identity", [add_transformation(graph, wide, step)], "transformed")
    return graph.serialised(feature_count, [("transformed", TensorProto.DOUBLE, ["rows", "columns"])])


def _impute(f: Functions, x: str, step: Imputer) -> str:
    missing = f.add("Or", f.add("IsNaN", x), f.add("IsInf", x))
    return f.add("Where", missing, step.fill_, x)


def _standard(f: Functions, x: str, step: StandardScaler) -> str:
    x = f.add("Sub", x, step.mean_) if step.with_mean else x
    return f.add("Div", x, step.scale_) if step.with_std else x


def _limit(f: Functions, x: str, step: RangeLimit) -> str:
    return f.clip(x, step.low_, step.high_)


def _min_max(f: Functions, x: str, step: MinMaxScaler) -> str:
    scaled = f.add("Add", f.add("Mul", x, step.scale_), step.min_)
    return f.clip(scaled, float(step.feature_range[0]), float(step.feature_range[1])) if step.clip else scaled


def _robust(f: Functions, x: str, step: RobustScaler) -> str:
    x = f.add("Sub", x, step.center_) if step.with_centering else x
    return f.add("Div", x, step.scale_) if step.with_scaling else x


def _quantile(f: Functions, x: str, step: QuantileTransformer) -> str:
    """Interpolate from both sides, so that a value that many rows share gets the middle of its ranks."""
    knots = np.ascontiguousarray(step.quantiles_.T)
    levels = np.asarray(step.references_, dtype=np.float64)
    last = knots.shape[1] - 1
    if last == 0:
        p = f.add("Mul", f.add("Sub", x, x), 0.0)
    else:
        forward = f.add("Sub", f.count_below(x, knots, or_equal=True), np.array([1], dtype=np.int64))
        backward = f.add("Sub", f.count_below(x, knots, or_equal=False), np.array([1], dtype=np.int64))
        sides = [_interpolated(f, x, place, knots, levels) for place in (forward, backward)]
        p = f.add("Mul", f.add("Add", *sides), 0.5)
    normal = step.output_distribution == "normal"
    margin = _BOUND if normal else 0.0
    at_top = f.add("Greater" if normal else "GreaterOrEqual", f.add("Add", x, margin), knots[:, -1])
    at_bottom = f.add("Less" if normal else "LessOrEqual", f.add("Sub", x, margin), knots[:, 0])
    p = f.add("Where", at_bottom, 0.0, f.add("Where", at_top, 1.0, p))
    if normal:
        # The quantiles of the two ends as scikit-learn has them: the tail's complement loses digits near 1.
        inner = f.normal_quantile(f.clip(p, _P_MIN, _P_MAX))
        p = f.clip(inner, float(norm.ppf(_P_MIN)), float(norm.ppf(_P_MAX)))
    return f.add("Where", f.add("IsNaN", x), x, p)


def _interpolated(f: Functions, x: str, place: str, knots: NDArray[np.float64], levels: NDArray[np.float64]) -> str:
    """Levels between the knots on either side of x, the left one being number `place`; constant outside."""
    features, count = knots.shape
    inside = f.add("Max", f.add("Min", place, np.array([count - 2], dtype=np.int64)), np.array([0], dtype=np.int64))
    at = f.add("Add", inside, np.arange(features, dtype=np.int64) * (count - 1))
    width = np.diff(knots, axis=1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        slope = np.where(width > 0, np.diff(levels) / width, 0.0)
    left, base, rate = (
        f.add("Gather", table.reshape(-1), at, axis=0)
        for table in (knots[:, :-1], np.broadcast_to(levels[:-1], width.shape).copy(), slope)
    )
    line = f.add("Add", f.add("Mul", rate, f.add("Sub", x, left)), base)
    below = f.add("Less", x, knots[:, 0])
    above = f.add("Greater", x, knots[:, -1])
    return f.add("Where", below, float(levels[0]), f.add("Where", above, float(levels[-1]), line))


def _power(f: Functions, x: str, step: PowerTransformer) -> str:
    """Yeo and Johnson 2000, "A new family of power transformations to improve normality or symmetry"."""
    if step.method != "yeo-johnson":
        raise ParameterError(f"a power scaler of method {step.method} cannot be exported", remedy="Use yeo-johnson")
    power = np.asarray(step.lambdas_, dtype=np.float64)
    upper = _power_side(f, f.clip(x, 0.0, np.inf), power)
    lower = f.add("Neg", _power_side(f, f.clip(f.add("Neg", x), 0.0, np.inf), 2.0 - power))
    bent = f.add("Where", f.add("GreaterOrEqual", x, 0.0), upper, lower)
    return _standard(f, bent, step._scaler) if step.standardize else bent  # noqa: SLF001


def _power_side(f: Functions, x: str, power: NDArray[np.float64]) -> str:
    """((1 + x) ** power − 1) / power, of power 0 its limit log(1 + x); x ≥ 0."""
    logarithm = f.log1p(x)
    flat = np.abs(power) < np.finfo(np.float64).eps
    bent = f.add("Div", f.expm1(f.add("Mul", logarithm, power)), np.where(flat, 1.0, power))
    return f.add("Where", flat, logarithm, bent)


def _select(f: Functions, x: str, step: SelectorMixin) -> str:
    return f.add("Gather", x, np.flatnonzero(step.get_support()).astype(np.int64), axis=1)


_WRITERS: dict[type, Any] = {
    Imputer: _impute,
    RangeLimit: _limit,
    StandardScaler: _standard,
    MinMaxScaler: _min_max,
    RobustScaler: _robust,
    QuantileTransformer: _quantile,
    PowerTransformer: _power,
    SelectorMixin: _select,
}
