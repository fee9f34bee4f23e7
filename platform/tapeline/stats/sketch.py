"""Histograms with buckets that never have to be chosen: log-linear, by the leading bits of a float64.

A bucket holds the numbers of one sign that share their exponent and the first seven bits of their fraction, so it is
never wider than 1/128 of what it holds. Histograms of any two samples have the same edges: they can be added, and
compared with one another years later. Numbers below 2**-40 in size count as zero, those above 2**39 go into the last bucket.

Source: Masson, Rim, Lee, "DDSketch" (2019), for mergeable sketches of bounded relative error; the buckets are those of
Tene's HdrHistogram.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_SHIFT = 52 - 7
_FIRST = (1023 - 40) << 7
BUCKET_MAX = ((1023 + 39) << 7) - _FIRST
"""The greatest bucket number; the least is its negative, and 0 holds zero."""


def buckets(values: Floats) -> NDArray[np.int16]:
    """The bucket of each finite number, in the same order as the numbers.

    Parameters
    ----------
    values
        Finite, any shape.

    Returns
    -------
    NDArray[np.int16]
        From ``-BUCKET_MAX`` to ``BUCKET_MAX``, same shape.
    """
    size = np.abs(np.ascontiguousarray(values, dtype=np.float64)).view(np.int64) >> _SHIFT
    size -= _FIRST - 1
    np.clip(size, 0, BUCKET_MAX, out=size)
    return np.where(np.signbit(values), -size, size).astype(np.int16)


def edges(bucket: NDArray[np.int16] | NDArray[np.int64] | int) -> tuple[Floats, Floats]:
    """Lowest and highest number of each bucket (the highest is the next one's lowest)."""
    number = np.asarray(bucket, dtype=np.int64)
    size = np.abs(number)
    near = np.where(size > 0, _value(size), 0.0)
    far = _value(size + 1)
    low = np.where(number > 0, near, -far)
    high = np.where(number < 0, -near, far)
    return low, high


def _value(size: Integers) -> Floats:
    return ((size + _FIRST - 1) << _SHIFT).view(np.float64)


def quantiles(bucket: NDArray[np.int16], count: Integers, at: Floats) -> Floats:
    """Quantiles of a histogram: the middle of the bucket that holds each.

    Parameters
    ----------
    bucket, count
        Buckets in rising order, and how many numbers each holds; shape (B,).
    at
        Which quantiles, 0 to 1, shape (Q,).

    Returns
    -------
    Floats
        Shape (Q,), within 1/256 of the nearest-rank quantile of the numbers; NaN if there are none.
    """
    total = np.cumsum(count)
    if len(total) == 0 or total[-1] == 0:
        return np.full(len(at), np.nan)
    rank = np.maximum(np.ceil(np.asarray(at) * total[-1]), 1.0)
    found = bucket[np.searchsorted(total, rank, side="left")]
    low, high = edges(found)
    return np.where(found == 0, 0.0, (low + high) / 2)


def aligned(
    first: tuple[NDArray[np.int16], Integers], second: tuple[NDArray[np.int16], Integers]
) -> tuple[NDArray[np.int16], Integers, Integers]:
    """Two histograms over the union of their buckets: the buckets in rising order, and the counts of each."""
    union = np.union1d(first[0], second[0])
    counts = []
    for bucket, count in (first, second):
        full = np.zeros(len(union), dtype=np.int64)
        np.add.at(full, np.searchsorted(union, bucket), count)
        counts.append(full)
    return union, counts[0], counts[1]
