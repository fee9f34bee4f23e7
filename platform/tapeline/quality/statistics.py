"""Statistics of the features of one day: computing, packing, adding up. Pure; :mod:`tapeline.quality.daily` keeps them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import IntegrityError, ParameterError
from tapeline.features.versions import Flags, Floats, Integers
from tapeline.stats import sketch

Counts32 = NDArray[np.int32]
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)

_MAGIC = b"TQS1"
_HEADER = struct.Struct("<4sIQ")


@dataclass(frozen=True)
class FeatureStatistics:
    """Statistics of F features over a number of rows. ``mean``, ``squares``, ``least`` and ``most`` are of finite values.

    Attributes
    ----------
    rows
        How many rows.
    nulls, nans, infinite
        int64 (F,): cells that are NULL, NaN, infinite.
    mean
        float64 (F,): NaN where there are no finite values.
    squares
        float64 (F,): sum of squared distances from the mean.
    least, most
        float64 (F,).
    offsets
        int64 (F + 1,): the feature's histogram is ``offsets[f]`` to ``offsets[f + 1]`` of ``buckets`` and ``counts``.
    buckets
        int16: see :mod:`tapeline.stats.sketch`.
    counts
        int64: how many values each holds.
    """

    rows: int
    nulls: Integers
    nans: Integers
    infinite: Integers
    mean: Floats
    squares: Floats
    least: Floats
    most: Floats
    offsets: Integers
    buckets: NDArray[np.int16]
    counts: Integers

    @property
    def values(self) -> Integers:
        """int64 (F,): finite values."""
        return self.rows - self.nulls - self.nans - self.infinite

    @property
    def deviation(self) -> Floats:
        """float64 (F,): sample standard deviation, NaN for fewer than two values."""
        degrees = self.values - 1
        variance: Floats = np.divide(self.squares, degrees, out=np.full(len(degrees), np.nan), where=degrees > 0)
        return np.sqrt(variance)

    def histogram(self, place: int) -> tuple[NDArray[np.int16], Integers]:
        """Buckets, in rising order, and counts of one feature."""
        part = slice(int(self.offsets[place]), int(self.offsets[place + 1]))
        return self.buckets[part], self.counts[part]

    def quantiles(self, place: int, at: Sequence[float] = QUANTILES) -> Floats:
        """Quantiles of one feature, within 1/256 of the value."""
        return sketch.quantiles(*self.histogram(place), np.asarray(at))


def statistics_of(values: Floats, nulls: Flags) -> FeatureStatistics:
    """Statistics of rows.

    Parameters
    ----------
    values
        float64 (N, F).
    nulls
        bool (N, F), or (N, 1) where whole rows are: the cell is NULL, whatever ``values`` holds there.
    """
    size, width = values.shape
    null = np.broadcast_to(nulls, values.shape)
    finite = np.isfinite(values) & ~null
    count = finite.sum(axis=0)
    some = count > 0
    shown = np.where(finite, values, 0.0)
    # Around a value of the column, so that sums lose nothing to a large mean.
    pivot = shown[np.argmax(finite, axis=0), np.arange(width)] if size else np.zeros(width)
    distance = np.where(finite, values - pivot, 0.0)
    shift = np.divide(distance.sum(axis=0), count, out=np.full(width, np.nan), where=some)
    squares = np.where(finite, distance - np.where(some, shift, 0.0), 0.0)
    bucket = sketch.buckets(shown)
    feature, row = np.nonzero(finite.T)
    keys = (feature.astype(np.int64) << 16) + bucket[row, feature].astype(np.int64) + (1 << 15)
    keys, counts = np.unique(keys, return_counts=True)
    return FeatureStatistics(
        rows=size,
        nulls=null.sum(axis=0),
        nans=(np.isnan(values) & ~null).sum(axis=0),
        infinite=(np.isinf(values) & ~null).sum(axis=0),
        mean=pivot + shift,
        squares=(squares * squares).sum(axis=0),
        least=np.where(some, np.where(finite, values, np.inf).min(axis=0, initial=np.inf), np.nan),
        most=np.where(some, np.where(finite, values, -np.inf).max(axis=0, initial=-np.inf), np.nan),
        offsets=np.searchsorted(keys >> 16, np.arange(width + 1)).astype(np.int64),
        buckets=((keys & 0xFFFF) - (1 << 15)).astype(np.int16),
        counts=counts.astype(np.int64),
    )


def added(parts: Sequence[FeatureStatistics]) -> FeatureStatistics:
    """Statistics of the rows of all parts together.

    Source for mean and squares: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm" (1979).

    Raises
    ------
    ParameterError
        If there are none, or they are of different numbers of features.
    """
    widths = {len(part.mean) for part in parts}
    if len(widths) != 1:
        raise ParameterError(f"statistics of {sorted(widths)} features cannot be added", remedy="Add those of one view")
    values = np.stack([part.values for part in parts]).astype(np.float64)
    means = np.stack([np.where(part.values > 0, part.mean, 0.0) for part in parts])
    total = values.sum(axis=0)
    weight = np.divide(values, total, out=np.zeros_like(values), where=total > 0)
    # Around the first part's mean, as the values themselves are summed around one of them.
    mean = means[0] + (weight * (means - means[0])).sum(axis=0)
    squares = sum((part.squares for part in parts), np.zeros(len(mean))) + (values * (means - mean) ** 2).sum(axis=0)
    some = total > 0
    width = len(mean)
    feature = np.concatenate([np.repeat(np.arange(width), np.diff(part.offsets)) for part in parts])
    keys = (feature.astype(np.int64) << 16) + np.concatenate([p.buckets for p in parts]).astype(np.int64) + (1 << 15)
    union, inverse = np.unique(keys, return_inverse=True)
    counts = np.zeros(len(union), dtype=np.int64)
    np.add.at(counts, inverse, np.concatenate([part.counts for part in parts]))
    return FeatureStatistics(
        rows=sum(part.rows for part in parts),
        nulls=np.sum([part.nulls for part in parts], axis=0),
        nans=np.sum([part.nans for part in parts], axis=0),
        infinite=np.sum([part.infinite for part in parts], axis=0),
        mean=np.where(some, mean, np.nan),
        squares=squares,
        least=np.fmin.reduce([part.least for part in parts]),
        most=np.fmax.reduce([part.most for part in parts]),
        offsets=np.searchsorted(union >> 16, np.arange(width + 1)).astype(np.int64),
        buckets=((union & 0xFFFF) - (1 << 15)).astype(np.int16),
        counts=counts,
    )


def encode(statistics: FeatureStatistics) -> bytes:
    """As bytes: a header, then little-endian arrays in the order of the class's attributes."""
    one = statistics
    narrow = (one.nulls, one.nans, one.infinite, one.offsets)
    return b"".join(
        [
            _HEADER.pack(_MAGIC, len(one.mean), one.rows),
            *(array.astype("<i4").tobytes() for array in narrow),
            *(array.astype("<f8").tobytes() for array in (one.mean, one.squares, one.least, one.most)),
            one.buckets.astype("<i2").tobytes(),
            one.counts.astype("<i4").tobytes(),
        ]
    )


