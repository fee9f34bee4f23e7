"""LightGBM's trees as the flat arrays of ONNX's ``TreeEnsemble``, taking the same branch for every float32 input."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import ParameterError

if TYPE_CHECKING:
    from lightgbm import Booster

# A split "missing or not" has an infinite threshold in the booster, which its dump writes as this number.
_DUMPED_INFINITY = 1e300
# LightGBM reads inputs up to this size as 0.0.
_ZERO = float(np.float32(1e-35))


def float32_below(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The greatest float32 that is not above each float64.

    For a float32 ``x`` and a float64 ``t``, ``x <= t`` holds exactly when ``x <= float32_below(t)``, because no float32
    lies between the two. Rounding to nearest would send inputs that equal a rounded-up threshold down the other branch.
    """
    wide = np.asarray(values, dtype=np.float64)
    with np.errstate(over="ignore"):  # past the largest float32 lies infinity, which is right on the negative side
        narrow = wide.astype(np.float32)
        return np.where(narrow.astype(np.float64) > wide, np.nextafter(narrow, np.float32(-np.inf)), narrow)


@dataclass
class TreeArrays:
    """Interior nodes and leaves of all trees; child numbers count nodes, or leaves where the matching flag is 1.

    ``bias`` gathers the trees that consist of one leaf, which ``TreeEnsemble`` cannot express.
    """

    feature: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    missing_goes_left: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    left_is_leaf: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    right_is_leaf: list[int] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)
    leaf_value: list[float] = field(default_factory=list)
    bias: float = 0.0

    def thresholds(self) -> NDArray[np.float64]:
        """Thresholds that are float32 numbers, held as float64; shape (nodes,)."""
        return float32_below(np.asarray(self.threshold, dtype=np.float64)).astype(np.float64)


def tree_arrays(booster: Booster) -> TreeArrays:
    """Flatten a LightGBM booster with one output.

    Missing values follow LightGBM: where a feature had missing values in training, a NaN takes the node's default
    branch; where it had none, LightGBM reads a NaN as 0.0, so the branch of 0.0 is taken.

    Raises
    ------
    ParameterError
        If the model has several outputs, categorical splits, linear leaves, or treats zero as missing: forms that
        Tapeline's training never makes.
    """
    dump = booster.dump_model()
    if dump["num_tree_per_iteration"] != 1:
        raise ParameterError("only models with one output can be exported", remedy="Train a binary classifier")
    arrays = TreeArrays()
    for number, tree in enumerate(dump["tree_info"]):
        root = tree["tree_structure"]
        if "leaf_value" in root and "split_index" not in root:
            arrays.bias += float(root["leaf_value"])
            continue
        arrays.roots.append(len(arrays.feature))
        _flatten(root, arrays, where=f"tree {number}")
    return arrays


def _flatten(root: dict[str, Any], arrays: TreeArrays, *, where: str) -> None:
    """Add one tree, parents before children, without recursion: a leaf-wise tree can be as deep as it has leaves."""
    pending = [(root, _add_node(root, arrays, where))]
    while pending:
        node, number = pending.pop()
        for side, child, flags, numbers in (
            ("left", node["left_child"], arrays.left_is_leaf, arrays.left),
            ("right", node["right_child"], arrays.right_is_leaf, arrays.right),
        ):
            if "split_index" in child:
                numbers[number] = _add_node(child, arrays, where)
                pending.append((child, numbers[number]))
            else:
                if "leaf_coeff" in child:
                    raise ParameterError(f"the {side} leaf is linear", where=where, remedy="Train without linear_tree")
                flags[number] = 1
                numbers[number] = len(arrays.leaf_value)
                arrays.leaf_value.append(float(child["leaf_value"]))


def _add_node(node: dict[str, Any], arrays: TreeArrays, where: str) -> int:
    if node["decision_type"] != "<=":
        raise ParameterError(
            f"a split of type {node['decision_type']!r} cannot be exported", where=where, remedy="Use numeric features"
        )
    missing = str(node["missing_type"])
    threshold = float(node["threshold"])
    if missing == "NaN":
        goes_left = bool(node["default_left"])
    elif missing == "None":
        goes_left = threshold >= 0.0
    else:
        raise ParameterError("the model treats zero as missing", where=where, remedy="Train without zero_as_missing")
    arrays.feature.append(int(node["split_feature"]))
    arrays.threshold.append(_effective(threshold))
    arrays.missing_goes_left.append(int(goes_left))
    for column in (arrays.left, arrays.left_is_leaf, arrays.right, arrays.right_is_leaf):
        column.append(0)
    return len(arrays.feature) - 1


def _effective(threshold: float) -> float:
    """The threshold that compares raw inputs as LightGBM compares them after setting tiny ones to zero."""
    if threshold >= _DUMPED_INFINITY:
        return np.inf
    if -_ZERO <= threshold < 0.0:
        return float(np.nextafter(np.float32(-_ZERO), np.float32(-1.0)))
    if 0.0 <= threshold < _ZERO:
        return _ZERO
    return threshold
