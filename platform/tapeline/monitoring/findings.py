"""What a comparison of served with stored values finds: causes, single mismatches, and the counts of many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapeline.core.timestamps import MINUTE_US

MISMATCHES_KEPT_MAX = 1_000
_LEAST = -(2**63)


class Cause(StrEnum):
    """Why a served value differs from what is stored now."""

    LATE_ROW = "late row"
    """A row that was not recorded when the value was served, but counts at the request's clock."""
    CORRECTION = "correction"
    """The row that was used has been corrected since."""
    VERSION = "version"
    """The value was computed by another version of the kernels than the view's table holds."""
    ACTION = "corporate action"
    """Live rows were adjusted for other splits or dividends than are recorded: one was not yet published, or only the caller
    knew it."""
    LAG = "lag"
    """The online store was behind: a row that counts at the request's clock was not there yet."""
    AHEAD = "ahead"
    """The online store held values of after the request's clock, and said so; it keeps no older ones."""
    EXPIRED = "expired"
    """The online store let go of a row that has outlived the view's time to live; readers saw nothing of it before that either."""
    UNKNOWN = "unknown"
    """None of these: served and stored numbers differ, and nothing explains it."""


BUDGET = frozenset({Cause.LAG, Cause.VERSION, Cause.UNKNOWN})
"""Causes that use up the error budget: this platform's own faults. The others are the world's: data that comes late or is
corrected, and clocks that replay history."""


@dataclass(frozen=True)
class RowPlace:
    """Which stored row is meant; all times are microseconds UTC, ``None`` where there is no row or nobody said."""

    event_us: int | None = None
    sequence: int | None = None
    available_us: int | None = None
    created_us: int | None = None

    @property
    def order(self) -> tuple[int, int, int]:
        """Its place in the order of the point-in-time rule, created time apart; what is not known is the least."""
        event_us, sequence, available_us = (
            _LEAST if value is None else value for value in (self.event_us, self.sequence, self.available_us)
        )
        return event_us, sequence, available_us


NO_ROW = RowPlace()


@dataclass(frozen=True)
class Mismatch:
    """One feature of one vector that is not what is stored now.

    Attributes
    ----------
    request_id
        Of the answer; ``None`` where the online store itself was compared.
    served_us, request_us
        Wall clock and injected clock of the answer.
    origin
        ``store``, ``live`` or ``none``.
    served, expected
        Both values.
    used
        The row that the value came from, as the server said.
    recorded
        The stored row that explains the cause: the late one, the correction, the one that was not there yet. Of live rows: the
        position of the state that they continued.
    """

    request_id: str | None
    entity: str
    view: str
    version: int
    feature: str
    served_us: int
    request_us: int
    origin: str
    served: float
    expected: float
    cause: Cause
    used: RowPlace = NO_ROW
    recorded: RowPlace = NO_ROW


@dataclass
class ConsistencyReport:
    """What a comparison found.

    Attributes
    ----------
    vectors, values
        Vectors and feature values compared.
    by_origin
        How many values came from the store, from live rows, from nowhere.
    causes
        How many values differ, by cause.
    mismatches
        The first of them, `MISMATCHES_KEPT_MAX` at most.
    by_view
        How many values were compared (cause ``None``), and how many of them differ, by view and cause.
    by_minute
        The same by the minute of the wall clock at which they were served, microseconds UTC.
    """

    vectors: int = 0
    values: int = 0
    by_origin: Counter[str] = field(default_factory=Counter)
    causes: Counter[Cause] = field(default_factory=Counter)
    mismatches: list[Mismatch] = field(default_factory=list)
    by_view: Counter[tuple[str, Cause | None]] = field(default_factory=Counter)
    by_minute: Counter[tuple[int, Cause | None]] = field(default_factory=Counter)

    def compared(self, view: str, served_us: NDArray[np.int64], features: int) -> None:
        """Count vectors that were compared.

        Parameters
        ----------
        view
            Such as ``daily@2``.
        served_us
            int64 (vectors,): when each was served.
        features
            Values of each.
        """
        self.values += len(served_us) * features
        self.by_view[view, None] += len(served_us) * features
        minutes, counts = np.unique(served_us - served_us % MINUTE_US, return_counts=True)
        for minute, count in zip(minutes.tolist(), counts.tolist(), strict=True):
            self.by_minute[minute, None] += count * features

    def differs(self, found: Mismatch) -> None:
        """Count a value that differs."""
        self.causes[found.cause] += 1
        self.by_view[f"{found.view}@{found.version}", found.cause] += 1
        self.by_minute[found.served_us - found.served_us % MINUTE_US, found.cause] += 1
        if len(self.mismatches) < MISMATCHES_KEPT_MAX:
            self.mismatches.append(found)

    @property
    def mismatch_count(self) -> int:
        """Values that differ, whatever the cause."""
        return sum(self.causes.values())

    @property
    def unexplained(self) -> int:
        """Values that differ without an explanation."""
        return self.causes[Cause.UNKNOWN]

    def summary(self) -> dict[str, Any]:
        """The report as JSON data, the mismatches themselves apart."""
        return {
            "vectors": self.vectors,
            "values": self.values,
            "from": dict(sorted(self.by_origin.items())),
            "mismatches": self.mismatch_count,
            "unexplained": self.unexplained,
            "causes": {cause.value: count for cause, count in sorted(self.causes.items()) if count},
        }


def by_vector(mismatches: Sequence[Mismatch]) -> list[tuple[Mismatch, int]]:
    """The first difference of each vector, view and cause, in their order, and how many there are."""
    counts: Counter[tuple[object, ...]] = Counter()
    first: dict[tuple[object, ...], Mismatch] = {}
    for each in mismatches:
        of = (each.request_id, each.entity, each.served_us, each.view, each.version, each.cause)
        first.setdefault(of, each)
        counts[of] += 1
    return [(each, counts[of]) for of, each in first.items()]


def equal(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where two arrays of one shape are the same bit for bit, one NaN being like another."""
    return np.asarray((a.view(np.int64) == b.view(np.int64)) | (np.isnan(a) & np.isnan(b)), dtype=np.bool_)
