"""Confidence intervals for time series by resampling blocks of times.

Rows of one time (several symbols on one day) are drawn together, and neighbouring times stay neighbours: both kinds of
dependence would make intervals over single rows far too narrow.

Source: Politis and Romano, "A circular block-resampling procedure for stationary data" (1992).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number with its confidence interval, and where it was tested against zero, the two-sided p-value."""

    value: float
    low: float
    high: float
    p_value: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """JSON-ready; what is not finite becomes none."""
        pairs = {"value": self.value, "low": self.low, "high": self.high}
        if self.p_value is not None:
            pairs["p_value"] = self.p_value
        return {name: number if np.isfinite(number) else None for name, number in pairs.items()}


def block_counts(times: int, block: int, resamples: int, seed: int) -> Array:
    """How often each time occurs in each resample; float64 (resamples, times), each row summing to `times`.

    Parameters
    ----------
    times
        Length of the series.
    block
        Times in a block; at least as long as outcomes overlap. Blocks run over the end to the beginning.
    resamples, seed
        How many, and from where the random numbers start.
    """
    block = min(max(block, 1), times)
    pieces = -(-times // block)
    random = np.random.default_rng(seed)
    starts = random.integers(times, size=(resamples, pieces))
    lengths = np.full(pieces, block)
    lengths[-1] = times - block * (pieces - 1)
    edges = np.zeros((resamples, 2 * times + 1))
    rows = np.arange(resamples)[:, None]
    np.add.at(edges, (rows, starts), 1.0)
    np.add.at(edges, (rows, starts + lengths), -1.0)
    counts = np.cumsum(edges[:, :-1], axis=1)
    return np.asarray(counts[:, :times] + counts[:, times:])


def interval(value: float, resampled: Array, *, level: float = 0.95) -> Estimate:
    """A percentile interval; resamples without a value are left out."""
    kept = resampled[np.isfinite(resampled)]
    if not len(kept):
        return Estimate(value, np.nan, np.nan)
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high))


def difference(value: float, resampled: Array, *, level: float = 0.95) -> Estimate:
    """An interval of a paired difference, and the p-value of "there is none".

    The p-value is the share of resamples that lie at least as far from the estimate as the estimate lies from zero
    (Davison and Hinkley 1997, section 4.4).
    """
    kept = resampled[np.isfinite(resampled)]
    estimate = interval(value, kept, level=level)
    far = int((np.abs(kept - value) >= abs(value)).sum())
    return Estimate(value, estimate.low, estimate.high, (far + 1) / (len(kept) + 1))


def group_means(values: Array, groups: NDArray[np.int64], counts: Array) -> Array:
    """Means of row values under each resample of their groups; shape (resamples,).

    Parameters
    ----------
    values, groups
        Shape (rows,); groups number the times from 0.
    counts
        From `block_counts`, shape (resamples, times).
    """
    times = counts.shape[1]
    sums = np.bincount(groups, weights=values, minlength=times)
    sizes = np.bincount(groups, minlength=times).astype(np.float64)
    return np.asarray((counts @ sums) / (counts @ sizes))