def decode(data: bytes, width: int) -> FeatureStatistics:
    """The statistics that :func:`encode` wrote.

    Raises
    ------
    IntegrityError
        If they are damaged, or of another number of features.
    """
    if len(data) < _HEADER.size:
        raise IntegrityError(f"statistics of {len(data)} bytes are cut off")
    magic, found, rows = _HEADER.unpack_from(data)
    if magic != _MAGIC or found != width:
        raise IntegrityError(f"statistics of {found} features cannot be those of {width}")
    place = _HEADER.size
    read: list[NDArray[np.generic]] = []
    sizes: list[tuple[str, int]] = [("<i4", width)] * 3 + [("<i4", width + 1)] + [("<f8", width)] * 4
    try:
        for kind, count in sizes:
            read.append(np.frombuffer(data, kind, count, place))
            place += read[-1].nbytes
        cells = int(np.asarray(read[3])[-1])
        buckets = np.frombuffer(data, "<i2", cells, place)
        counts = np.frombuffer(data, "<i4", cells, place + buckets.nbytes)
    except ValueError:
        raise IntegrityError(f"statistics of {len(data)} bytes are cut off") from None
    if place + buckets.nbytes + counts.nbytes != len(data):
        raise IntegrityError(f"statistics have {len(data)} bytes, more than belong to them")
    whole = [array.astype(np.int64) for array in read[:4]]
    real = [array.astype(np.float64) for array in read[4:]]
    return FeatureStatistics(
        rows, whole[0], whole[1], whole[2], real[0], real[1], real[2], real[3],
        whole[3], buckets.astype(np.int16), counts.astype(np.int64),
    )  # fmt: skip
