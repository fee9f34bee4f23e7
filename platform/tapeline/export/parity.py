"""The gate every exported model passes: ONNX Runtime must give what the native model gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import ParityError
from tapeline.export.trees import TreeArrays
from tapeline.registry.forest import Forest
from tapeline.registry.replay import open_session, run_session

TOLERANCE = 1e-6
_BATCH_ROWS = 4_096

Native = Callable[[NDArray[np.float32]], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""From features, float32 (rows, features), to probability and score, float64 (rows,)."""


@dataclass(frozen=True)
class ParityReport:
    """The largest absolute differences seen, and over how many rows."""

    rows: int
    probability_difference_max: float
    score_difference_max: float


def parity_rows(
    features: NDArray[np.float32], trees: TreeArrays | None, *, seed: int = 0, count: int = 2_048
) -> NDArray[np.float32]:
    """Rows on which a wrong export shows: float32 (up to 5 · count, features).

    Real rows; rows mixed column by column; random rows of each column's spread; rows that stand exactly on split
    thresholds and on the float32 numbers beside them; and rows with missing, infinite, zero and extreme values.
    """
    random = np.random.default_rng(seed)
    rows, columns = features.shape
    real = features[random.choice(rows, size=min(rows, count), replace=False)]
    mixed = np.column_stack([features[random.integers(rows, size=count), column] for column in range(columns)])
    finite = np.where(np.isfinite(features), features.astype(np.float64), 0.0)
    spread = (random.standard_normal((count, columns)) * finite.std(axis=0) + finite.mean(axis=0)).astype(np.float32)
    edges = mixed.copy()
    if trees is not None and trees.feature:
        which = np.asarray(trees.feature)
        exact = trees.thresholds().astype(np.float32)
        nodes = random.integers(len(which), size=(count, columns))
        step = random.integers(-1, 2, size=(count, columns))
        with np.errstate(over="ignore"):  # beside the largest float32 lies infinity
            below = np.nextafter(exact[nodes], np.float32(-np.inf))
            above = np.nextafter(exact[nodes], np.float32(np.inf))
        values = np.select([step < 0, step > 0], [below, above], exact[nodes])
        np.put_along_axis(edges, which[nodes], values.astype(np.float32), axis=1)
    strange = mixed.copy()
    odd = np.array(
        [np.nan, np.nan, np.nan, 0.0, -0.0, np.inf, -np.inf, 1e-45, -1e-35, 1e-35, 3.4e38, -3.4e38], dtype=np.float32
    )
    hit = random.random(strange.shape) < 0.3
    strange[hit] = random.choice(odd, size=int(hit.sum()))
    strange[0] = np.nan
    return np.concatenate([real, mixed, spread, edges, strange]).astype(np.float32)


def check_parity(
    model: bytes,
    native: Native,
    rows: NDArray[np.float32],
    *,
    forest: Forest | None = None,
    tolerance: float = TOLERANCE,
) -> ParityReport:
    """Compare an exported model, and its compiled trees if it has any, with the native one.

    Raises
    ------
    ParityError
        If a probability or score differs by more than `tolerance`, or is not finite; the message names the worst row.
    """
    session = open_session(model)
    worst = {"probability": 0.0, "score": 0.0}
    for start in range(0, len(rows), _BATCH_ROWS):
        batch = np.ascontiguousarray(rows[start : start + _BATCH_ROWS])
        forms = {"exported model": run_session(session, batch)}
        if forest is not None:
            forms["compiled trees"] = forest.run(batch.astype(np.float64))
        for name, expected in zip(worst, native(batch), strict=True):
            for form, given in forms.items():
                difference = np.abs(given[name].astype(np.float64) - expected)
                difference[~np.isfinite(difference)] = np.inf
                at = int(difference.argmax())
                worst[name] = max(worst[name], float(difference[at]))
                if difference[at] > tolerance:
                    raise ParityError(
                        f"{name} of the {form} is {given[name][at]!r} where the native model's is {expected[at]!r}",
                        where=f"parity row {start + at}",
                        remedy="This is a defect of the export; do not serve the model",
                    )
    return ParityReport(len(rows), worst["probability"], worst["score"])
