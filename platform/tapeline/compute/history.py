"""One entity's raw rows with all their versions, and how they look at a moment.

Times are int64 microseconds. A *version* is one stored row; a *key* is an (event, sequence) pair, which may have several
versions: the first sighting, corrections, tombstones. A key's *rank* is its place in the order of keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tapeline.features.versions import Flags, Floats, Integers


@dataclass(frozen=True)
class Versions:
    """Stored versions of one entity's rows, in any order.

    Attributes
    ----------
    event_us, sequence
        int64 (N,): the key.
    available_us, created_us
        int64 (N,): which version is the newest one known at a moment.
    live
        bool (N,): False for tombstones, and for trades without a usable price or size.
    values
        float64 (N, C): start (µs), open, high, low, close, volume of a bar; price, size of a trade.
    """

    event_us: Integers
    sequence: Integers
    available_us: Integers
    created_us: Integers
    live: Flags
    values: Floats

    def __len__(self) -> int:
        return len(self.event_us)


def ranks_of(event_us: Integers, sequence: Integers) -> tuple[Integers, Integers, Integers]:
    """Each version's rank among the distinct keys, and the keys' events and sequences in order."""
    order = np.lexsort((sequence, event_us))
    event, number = event_us[order], sequence[order]
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = (event[1:] != event[:-1]) | (number[1:] != number[:-1])
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.cumsum(first) - 1
    return ranks, event[first], number[first]
