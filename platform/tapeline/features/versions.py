"""Stored versions of a fact: which one is known at a moment; and an entity's splits and dividends, which features are
adjusted for.

Times are int64 microseconds. A *version* is one stored row; a *key* is an (event, sequence) pair, which may have several
versions: the first sighting, corrections, retractions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import InvalidDataError
from tapeline.core.timestamps import format_us

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Actions:
    """Splits and cash dividends, in order of time; at one time, splits first.

    Attributes
    ----------
    event_us
        int64 (A,): when each takes effect.
    ratio
        float64 (A,): new shares for one old share; 1 for a dividend.
    dividend
        float64 (A,): cash for each share on the basis after it; 0 for a split.
    """

    event_us: Integers
    ratio: Floats
    dividend: Floats

    @classmethod
    def none(cls) -> Actions:
        """No actions."""
        return cls(np.empty(0, dtype=np.int64), np.empty(0), np.empty(0))

    @classmethod
    def of(cls, splits: Sequence[tuple[int, float]], dividends: Sequence[tuple[int, float]]) -> Actions:
        """Actions from effective times and ratios of splits, and effective times and amounts of dividends, in any order."""
        rows = [(at, False, ratio, 0.0) for at, ratio in splits] + [(at, True, 1.0, cash) for at, cash in dividends]
        rows.sort(key=lambda row: row[:2])
        return cls(
            np.array([row[0] for row in rows], dtype=np.int64),
            np.array([row[2] for row in rows], dtype=np.float64),
            np.array([row[3] for row in rows], dtype=np.float64),
        )

    def __len__(self) -> int:
        return len(self.event_us)

    def chosen(self, which: Flags) -> Actions:
        """Some of them."""
        return Actions(self.event_us[which], self.ratio[which], self.dividend[which])

    @property
    def splits_only(self) -> Actions:
        """Without the dividends."""
        return self.chosen(self.dividend == 0.0) if self.dividend.any() else self

    @property
    def splits(self) -> tuple[tuple[int, float], ...]:
        """Effective times and ratios of the splits."""
        which = self.dividend == 0.0
        return tuple(zip(self.event_us[which].tolist(), self.ratio[which].tolist(), strict=True))

    @property
    def dividends(self) -> tuple[tuple[int, float], ...]:
        """Effective times and amounts of the dividends."""
        which = self.dividend != 0.0
        return tuple(zip(self.event_us[which].tolist(), self.dividend[which].tolist(), strict=True))


@dataclass(frozen=True)
class ActionVersions:
    """Stored versions of one entity's splits and dividends, in any order.

    Attributes
    ----------
    event_us, sequence
        int64 (N,): the key; an action takes effect at its event. ``sequence`` tells apart those of one time, and is even
        for splits, odd for dividends.
    available_us, created_us
        int64 (N,): which version is the newest one known at a moment.
    deleted
        bool (N,): retractions.
    ratio, dividend
        float64 (N,): as of :class:`Actions`.
    """

    event_us: Integers
    sequence: Integers
    available_us: Integers
    created_us: Integers
    deleted: Flags
    ratio: Floats
    dividend: Floats

    def __len__(self) -> int:
        return len(self.event_us)

    def known_at(self, moment_us: int) -> Actions:
        """The actions known at a moment."""
        known = np.flatnonzero(self.available_us <= moment_us)
        known = known[newest_of_keys(self.event_us, self.sequence, self.available_us, self.created_us, known)]
        known = known[~self.deleted[known]]
        known = known[np.lexsort((self.sequence[known], self.sequence[known] % 2, self.event_us[known]))]
        return Actions(self.event_us[known], self.ratio[known], self.dividend[known])

    def recorded_by(self, moment_us: int) -> ActionVersions:
        """The versions that had been recorded by a moment."""
        kept = self.created_us <= moment_us
        return ActionVersions(
            self.event_us[kept],
            self.sequence[kept],
            self.available_us[kept],
            self.created_us[kept],
            self.deleted[kept],
            self.ratio[kept],
            self.dividend[kept],
        )


@contextmanager
def naming(entity: str) -> Iterator[None]:
    """Say of an action that cannot be whose it is.

    Raises
    ------
    InvalidDataError
        What the block raises, with the entity.
    """
    try:
        yield
    except InvalidDataError as error:
        raise InvalidDataError(error.what, where=f"{entity}, {error.where}", remedy=error.remedy) from None


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


def close_before(close: float, end_us: float, actions: Actions, number: int) -> float:
    """A close on the basis on which an action takes effect.

    Parameters
    ----------
    close, end_us
        The close, and the end of its bar.
    actions
        In order of time.
    number
        Place of the action among them; those from the bar's end up to it count.
    """
    for i in range(number):
        if end_us <= actions.event_us[i]:
            close = close / float(actions.ratio[i]) - float(actions.dividend[i])
    return close


CORRECT_IT = "Correct or retract it with: tapeline ingest actions"
"""What to do about a dividend that cannot be."""
LAST_CLOSE_SIZE = 2
"""Slots of what dividends of stored bars need to know of the bars before: the last close (0: none), its bar's end."""


def dividend_ratios(
    previous_event_us: int | None, last: Floats, event_us: Integers, close: Floats, actions: Actions
) -> tuple[Floats, Floats]:
    """C/(C − D) of the dividends that take effect between each stored bar and the one before it.

    C is the last possible close before, on the basis of the splits since. A dividend belongs to its bar as a split does.

    Parameters
    ----------
    previous_event_us
        End of the bar before the first; ``None`` if there is none.
    last
        float64 (LAST_CLOSE_SIZE,) of the bars before.
    event_us, close
        Ends and closes of the bars, in order.
    actions
        What is known.

    Returns
    -------
    tuple
        The ratios, 1 without a dividend, and ``last`` after the bars.

    Raises
    ------
    InvalidDataError
        If a dividend is not below the close before it.
    """
    usable = np.flatnonzero((close > 0.0) & (close < np.inf))
    ends = np.concatenate(([last[1]], event_us[usable].astype(np.float64)))
    closes = np.concatenate(([last[0]], close[usable]))
    ratios = np.ones(len(event_us))
    for number in np.flatnonzero(actions.dividend > 0.0).tolist():
        at, dividend = int(actions.event_us[number]), float(actions.dividend[number])
        bar = int(np.searchsorted(event_us, at, side="right"))
        before = int(np.searchsorted(usable, bar, side="left"))  # place of the last close before that bar, in closes
        follows = bar > 0 or (previous_event_us is not None and previous_event_us <= at)
        if bar == len(ratios) or not follows or closes[before] == 0.0:
            continue
        price = close_before(float(closes[before]), float(ends[before]), actions, number)
        if not dividend < price:
            raise InvalidDataError(
                f"a dividend of {dividend} is not below the close {price} before it",
                where=f"effective at {format_us(at)}",
                remedy=CORRECT_IT,
            )
        ratios[bar] *= price / (price - dividend)
    return ratios, np.array([closes[-1], ends[-1]])
