"""Logistic regression on imputed, standardised features, by scikit-learn."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from tapeline.models.protocol import Features, Scores


@dataclass(frozen=True)
class LogisticModel:
    """A fitted logistic regression; arrays of shape (features,).

    Attributes
    ----------
    fill
        The training rows' medians, which replace missing values.
    centre, scale
        The training rows' means and standard deviations after that.
    weight, bias
        Log-odds per standard deviation, and at the centre.
    """

    fill: NDArray[np.float32]
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    weight: NDArray[np.float64]
    bias: float

    @property
    def family(self) -> str:
        """Name of the family."""
        return "logistic"

    def score(self, features: Features) -> Scores:
        """Uncalibrated probability that the label is 1, shape (rows,)."""
        log_odds = _standardise(features, self) @ self.weight + self.bias
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(log_odds, -700.0, 700.0))))

    def importance(self) -> NDArray[np.float64]:
        """Share of the absolute weights, shape (features,)."""
        size = np.abs(self.weight)
        return np.asarray(size / size.sum()) if size.sum() > 0 else size


def fit_logistic(features: Features, labels: NDArray[np.float64], *, strength: float = 0.01) -> LogisticModel:
    """Fit by maximum likelihood with an L2 penalty.

    Parameters
    ----------
    features, labels
        Shapes (rows, features) and (rows,); labels are 0 or 1. A feature without any value gets weight 0.
    strength
        Inverse of the penalty, as in scikit-learn.
    """
    finite = np.where(np.isfinite(features), features, np.nan)
    known = ~np.isnan(finite).all(axis=0)
    fill = np.zeros(features.shape[1], dtype=np.float32)
    fill[known] = np.nanmedian(finite[:, known], axis=0)
    filled = np.where(np.isnan(finite), fill, finite).astype(np.float64)
    spread = filled.std(axis=0)
    model = LogisticModel(fill, filled.mean(axis=0), np.where(spread > 0, spread, 1.0), np.zeros(len(fill)), 0.0)
    if len(np.unique(labels)) < 2:
        share = np.clip(labels.mean(), 1e-6, 1 - 1e-6)
        return LogisticModel(fill, model.centre, model.scale, model.weight, float(np.log(share / (1 - share))))
    with warnings.catch_warnings():
        # Far from convergence the fit is still a valid baseline, and the same one every time.
        warnings.simplefilter("ignore")
        fitted = LogisticRegression(C=strength, max_iter=100, solver="newton-cholesky").fit(
            _standardise(features, model), labels
        )
    weight = np.where(known & (spread > 0), fitted.coef_[0], 0.0)
    return LogisticModel(fill, model.centre, model.scale, weight, float(fitted.intercept_[0]))


def _standardise(features: Features, model: LogisticModel) -> NDArray[np.float64]:
    filled = np.where(np.isfinite(features), features, model.fill).astype(np.float64)
    return np.asarray((filled - model.centre) / model.scale)
