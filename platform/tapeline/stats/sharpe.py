"""The Sharpe ratio of decisions whose outcomes overlap.

A decision is taken at every time, and its outcome is known several times later, so consecutive returns share most of
their path. The decisions are therefore read as staggered books: book j trades at times j, j + overlap, j + 2·overlap, …
with one overlap-th of the capital. Returns inside a book do not overlap, so the book's mean and deviation may be
annualised by the usual square root; the moments are pooled over the books.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def staggered_returns(position: Array, outcome: Array, overlap: int, cost: float) -> Array:
    """Net return of each time's decision, averaged over the instruments that have one; NaN where none has.

    Parameters
    ----------
    position
        Shape (times, instruments), from -1 to 1; NaN where there is no decision.
    outcome
        Return of holding one unit until the outcome is known, same shape.
    overlap
        Times from a decision to its outcome.
    cost
        Paid for each unit that a book changes its position by, as a share of the traded value (0.0005 is 5 basis
        points). A book starts flat.
    """
    before = np.zeros_like(position)
    before[overlap:] = np.nan_to_num(position[:-overlap])
    net = position * outcome - cost * np.abs(position - before)
    valid = ~np.isnan(net)
    count = valid.sum(axis=1)
    total = np.where(valid, net, 0.0).sum(axis=1)
    return np.asarray(np.divide(total, count, out=np.full(len(net), np.nan), where=count > 0))


def sharpe(returns: Array, counts: Array | None, decisions_per_year: float) -> Array:
    """Annualised Sharpe ratio without a risk-free rate, shape (resamples,).

    Parameters
    ----------
    returns
        Shape (times,), without NaN.
    counts
        Weights of the times, shape (resamples, times); none: each once.
    decisions_per_year
        Of one book: times per year divided by the overlap.
    """
    weight = np.ones((1, len(returns))) if counts is None else counts
    total = weight.sum(axis=1)
    mean = weight @ returns / total
    variance = np.maximum(weight @ returns**2 / total - mean**2, 0.0) * total / np.maximum(total - 1, 1)
    spread = np.sqrt(variance)
    ratio = np.divide(mean, spread, out=np.zeros_like(mean), where=spread > 1e-12)
    return np.asarray(ratio * np.sqrt(decisions_per_year))
