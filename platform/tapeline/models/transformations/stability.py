"""How stable a choice of features is over folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone

from tapeline.core.errors import ParameterError
from tapeline.models.transformations.selection import Splits


@dataclass(frozen=True)
class Stability:
    """How far a selector makes the same choice on different training rows.

    Attributes
    ----------
    chosen
        bool (folds, features).
    frequency
        Share of the folds that chose each feature, (features,).
    score
        1: the same choice in every fold; 0: no more alike than random choices of the same sizes; NaN where every fold
        chose all features, or none.
    """

    chosen: NDArray[np.bool_]
    frequency: NDArray[np.float64]
    score: float


def selection_stability(selector: BaseEstimator, X: ArrayLike, y: ArrayLike, cv: Splits) -> Stability:  # noqa: N803
    """Fit a selector on the training rows of each fold and compare its choices.

    Raises
    ------
    ParameterError
        If there are fewer than two folds.

    Notes
    -----
    Source: Nogueira, Sechidis, Brown 2018, "On the Stability of Feature Selection Algorithms", JMLR 18, definition 4.
    """
    if len(cv) < 2:
        raise ParameterError(f"{len(cv)} folds cannot be compared", remedy="Give at least two folds")
    rows, labels = np.asarray(X), np.asarray(y)
    return stability_of(np.array([clone(selector).fit(rows[train], labels[train]).get_support() for train, _ in cv]))


def stability_of(chosen: NDArray[np.bool_]) -> Stability:
    """How alike choices of shape (folds, features) are; see :func:`selection_stability`."""
    frequency = chosen.mean(axis=0)
    folds, mean_size = len(chosen), frequency.mean()
    by_chance = mean_size * (1.0 - mean_size)
    spread = folds / (folds - 1) * (frequency * (1.0 - frequency)).mean()
    return Stability(chosen, frequency, float(1.0 - spread / by_chance) if by_chance > 0 else float("nan"))
