"""Which trades came, by the venue's numbers: what is missing, what comes twice, what comes late."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

OPEN_GAPS_MAX = 1_000
"""Gaps of one symbol that are open at once; the oldest is given up beyond it."""
RESTART_US = 1_000_000
"""A number that was had already, of a trade later than the newest by this much, says that the venue counts anew."""


@dataclass
class OpenGap:
    """Numbers that are missing.

    Attributes
    ----------
    first, last
        The gap as it was found.
    since_us, until_us
        Times of the trades around it.
    left
        Intervals of it that are still missing, in order.
    tries
        How often history was asked without an answer that helped.
    """

    first: int
    last: int
    since_us: int
    until_us: int
    left: list[tuple[int, int]] = field(default_factory=list)
    tries: int = 0

    def __post_init__(self) -> None:
        self.left = self.left or [(self.first, self.last)]

    @property
    def missing(self) -> int:
        """How many numbers are missing."""
        return sum(last - first + 1 for first, last in self.left)

    def take(self, number: int) -> bool:
        """Whether the number was missing; it is not any more."""
        for place, (first, last) in enumerate(self.left):
            if first <= number <= last:
                parts = [(first, number - 1), (number + 1, last)]
                self.left[place : place + 1] = [part for part in parts if part[0] <= part[1]]
                return True
        return False


class Seen(Enum):
    """What a trade is."""

    new = "new"
    late = "late"
    """It was missing."""
    known = "known"


@dataclass(frozen=True)
class Observed:
    """What a number says.

    Attributes
    ----------
    seen
        Of the trade.
    found
        The gap that it shows.
    touched
        The gap that it belongs to.
    given_up
        A gap that there is no room for any more.
    restarted
        Whether the venue counts anew.
    """

    seen: Seen
    found: OpenGap | None = None
    touched: OpenGap | None = None
    given_up: OpenGap | None = None
    restarted: bool = False


class TradeIds:
    """Numbers of one symbol.

    Parameters
    ----------
    dense
        Whether each number follows the one before directly; if not, only repetitions are noticed.
    last
        The last number that was had in earlier runs; none: begin with the first that comes.

    Attributes
    ----------
    gaps
        What is missing.
    """

    def __init__(self, *, dense: bool = True, last: int | None = None) -> None:
        self.dense = dense
        self.last = last
        self.event_us = 0
        self.gaps: list[OpenGap] = []

    def observe(self, number: int, event_us: int) -> Observed:
        """Take a trade's number in."""
        if self.last is not None and number <= self.last:
            for gap in self.gaps:
                if gap.first <= number <= gap.last and gap.take(number):
                    return Observed(Seen.late, touched=gap)
            if self.event_us == 0 or event_us <= self.event_us + RESTART_US:
                return Observed(Seen.known)
            self.last, self.event_us = number, event_us
            return Observed(Seen.new, restarted=True)
        found = self._missing_before(number, event_us)
        self.last = number
        self.event_us = max(self.event_us, event_us)
        return Observed(Seen.new, found=found, given_up=self._too_many())

    def told(self, number: int, receive_us: int) -> Observed:
        """The venue says which number was its last."""
        if self.last is None or number <= self.last:
            return Observed(Seen.known)
        found = self._missing_before(number + 1, receive_us)
        self.last = number
        return Observed(Seen.known, found=found, given_up=self._too_many())

    def close(self, gap: OpenGap) -> None:
        """Forget a gap."""
        self.gaps.remove(gap)

    def _missing_before(self, number: int, event_us: int) -> OpenGap | None:
        if not self.dense or self.last is None or number == self.last + 1:
            return None
        gap = OpenGap(self.last + 1, number - 1, self.event_us, event_us)
        self.gaps.append(gap)
        return gap

    def _too_many(self) -> OpenGap | None:
        return self.gaps.pop(0) if len(self.gaps) > OPEN_GAPS_MAX else None
