"""A market: how often each of many symbols trades, how that changes over time, and how symbols fall on partitions and workers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from tapeline.streaming.plan import StreamPlan

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Market:
    """Symbols and their shares of all events.

    Attributes
    ----------
    symbols
        How many.
    exponent
        Of Zipf's law: the symbol of rank k has a share proportional to 1 / k**exponent.
    """

    symbols: int = 10_000
    exponent: float = 1.0

    @property
    def shares(self) -> Floats:
        """float64 (symbols,), of the most traded symbol first; they add up to 1."""
        weights = 1.0 / np.arange(1, self.symbols + 1) ** self.exponent
        return weights / weights.sum()

    def partition_of(self, partitions: int) -> Integers:
        """int64 (symbols,), read-only: where the streams put each symbol. Names tell nothing of ranks."""
        return _partition_of(self.symbols, partitions)

    def partition_shares(self, partitions: int) -> Floats:
        """float64 (partitions,): the share of all events that each partition gets."""
        return np.bincount(self.partition_of(partitions), self.shares, partitions)


@cache
def _partition_of(symbols: int, partitions: int) -> Integers:
    plan = StreamPlan("live", "tape", partitions=partitions)
    found = np.array([plan.partition_of(f"SYM{rank:05}") for rank in range(symbols)], dtype=np.int64)
    found.setflags(write=False)
    return found


@dataclass(frozen=True)
class Opening:
    """How the rate of events changes when the market opens.

    Attributes
    ----------
    at_s
        When it opens; before, the rate is the sustained one.
    peak
        The rate right after it, as a multiple of the sustained one.
    half_life_s
        After so long half of what is above the sustained rate is gone.
    """

    at_s: float = 1.0
    peak: float = 3.0
    half_life_s: float = 1.0

    def factor(self, time_s: Floats) -> Floats:
        """The rate at moments, as a multiple of the sustained one."""
        since = np.maximum(time_s - self.at_s, 0.0)
        extra = (self.peak - 1.0) * 0.5 ** (since / self.half_life_s)
        return np.where(time_s >= self.at_s, 1.0 + extra, 1.0)


def distinct_symbols(shares: Floats, events: Floats) -> Floats:
    """How many different symbols so many events are of, on average.

    Parameters
    ----------
    shares
        float64 (S,): of the symbols among which they fall, in any scale.
    events
        float64 (N,): numbers of events.
    """
    total = shares.sum()
    if not total:
        return np.zeros(len(events))
    kept = np.log1p(-np.minimum(shares / total, 1.0 - 1e-12))
    return np.array([-np.expm1(count * kept).sum() for count in events.tolist()])


def blocks_of(
    rate: float, shares: Floats, linger_s: float, duration_s: float, rng: np.random.Generator, opening: Opening | None
) -> tuple[Floats, Integers, Integers]:
    """Blocks that producers send: one a partition each time it lingers, of the events that came meanwhile.

    Parameters
    ----------
    rate
        Events a second, all together.
    shares
        float64 (P,): of each partition.
    linger_s
        How long a producer collects events of a partition; each partition has a phase of its own.
    duration_s
        For how long.
    rng
        Where chance comes from.
    opening
        None: the rate stays.

    Returns
    -------
    tuple
        Of each block, in order of time: when it is sent (s), its partition, and how many events it has. Empty ones are
        left out.
    """
    ticks = int(duration_s / linger_s)
    sent = (np.arange(ticks)[None, :] + rng.random((len(shares), 1))) * linger_s
    factor = opening.factor(sent) if opening else np.ones_like(sent)
    events = rng.poisson(rate * linger_s * shares[:, None] * factor)
    partition, _ = np.nonzero(events)
    times, counts = sent[events > 0], events[events > 0]
    order = np.argsort(times, kind="stable")
    return times[order], partition[order].astype(np.int64), counts[order].astype(np.int64)
