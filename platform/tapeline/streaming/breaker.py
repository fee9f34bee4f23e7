"""A circuit breaker: asks a dependency that fails no further for a while, then tries it once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from tapeline.core.errors import UnavailableError

T = TypeVar("T")


class Circuit(Enum):
    """Where a breaker stands."""

    closed = "closed"
    open = "open"
    half_open = "half-open"


@dataclass
class Breaker:
    """Guards calls to one dependency. Not for several threads at once.

    Attributes
    ----------
    name
        The dependency, for messages.
    failures_max
        Failures in a row that open the circuit.
    rest_s, rest_max_s
        How long it stays open, at first and at most; it doubles with each trial that fails.
    monotonic
        The clock, in seconds.
    opened
        How often it has opened.
    """

    name: str
    failures_max: int = 3
    rest_s: float = 0.1
    rest_max_s: float = 5.0
    monotonic: Callable[[], float] = time.monotonic
    opened: int = 0
    _failures: int = 0
    _rest_s: float = field(default=0.0)
    _until_s: float = field(default=0.0)

    @property
    def state(self) -> Circuit:
        """Closed: calls go through. Open: none does. Half-open: the next one is a trial."""
        if self._failures < self.failures_max:
            return Circuit.closed
        return Circuit.open if self.monotonic() < self._until_s else Circuit.half_open

    @property
    def remaining_s(self) -> float:
        """How long it will still be open."""
        return max(0.0, self._until_s - self.monotonic()) if self.state is Circuit.open else 0.0

    def call(self, function: Callable[[], T]) -> T:
        """Call the dependency, unless the circuit is open.

        Raises
        ------
        UnavailableError
            If the circuit is open, or the dependency is away. Other errors pass through: the dependency answered.
        """
        if self.state is Circuit.open:
            raise UnavailableError(
                f"{self.name} failed {self._failures} times in a row and is not asked for {self.remaining_s:.1f} s",
                remedy="Check it with: tapeline status",
            )
        try:
            result = function()
        except UnavailableError:
            self._failed()
            raise
        self._failures, self._rest_s = 0, 0.0
        return result

    def _failed(self) -> None:
        self._failures += 1
        if self._failures >= self.failures_max:
            self._rest_s = min(self.rest_max_s, 2 * self._rest_s) if self._rest_s else self.rest_s
            self._until_s = self.monotonic() + self._rest_s
            self.opened += 1
