"""A bundle's trees in the form that is served: flat arrays for compiled code, beside ``model.onnx``, which they agree with."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import IntegrityError
from tapeline.registry.replay import UNREADABLE, Sample, expect_sample

FOREST_NAME = "forest.npz"
_WHOLE = frozenset({"feature_count", "trees", "feature", "children", "roots", "place", "depth"})
_SCALARS = frozenset({"feature_count", "trees", "bias"})


@dataclass(frozen=True)
class Forest:
    """A calibrated ensemble of trees; :func:`tapeline.kernels.forest.predict` describes the arrays."""

    feature_count: int
    trees: int
    bias: float
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    children: NDArray[np.int64]
    missing_left: NDArray[np.bool_]
    value: NDArray[np.float64]
    roots: NDArray[np.int64]
    place: NDArray[np.int64]
    depth: NDArray[np.int64]
    knots: NDArray[np.float64]
    levels: NDArray[np.float64]
    slopes: NDArray[np.float64]

    def run(self, features: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
        """Probability and score, each float32 (rows,), of features float64 (rows, feature_count)."""
        from tapeline.kernels.forest import predict  # numba, which a reader of bundles may do without

        if features.ndim != 2 or features.shape[1] != self.feature_count:  # compiled code does not look again
            raise ValueError(f"features have shape {features.shape}, the forest takes {self.feature_count}")
        probability = np.empty(len(features), dtype=np.float32)
        score = np.empty(len(features), dtype=np.float32)
        predict(
            features,
            self.feature,
            self.threshold,
            self.children,
            self.missing_left,
            self.value,
            self.roots,
            self.place,
            self.depth,
            self.trees,
            self.bias,
            self.knots,
            self.levels,
            self.slopes,
            probability,
            score,
        )
        return {"probability": probability, "score": score}

    def to_bytes(self) -> bytes:
        """As an ``npz`` file, equal for equal arrays."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
        np.savez(buffer, **arrays)
        return buffer.getvalue()


def read_forest(path: Path, feature_count: int) -> Forest:
    """Read ``forest.npz``; nothing in it is ever unpickled, and every number that is used as a place is checked.

    Raises
    ------
    IntegrityError
        If it is no forest over so many features.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays: dict[str, Any] = {field.name: stored[field.name] for field in fields(Forest)}
    except UNREADABLE as error:
        raise IntegrityError(f"the bundle's compiled trees cannot be read: {error}", where=str(path)) from None
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise IntegrityError(f"{name} of the bundle's compiled trees is no array", where=str(path))
        wanted = np.int64 if name in _WHOLE else np.bool_ if name == "missing_left" else np.float64
        if array.dtype != wanted or array.ndim != (0 if name in _SCALARS else 1):
            raise IntegrityError(
                f"{name} of the bundle's compiled trees is {array.dtype} {array.shape}", where=str(path)
            )
    scalars: dict[str, Any] = {name: arrays.pop(name).item() for name in _SCALARS}
    whole: dict[str, Any] = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    forest = Forest(**scalars, **whole)
    if forest.feature_count != feature_count or not _fits(forest):
        raise IntegrityError(
            "the bundle's compiled trees do not fit together",
            where=str(path),
            remedy="Train and register the model again",
        )
    return forest


def _fits(forest: Forest) -> bool:
    """Whether compiled code can follow every number in it without leaving an array."""
    from tapeline.kernels.forest import BLOCK  # numba, as above

    nodes, walks = len(forest.feature), len(forest.roots)

    def within(places: NDArray[np.int64], end: int) -> bool:
        return bool(((places >= 0) & (places < end)).all())

    return (
        len(forest.threshold) == len(forest.missing_left) == len(forest.value) == nodes
        and len(forest.children) == 2 * nodes
        and len(forest.place) == walks == BLOCK * len(forest.depth)
        and forest.trees >= 0
        and within(forest.feature, forest.feature_count)
        and within(forest.children, nodes)
        and within(forest.roots, nodes)
        and within(forest.place, forest.trees + 1)
        and len(np.unique(forest.place[forest.place < forest.trees])) == forest.trees
        and within(forest.depth, nodes + 1)
        and all(
            bool(np.isfinite(part).all())
            for part in (forest.bias, forest.value, forest.knots, forest.levels, forest.slopes)
        )
        and len(forest.knots) >= 2
        and bool((np.diff(forest.knots) > 0).all())
        and len(forest.levels) == len(forest.slopes) == len(forest.knots) - 1
        and not bool(np.isnan(forest.threshold).any())
    )


def check_forest(forest: Forest, sample: Sample, *, where: str) -> None:
    """Compare compiled trees with a sample of the model beside them.

    Raises
    ------
    ParityError
        If an output differs by more than 1e-6.
    """
    expect_sample(forest.run(sample.features), sample, "compiled trees", where=where)
