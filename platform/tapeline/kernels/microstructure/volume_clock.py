"""Buckets of equal volume, classified in bulk."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tapeline.kernels.primitive import primitive

State = NDArray[np.float64]

_HEADER = 6  # whether any trade, close of the last bucket, filled, buckets, next place of the ring, spare


@primitive(outputs=3, slots=lambda _bucket, n: _HEADER + n, delay=lambda _bucket, n: n - 1)
def classified_buckets(
    state: State, at: int, price: float, size: float, bucket: float, n: int
) -> tuple[float, float, float]:
    """VPIN, and volumes bought and sold of the newest bucket, in a row that completes one; else NaN.

    A trade that overfills a bucket is split; it may fill many. A bucket's change is from the close of the one before, the
    first bucket's from the first trade. Volume is bought in the share Φ(change / σ), a half where σ, the standard
    deviation of the last n changes, is 0. Slots: see _HEADER, then the last n changes.
    """
    if price != price or size != size:
        return math.nan, math.nan, math.nan
    if state[at] == 0.0:
        state[at], state[at + 1] = 1.0, price
    filled = state[at + 2] + size
    if filled < bucket:
        state[at + 2] = filled
        return math.nan, math.nan, math.nan
    complete = math.floor(filled / bucket)
    state[at + 2] = max(0.0, filled - complete * bucket)
    place = int(state[at + 4])
    change = price - state[at + 1]
    for _ in range(int(min(complete, n + 1.0))):  # older ones have left the window already
        state[np.uint64(at + _HEADER + place)] = change
        change = 0.0
        place = place + 1 if place + 1 < n else 0
    state[at + 1] = price
    state[at + 3] += complete
    state[at + 4] = place
    if state[at + 3] < n:
        return math.nan, math.nan, math.nan
    reference = state[np.uint64(at + _HEADER)]
    total = 0.0
    for k in range(n):
        total += state[np.uint64(at + _HEADER + k)] - reference
    mean = total / n
    squares = 0.0
    for k in range(n):
        deviation = (state[np.uint64(at + _HEADER + k)] - reference) - mean
        squares += deviation * deviation
    if squares == 0.0:
        return 0.0, 0.5 * bucket, 0.5 * bucket
    scale = 1.0 / math.sqrt(2.0 * squares / n)
    one_sided = 0.0
    for k in range(n):
        one_sided += abs(math.erf(state[np.uint64(at + _HEADER + k)] * scale))
    newest = place - 1 if place > 0 else n - 1
    tilt = math.erf(state[np.uint64(at + _HEADER + newest)] * scale)
    return one_sided / n, 0.5 * (1.0 + tilt) * bucket, 0.5 * (1.0 - tilt) * bucket
