"""One ONNX graph from raw features to calibrated probability: preprocessing, imputation, model, isotonic calibration.

Input ``features`` is float32 (rows, features), NaN meaning missing. Inside, everything is float64: isotonic regression can
be as steep as two out-of-fold scores lie close, so the rounding of a float32 score would come out as a visibly different
probability. Outputs ``probability`` and ``score`` are float32 (rows,).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.pipeline import Pipeline

from tapeline.core.errors import ParameterError
from tapeline.export.nodes import INPUT_NAME, Graph
from tapeline.export.transformations import add_transformation
from tapeline.export.trees import TreeArrays
from tapeline.models.transformations.preprocessing import selected

OUTPUT_NAMES = ("probability", "score")


@dataclass(frozen=True)
class Linear:
    """``bias + Σ weight · (x − centre) / scale``; arrays of shape (features,)."""

    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    weight: NDArray[np.float64]
    bias: float


@dataclass(frozen=True)
class Knots:
    """A piecewise-linear function, constant outside; ``x`` strictly increasing, both of shape (knots,), knots ≥ 2."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]


def build_graph(
    *,
    feature_count: int,
    core: TreeArrays | Linear,
    calibration: Knots,
    fill: NDArray[np.float64] | None = None,
    preprocessing: Pipeline | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Serialise the whole model.

    Parameters
    ----------
    feature_count
        Columns of the input.
    core
        What turns features into log-odds.
    calibration
        From score (the log-odds' sigmoid) to probability.
    fill
        Values that replace NaN and infinities, float64 (features that the model sees,); none: missing values are left to
        the model.
    preprocessing
        A fitted pipeline before all that, whose results are narrowed to float32.
    metadata
        Text stored with the model.

    Returns
    -------
    bytes
        An ONNX model, equal for equal arguments.

    Raises
    ------
    ParameterError
        If an array does not have one entry per feature, or the knots are no function.
    """
    graph = Graph()
    column, seen = INPUT_NAME, feature_count
    if preprocessing is not None:
        raw = graph.add("Cast", [column], "raw_features", to=TensorProto.DOUBLE)
        given = add_transformation(graph, raw, preprocessing)
        column, seen = (
            graph.add("Cast", [given], "given", to=TensorProto.FLOAT),
            len(selected(preprocessing, feature_count)),
        )
    if fill is not None:
        _check_length("fill", fill, seen)
        graph.add("IsNaN", [column], "not_a_number")
        graph.add("IsInf", [column], "infinite")
        graph.add("Or", ["not_a_number", "infinite"], "missing")
        graph.constant("fill", fill.astype(np.float32))
        column = graph.add("Where", ["missing", "fill", column], "imputed")
    wide = graph.add("Cast", [column], "wide", to=TensorProto.DOUBLE)
    raw = _trees(graph, wide, core) if isinstance(core, TreeArrays) else _linear(graph, wide, core, seen)
    graph.constant("last_axis", np.array([1], dtype=np.int64))
    log_odds = graph.add("Squeeze", [raw, "last_axis"], "log_odds")
    score = graph.add("Sigmoid", [log_odds], "score_wide")
    graph.add("Cast", [score], OUTPUT_NAMES[1], to=TensorProto.FLOAT)
    graph.add("Cast", [_isotonic(graph, score, calibration)], OUTPUT_NAMES[0], to=TensorProto.FLOAT)
    return graph.serialised(feature_count, [(name, TensorProto.FLOAT, ["rows"]) for name in OUTPUT_NAMES], metadata)


def _trees(graph: Graph, features: str, trees: TreeArrays) -> str:
    graph.constant("bias", np.array([[trees.bias]], dtype=np.float64))
    if not trees.roots:
        # Training found no split: every row gets the constant, in as many rows as the input has.
        graph.constant("first", np.array([0], dtype=np.int64))
        graph.constant("second", np.array([1], dtype=np.int64))
        graph.add("Shape", [features], "shape")
        graph.add("Slice", ["shape", "first", "second"], "rows")
        graph.add("Concat", ["rows", "second"], "rows_by_one", axis=0)
        return graph.add("Expand", ["bias", "rows_by_one"], "raw")
    leaves = len(trees.leaf_value)
    graph.nodes.append(
        helper.make_node(
            "TreeEnsemble",
            [features],
            ["summed"],
            name="trees",
            domain="ai.onnx.ml",
            aggregate_function=1,  # sum
            post_transform=0,  # none
            n_targets=1,
            tree_roots=trees.roots,
            nodes_modes=numpy_helper.from_array(np.zeros(len(trees.feature), dtype=np.uint8), "modes"),  # x <= split
            nodes_featureids=trees.feature,
            nodes_splits=numpy_helper.from_array(trees.thresholds(), "splits"),
            nodes_truenodeids=trees.left,
            nodes_trueleafs=trees.left_is_leaf,
            nodes_falsenodeids=trees.right,
            nodes_falseleafs=trees.right_is_leaf,
            nodes_missing_value_tracks_true=trees.missing_goes_left,
            leaf_targetids=[0] * leaves,
            leaf_weights=numpy_helper.from_array(np.asarray(trees.leaf_value, dtype=np.float64), "weights"),
        )
    )
    return graph.add("Add", ["summed", "bias"], "raw")


def _linear(graph: Graph, features: str, linear: Linear, feature_count: int) -> str:
    for name in ("centre", "scale", "weight"):
        _check_length(name, getattr(linear, name), feature_count)
    graph.constant("centre", linear.centre)
    graph.constant("scale", linear.scale)
    graph.constant("weight", linear.weight[:, None])
    graph.constant("bias", np.array([[linear.bias]], dtype=np.float64))
    graph.add("Sub", [features, "centre"], "centred")
    graph.add("Div", ["centred", "scale"], "scaled")
    # Of a single feature ONNX Runtime would take the scale for a factor of the product, and round it to float32.
    graph.add("Mul" if feature_count == 1 else "MatMul", ["scaled", "weight"], "weighted")
    return graph.add("Add", ["weighted", "bias"], "raw")


def _isotonic(graph: Graph, score: str, knots: Knots) -> str:
    """Find the interval by counting the inner knots that are not above the score, then interpolate inside it."""
    x, y = np.asarray(knots.x, dtype=np.float64), np.asarray(knots.y, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2 or not (np.diff(x) > 0).all():
        raise ParameterError("calibration knots are not strictly increasing", remedy="Fit the calibration again")
    inner = x[1:-1] if len(x) > 2 else np.array([np.inf])
    graph.constant("knot_first", x[:1].reshape(()))
    graph.constant("knot_last", x[-1:].reshape(()))
    graph.constant("knots_inner", inner[None, :])
    graph.constant("knots_left", x[:-1])
    graph.constant("levels_left", y[:-1])
    graph.constant("slopes", np.diff(y) / np.diff(x))
    clipped = graph.add("Clip", [score, "knot_first", "knot_last"], "clipped")
    graph.add("Unsqueeze", [clipped, "last_axis"], "clipped_column")
    graph.add("Less", ["clipped_column", "knots_inner"], "below")
    graph.add("Not", ["below"], "reached")
    graph.add("Cast", ["reached"], "reached_count", to=TensorProto.INT64)
    graph.add("ReduceSum", ["reached_count", "last_axis"], "interval", keepdims=0)
    for table in ("knots_left", "levels_left", "slopes"):
        graph.add("Gather", [table, "interval"], f"{table}_here", axis=0)
    graph.add("Sub", [clipped, "knots_left_here"], "beyond")
    graph.add("Mul", ["slopes_here", "beyond"], "rise")
    return graph.add("Add", ["levels_left_here", "rise"], "probability_wide")


def _check_length(name: str, values: NDArray[np.float64], feature_count: int) -> None:
    if values.shape != (feature_count,):
        raise ParameterError(f"{name} has shape {values.shape}, not ({feature_count},)", where="ONNX export")
