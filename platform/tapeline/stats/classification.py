"""How good probabilities of a yes-or-no outcome are. Arrays have shape (rows,); outcomes are 0 or 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PROBABILITY_MIN = 1e-7
"""Log loss sees no probability nearer to 0 or 1: a single sure mistake would outweigh everything else."""


def log_losses(probability: Array, outcome: Array) -> Array:
    """Negative log likelihood of each outcome, nats."""
    p = np.clip(probability, PROBABILITY_MIN, 1.0 - PROBABILITY_MIN)
    return np.asarray(-np.where(outcome > 0.5, np.log(p), np.log1p(-p)))


def brier_losses(probability: Array, outcome: Array) -> Array:
    """Squared error of each probability (Brier 1950)."""
    return np.asarray((probability - outcome) ** 2)


def hits(probability: Array, outcome: Array) -> Array:
    """1 where the more probable side came true, one half where neither side was more probable."""
    return np.where(probability == 0.5, 0.5, ((probability > 0.5) == (outcome > 0.5)).astype(np.float64))


class RankOrder:
    """Area under the ROC curve of one set of scores, under any weights of its rows.

    Only rows of one stratum are compared. Scores of models that were fitted at different times have different levels, and
    ranking them together would mix how a model ranks with how its level moved (Forman and Scholz 2010).

    Parameters
    ----------
    score, outcome
        Shape (rows,).
    strata
        Number of each row's stratum, integers of shape (rows,); none: one for all.
    """

    def __init__(self, score: Array, outcome: Array, strata: NDArray[np.int64] | None = None) -> None:
        groups = np.zeros(len(score), dtype=np.int64) if strata is None else strata
        # Sorted once, so that each resample of a bootstrap costs one pass.
        self._order = np.lexsort((score, groups))
        ordered, group = score[self._order], groups[self._order]
        new_group = np.concatenate([[True], group[1:] != group[:-1]])[: len(score)]
        new_score = new_group | np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(score)]
        self._starts = np.flatnonzero(new_score)
        self._strata = np.flatnonzero(new_group[self._starts])
        self._sizes = np.diff([*self._strata.tolist(), len(self._starts)])
        self._positive = outcome[self._order] > 0.5

    def auc(self, weights: Array | None = None) -> Array:
        """The area, shape (resamples,), of weights (resamples, rows); none: all rows once.

        Equal scores count one half. NaN where no stratum of a resample has both kinds of outcome.
        """
        weight = np.ones((1, len(self._order))) if weights is None else weights[:, self._order]
        if not len(self._order):
            return np.full(len(weight), np.nan)
        positive = np.add.reduceat(weight * self._positive, self._starts, axis=1)
        negative = np.add.reduceat(weight * ~self._positive, self._starts, axis=1)
        before = np.cumsum(negative, axis=1) - negative
        below = before - np.repeat(before[:, self._strata], self._sizes, axis=1)
        sums = [np.add.reduceat(column, self._strata, axis=1) for column in (positive, negative)]
        pairs = (sums[0] * sums[1]).sum(axis=1)
        ranked = (positive * (below + 0.5 * negative)).sum(axis=1)
        return np.asarray(np.divide(ranked, pairs, out=np.full(len(weight), np.nan), where=pairs > 0))


def reliability(probability: Array, outcome: Array, bins: int = 10) -> list[dict[str, float]]:
    """Mean probability and observed frequency in bins of equally many rows, for a calibration curve."""
    order = np.argsort(probability, kind="stable")
    return [
        {
            "probability": float(probability[part].mean()),
            "frequency": float(outcome[part].mean()),
            "rows": float(len(part)),
        }
        for part in np.array_split(order, bins)
        if len(part)
    ]
