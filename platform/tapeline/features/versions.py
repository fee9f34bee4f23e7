"""Stored versions of a fact: which one is known at a moment; and an entity's splits, the facts that features are adjusted for.

Times are int64 microseconds. A *version* is one stored row; a *key* is an (event, sequence) pair, which may have several
versions: the first sighting, corrections, retractions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class SplitVersions:
    """Stored versions of one entity's splits, in any order.

    Attributes
    ----------
    event_us, sequence
        int64 (N,): the key; a split takes effect at its event.
    available_us, created_us
        int64 (N,): which version is the newest one known at a moment.
    deleted
        bool (N,): retractions.
    ratio
        float64 (N,): new shares for one old share.
    """

    event_us: Integers
    sequence: Integers
    available_us: Integers
    created_us: Integers
    deleted: Flags
    ratio: Floats

    @classmethod
    def none(cls) -> SplitVersions:
        """No splits."""
        empty = np.empty(0, dtype=np.int64)
        return cls(empty, empty, empty, empty, np.empty(0, dtype=np.bool_), np.empty(0))

    def __len__(self) -> int:
        return len(self.event_us)

    def known_at(self, moment_us: int) -> tuple[Integers, Floats]:
        """Effective times and ratios, in order of time, of the splits known at a moment."""
        known = np.flatnonzero(self.available_us <= moment_us)
        known = known[newest_of_keys(self.event_us, self.sequence, self.available_us, self.created_us, known)]
        known = known[~self.deleted[known]]
        return self.event_us[known], self.ratio[known]

    def recorded_by(self, moment_us: int) -> SplitVersions:
        """The versions that had been recorded by a moment."""
        kept = self.created_us <= moment_us
        return SplitVersions(
            self.event_us[kept],
            self.sequence[kept],
            self.available_us[kept],
            self.created_us[kept],
            self.deleted[kept],
            self.ratio[kept],
        )


def newest_of_keys(
    event_us: Integers, sequence: Integers, available_us: Integers, created_us: Integers, chosen: Integers
) -> Integers:
    """Places in ``chosen`` of the newest version of each key, in the order of keys.

    Newest is the greatest (available, created), as in the point-in-time rule.
    """
    order = np.lexsort((created_us[chosen], available_us[chosen], sequence[chosen], event_us[chosen]))
    event, number = event_us[chosen[order]], sequence[chosen[order]]
    last = np.ones(len(order), dtype=np.bool_)
    last[:-1] = (event[1:] != event[:-1]) | (number[1:] != number[:-1])
    return order[last]


def split_ratios(previous_event_us: int | None, event_us: Integers, split_us: Integers, ratio: Floats) -> Floats:
    """Ratio of the splits that take effect between each bar and the one before it.

    A split at s belongs to the first bar that ends after s. The first bar of an entity has nothing to be adjusted to and
    gets 1.

    Parameters
    ----------
    previous_event_us
        End of the bar before the first; ``None`` if there is none.
    event_us
        Ends of the bars, in order.
    split_us, ratio
        Splits in order of time.
    """
    ratios = np.ones(len(event_us))
    for at, value in zip(split_us.tolist(), ratio.tolist(), strict=True):
        bar = int(np.searchsorted(event_us, at, side="right"))
        follows = bar > 0 or (previous_event_us is not None and previous_event_us <= at)
        if bar < len(ratios) and follows:
            ratios[bar] *= value
    return ratios
