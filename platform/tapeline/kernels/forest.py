"""A calibrated ensemble of binary trees as compiled code: from a feature vector to score and probability.

Trees are walked eight at a time for as many steps as the deepest of the eight has; a leaf is its own child, so no branch
depends on the data and the eight walks overlap in the processor. Trees of like depth share a block, yet leaf values are added
in the trees' own order, as ONNX Runtime adds them.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

BLOCK = 8
"""Trees that are walked together."""


@njit(error_model="numpy", forceinline=True)
def _step(
    node: int, row: NDArray[np.float64], feature: NDArray[np.int64], threshold: NDArray[np.float64],
    children: NDArray[np.int64],
) -> int:  # fmt: skip
    right = row[np.uint64(feature[np.uint64(node)])] > threshold[np.uint64(node)]
    return children[np.uint64(2 * node + right)]


@njit(error_model="numpy")
def _walk_with_missing(
    node: int, steps: int, row: NDArray[np.float64], feature: NDArray[np.int64], threshold: NDArray[np.float64],
    children: NDArray[np.int64], missing_left: NDArray[np.bool_],
) -> int:  # fmt: skip
    for _ in range(steps):
        value = row[feature[node]]
        right = not missing_left[node] if math.isnan(value) else value > threshold[node]
        node = children[2 * node + right]
    return node


@njit(error_model="numpy", forceinline=True)
def _calibrated(
    score: float, knots: NDArray[np.float64], levels: NDArray[np.float64], slopes: NDArray[np.float64]
) -> float:
    clipped = min(max(score, knots[0]), knots[-1])
    interval = min(np.searchsorted(knots[1:-1], clipped, side="right"), len(slopes) - 1)
    return levels[interval] + slopes[interval] * (clipped - knots[interval])


@njit(
    "void(float64[:, :], int64[::1], float64[::1], int64[::1], boolean[::1], float64[::1], int64[::1], int64[::1], int64[::1],"
    " int64, float64, float64[::1], float64[::1], float64[::1], float32[::1], float32[::1])",
    error_model="numpy",
    cache=True,
    nogil=True,
)
def predict(
    rows: NDArray[np.float64],
    feature: NDArray[np.int64],
    threshold: NDArray[np.float64],
    children: NDArray[np.int64],
    missing_left: NDArray[np.bool_],
    value: NDArray[np.float64],
    roots: NDArray[np.int64],
    place: NDArray[np.int64],
    depth: NDArray[np.int64],
    trees: int,
    bias: float,
    knots: NDArray[np.float64],
    levels: NDArray[np.float64],
    slopes: NDArray[np.float64],
    probability: NDArray[np.float32],
    score: NDArray[np.float32],
) -> None:
    """Predict rows.

    Parameters
    ----------
    rows
        Features, float64 (n, features); each is rounded to float32 first, as the exported graph's input is.
    feature, threshold, children, missing_left, value
        For each node: the feature it asks about, its split (left where x <= split), its two children, where NaN goes, and
        its value; a leaf is its own child.
    roots, place
        For each walk: the tree's root, and where its leaf's value belongs in the sum. A multiple of `BLOCK` walks.
    depth
        Steps of each block.
    trees
        How many values are summed, before `bias` is added.
    knots, levels, slopes
        Calibration: strictly increasing scores, and of each interval the probability at its left end and its slope.
    probability, score
        float32 (n,), overwritten.
    """
    found = np.empty(trees + 1)
    row = np.empty(rows.shape[1])
    for number in range(len(rows)):
        missing = False
        for i in range(len(row)):
            row[i] = np.float64(np.float32(rows[number, i]))
            missing |= math.isnan(row[i])
        for block in range(len(depth)):
            at = block * BLOCK
            if missing:
                for i in range(at, at + BLOCK):
                    leaf = _walk_with_missing(roots[i], depth[block], row, feature, threshold, children, missing_left)
                    found[place[i]] = value[leaf]
                continue
            a, b, c, d = roots[at], roots[at + 1], roots[at + 2], roots[at + 3]
            e, f, g, h = roots[at + 4], roots[at + 5], roots[at + 6], roots[at + 7]
            for _ in range(depth[block]):
                a = _step(a, row, feature, threshold, children)
                b = _step(b, row, feature, threshold, children)
                c = _step(c, row, feature, threshold, children)
                d = _step(d, row, feature, threshold, children)
                e = _step(e, row, feature, threshold, children)
                f = _step(f, row, feature, threshold, children)
                g = _step(g, row, feature, threshold, children)
                h = _step(h, row, feature, threshold, children)
            found[place[at]], found[place[at + 1]] = value[a], value[b]
            found[place[at + 2]], found[place[at + 3]] = value[c], value[d]
            found[place[at + 4]], found[place[at + 5]] = value[e], value[f]
            found[place[at + 6]], found[place[at + 7]] = value[g], value[h]
        total = 0.0
        for i in range(trees):
            total += found[i]
        exact = 1.0 / (1.0 + math.exp(-(total + bias)))
        score[number] = exact
        probability[number] = _calibrated(exact, knots, levels, slopes)
