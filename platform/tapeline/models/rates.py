"""Baselines that know one thing about a row: how often the label was 1 when that thing was so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RateModel:
    """Frequency of label 1 by state; ``rate[state]`` with state 0 or 1, and ``rate[-1]`` where the state is unknown."""

    rate: NDArray[np.float64]

    def score(self, state: NDArray[np.int64]) -> NDArray[np.float64]:
        """Probability that the label is 1, shape (rows,), for states 0, 1, or -1 (unknown)."""
        return self.rate[state]


def fit_rates(state: NDArray[np.int64], labels: NDArray[np.float64]) -> RateModel:
    """Fit by counting, with one imagined success and failure in each state (Laplace's rule of succession).

    Parameters
    ----------
    state
        0, 1, or -1 for unknown; shape (rows,). All 0 makes the base rate.
    labels
        0 or 1; shape (rows,).
    """
    rates = np.empty(3)
    for value in (0, 1, -1):
        mine = labels if value == -1 else labels[state == value]
        rates[value] = (mine.sum() + 1.0) / (len(mine) + 2.0)
    return RateModel(rates)
