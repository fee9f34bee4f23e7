"""The service level of served values: which share may differ through this platform's own fault, and how fast that is used up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tapeline.core.errors import ParameterError
from tapeline.core.timestamps import DAY_US, HOUR_US, MINUTE_US
from tapeline.monitoring.findings import BUDGET, Cause

WINDOWS_US = {"5m": 5 * MINUTE_US, "30m": 30 * MINUTE_US, "1h": HOUR_US, "6h": 6 * HOUR_US, "3d": 3 * DAY_US}
"""Windows of burn rates: pairs of a short and a long one raise alerts (Google, Site Reliability Workbook, chapter 5)."""


@dataclass(frozen=True)
class Objective:
    """Which share of the served values has to be what is stored.

    Parameters
    ----------
    target
        Share, at least 0 and below 1: 0.9999 lets one value of ten thousand differ.

    Raises
    ------
    ParameterError
        If the target is out of range.
    """

    target: float = 0.9999

    def __post_init__(self) -> None:
        if not 0.0 <= self.target < 1.0:
            raise ParameterError(f"an objective of {self.target} is not at least 0 and below 1")

    @property
    def budget(self) -> float:
        """The share of values that may differ."""
        return 1.0 - self.target

    def burn_rate(self, minutes: Mapping[tuple[int, Cause | None], int], window_us: int, end_us: int) -> float:
        """How many times faster than allowed the budget was used up in a window; 0 where nothing was compared.

        Parameters
        ----------
        minutes
            Values by the minute in which they were served (microseconds UTC) and cause; ``None``: all that were compared.
        window_us, end_us
            The window, and its end: up to where answers have been verified. Minutes that begin in it count.
        """
        inside = {key: count for key, count in minutes.items() if end_us - window_us < key[0] <= end_us}
        compared = sum(count for (_, cause), count in inside.items() if cause is None)
        faults = sum(count for (_, cause), count in inside.items() if cause in BUDGET)
        return faults / compared / self.budget if compared else 0.0

    def burn_rates(self, minutes: Mapping[tuple[int, Cause | None], int], end_us: int) -> dict[str, float]:
        """Burn rates by the name of their window."""
        return {name: self.burn_rate(minutes, window_us, end_us) for name, window_us in WINDOWS_US.items()}
