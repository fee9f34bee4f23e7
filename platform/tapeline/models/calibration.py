"""Isotonic calibration: from a score to the frequency with which such scores came true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

PROBABILITY_MIN, PROBABILITY_MAX = 0.01, 0.99
_DECIMALS = 6


@dataclass(frozen=True)
class Calibration:
    """A piecewise-linear, non-decreasing function, constant outside its knots; arrays of shape (knots,), knots ≥ 2."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]

    def __call__(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated probabilities, shape (rows,)."""
        return np.asarray(np.interp(score, self.x, self.y))


IDENTITY = Calibration(np.array([0.0, 1.0]), np.array([0.0, 1.0]))


def fit_isotonic(score: NDArray[np.float64], labels: NDArray[np.float64]) -> Calibration:
    """Pool adjacent violators over scores of rows that the model was not fitted on.

    No probability leaves [0.01, 0.99]: the outermost blocks hold few rows, and their frequencies of 0 and 1 are not
    certainties. Scores are rounded to six decimals first, so that the function is nowhere so steep that the last bit of a
    score shows in a probability.

    Source: Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability estimates" (2002).
    """
    fitted = IsotonicRegression(y_min=PROBABILITY_MIN, y_max=PROBABILITY_MAX, out_of_bounds="clip")
    fitted.fit(np.round(score, _DECIMALS), labels)
    x, y = np.asarray(fitted.X_thresholds_, np.float64), np.asarray(fitted.y_thresholds_, np.float64)
    if len(x) == 1:
        return Calibration(np.array([0.0, 1.0]), np.array([y[0], y[0]]))
    return Calibration(x, y)
