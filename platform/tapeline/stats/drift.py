"""Distances between two samples of one feature, as histograms: how far has it drifted?

All take counts over the same bins in rising order. None says that drift matters: a model decides that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import EmptyDataError, ParameterError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

PSI_BINS = 10


def reference_bins(reference: Integers, count: int = PSI_BINS) -> Integers:
    """Group fine bins into coarse ones that hold about equal shares of the reference.

    Parameters
    ----------
    reference
        Counts over fine bins, shape (B,).
    count
        Coarse bins to make; fewer come out where one fine bin holds more than its share.

    Returns
    -------
    Integers
        The coarse bin of each fine one, shape (B,), rising from 0 without gaps.
    """
    total = int(reference.sum())
    if total == 0:
        raise EmptyDataError("the reference has no values")
    before = np.cumsum(reference) - reference
    middle = (before + reference / 2) / total
    group = np.minimum((middle * count).astype(np.int64), count - 1)
    return np.unique(group, return_inverse=True)[1].astype(np.int64)


def psi(reference: Integers, current: Integers, *, bins: int = PSI_BINS, pseudo_count: float = 0.5) -> float:
    """Population stability index: the sum over bins of (q − p) ln(q / p).

    Bins are deciles of the reference. Half a value is added to each bin, so that an empty one is finite. By custom, below
    0.1 is no shift and above 0.25 a large one; of two samples of n and m values of the same distribution it is about
    (bins − 1)(1/n + 1/m), so small samples need more.

    Source: Siddiqi, "Credit Risk Scorecards" (2006); Yurdakul, "Statistical properties of population stability index" (2018).

    Parameters
    ----------
    reference, current
        Counts over the same bins, shape (B,).
    bins
        Coarse bins; 2 or more.
    pseudo_count
        Added to each bin, positive.
    """
    _check(reference, current)
    if bins < 2 or not pseudo_count > 0:
        raise ParameterError(
            f"PSI of {bins} bins with {pseudo_count} added", remedy="Give 2 bins or more, and add more than 0"
        )
    group = reference_bins(reference, bins)
    p, q = (
        np.bincount(group, weights=counts, minlength=int(group.max()) + 1) + pseudo_count
        for counts in (reference, current)
    )
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((q - p) * np.log(q / p)))


def kolmogorov_smirnov(reference: Integers, current: Integers) -> float:
    """The greatest difference of the two distribution functions, 0 to 1, at the bins' ends.

    Source: Kolmogorov (1933), Smirnov (1948). Within bins it cannot see: it is never above the samples' own.
    """
    p, q = _check(reference, current)
    return float(np.abs(np.cumsum(p) - np.cumsum(q)).max())


def wasserstein(reference: Integers, current: Integers, positions: Floats) -> float:
    """Earth mover's distance: how far values have moved on average, in the feature's unit.

    Source: Vaserstein (1969); in one dimension the area between the distribution functions.

    Parameters
    ----------
    reference, current
        Counts over the same bins, shape (B,).
    positions
        Where each bin lies, rising, shape (B,): its middle.
    """
    p, q = _check(reference, current)
    if positions.shape != reference.shape:
        raise ParameterError(f"{len(positions)} positions for {len(reference)} bins")
    return float(np.sum(np.abs(np.cumsum(p) - np.cumsum(q))[:-1] * np.diff(positions)))


def jensen_shannon(reference: Integers, current: Integers) -> float:
    """Jensen–Shannon distance: the square root of the divergence in bits, 0 (equal) to 1 (disjoint); a metric.

    Source: Lin (1991); Endres and Schindelin (2003).
    """
    p, q = _check(reference, current)
    middle = (p + q) / 2
    return float(np.sqrt(max((_kullback_leibler(p, middle) + _kullback_leibler(q, middle)) / 2, 0.0)))


def _kullback_leibler(p: Floats, q: Floats) -> float:
    some = p > 0
    return float(np.sum(p[some] * np.log2(p[some] / q[some])))


def _check(reference: Integers, current: Integers) -> tuple[Floats, Floats]:
    """The two as shares."""
    if reference.shape != current.shape or reference.ndim != 1:
        raise ParameterError(
            f"histograms of shapes {reference.shape} and {current.shape}", remedy="Count both over the same bins"
        )
    if (reference < 0).any() or (current < 0).any():
        raise ParameterError("a histogram has a negative count")
    if not reference.sum() or not current.sum():
        raise EmptyDataError("a histogram has no values", remedy="Compare samples that have some")
    return reference / reference.sum(), current / current.sum()
