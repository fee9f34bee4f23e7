"""How long things take, as counts over a fixed scale: cheap to add to, and enough for percentiles and for Prometheus."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PER_DECADE = 10
BOUNDS_S: NDArray[np.float64] = 10.0 ** (np.arange(-6 * PER_DECADE, 3 * PER_DECADE + 1) / PER_DECADE)
"""Upper bounds: from a microsecond to a quarter of an hour."""


class Timing:
    """Durations of many events.

    Attributes
    ----------
    counts
        int64: how many took up to each of :data:`BOUNDS_S`, and more than all of these.
    sum_s
        All durations together, in seconds.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(len(BOUNDS_S) + 1, dtype=np.int64)
        self.sum_s = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        """Count a duration, so many times."""
        self.counts[np.searchsorted(BOUNDS_S, seconds)] += times
        self.sum_s += times * seconds

    def add_all(self, seconds: NDArray[np.float64]) -> None:
        """Count durations, (N,)."""
        self.counts += np.bincount(np.searchsorted(BOUNDS_S, seconds), minlength=len(self.counts))
        self.sum_s += float(seconds.sum())

    def since(self, counts: NDArray[np.int64]) -> Timing:
        """What came after the counts were these."""
        later = Timing()
        later.counts = self.counts - counts
        return later

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.counts.sum())

    def percentile(self, percent: float) -> float:
        """The bound that so many percent stay within, in seconds; NaN without any."""
        total = self.counts.cumsum()
        if total[-1] == 0:
            return float("nan")
        place = int(np.searchsorted(total, percent / 100 * total[-1]))
        return float(BOUNDS_S[min(place, len(BOUNDS_S) - 1)])

    def as_dict(self) -> dict[str, float | None]:
        """The 50th and 99th percentile and the number, as JSON data; none without any."""
        if not self.count:
            return {"p50_s": None, "p99_s": None, "count": 0}
        return {"p50_s": self.percentile(50), "p99_s": self.percentile(99), "count": self.count}
