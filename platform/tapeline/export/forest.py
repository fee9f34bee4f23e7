"""Trees and their calibration as flat arrays for compiled code."""

from __future__ import annotations

import numpy as np

from tapeline.export.graph import Knots
from tapeline.export.trees import TreeArrays
from tapeline.kernels.forest import BLOCK
from tapeline.registry.forest import Forest


def compiled_forest(trees: TreeArrays, calibration: Knots, feature_count: int) -> Forest:
    """The forest that predicts what the exported graph of the same trees and calibration does."""
    inner, leaves = len(trees.feature), len(trees.leaf_value)
    nodes = inner + leaves + 1  # the last one: a leaf of value 0, for walks that only fill a block
    children = np.repeat(np.arange(nodes, dtype=np.int64), 2).reshape(nodes, 2)
    for side, (child, is_leaf) in enumerate(((trees.left, trees.left_is_leaf), (trees.right, trees.right_is_leaf))):
        children[:inner, side] = np.asarray(child, dtype=np.int64) + inner * np.asarray(is_leaf, dtype=np.int64)
    feature, threshold = np.zeros(nodes, dtype=np.int64), np.full(nodes, np.inf)
    feature[:inner], threshold[:inner] = trees.feature, trees.thresholds()
    missing_left = np.ones(nodes, dtype=np.bool_)
    missing_left[:inner] = np.asarray(trees.missing_goes_left, dtype=np.bool_)
    value = np.zeros(nodes)
    value[inner : inner + leaves] = trees.leaf_value
    depths = np.array([_depth(children, root) for root in trees.roots], dtype=np.int64)
    order = np.argsort(depths, kind="stable")
    filling = -len(order) % BLOCK
    x, y = np.asarray(calibration.x, dtype=np.float64), np.asarray(calibration.y, dtype=np.float64)
    return Forest(
        feature_count=feature_count,
        trees=len(order),
        bias=float(trees.bias),
        feature=feature,
        threshold=threshold,
        children=children.reshape(-1),
        missing_left=missing_left,
        value=value,
        roots=np.concatenate([np.asarray(trees.roots, dtype=np.int64)[order], np.full(filling, nodes - 1)]),
        place=np.concatenate([order, np.full(filling, len(order))]),
        depth=np.concatenate([depths[order], np.zeros(filling, dtype=np.int64)]).reshape(-1, BLOCK).max(axis=1),
        knots=x,
        levels=y[:-1].copy(),
        slopes=np.diff(y) / np.diff(x),
    )


def _depth(children: np.ndarray, root: int) -> int:
    """Steps from a root to its deepest leaf."""
    level, steps = np.array([root]), 0
    while True:
        level = level[children[level, 0] != level]  # a leaf is its own child
        if not len(level):
            return steps
        level, steps = children[level].reshape(-1), steps + 1
