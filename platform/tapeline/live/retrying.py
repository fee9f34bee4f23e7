"""Pauses between tries: they double, and half of each is random, so that many clients do not come back at once."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass
class Backoff:
    """Pauses of one thing that is tried.

    Attributes
    ----------
    first_s, max_s
        The first pause and the longest.
    random
        Where chance comes from.
    """

    first_s: float
    max_s: float
    random: Random
    _tries: int = 0

    def next_s(self) -> float:
        """How long to wait before the next try."""
        pause_s = min(self.max_s, self.first_s * 2.0 ** min(self._tries, 32))
        self._tries += 1
        return pause_s / 2 + self.random.uniform(0, pause_s / 2)

    def reset(self) -> None:
        """It worked."""
        self._tries = 0
