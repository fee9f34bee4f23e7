"""What can be computed across listings, and how it is written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tapeline.core.errors import ParameterError, UnknownNameError
from tapeline.kernels import cross_section as kernel

Kind = Literal[
    "rank", "percent_rank", "z_score", "mean", "count", "breadth", "net_breadth", "beta", "correlation"
]  # fmt: skip
Reference = Literal["universe", "group", "index"]

KINDS: dict[Kind, int] = {
    "rank": kernel.RANK,
    "percent_rank": kernel.PERCENT_RANK,
    "z_score": kernel.Z_SCORE,
    "mean": kernel.MEAN,
    "count": kernel.COUNT,
    "breadth": kernel.BREADTH,
    "net_breadth": kernel.NET_BREADTH,
    "beta": kernel.BETA,
    "correlation": kernel.CORRELATION,
}
REFERENCES: dict[Reference, int] = {"universe": kernel.UNIVERSE, "group": kernel.GROUP, "index": kernel.INDEX}
WINDOWED: tuple[Kind, ...] = ("beta", "correlation")
WITH_THRESHOLD: tuple[Kind, ...] = ("breadth", "net_breadth")
WINDOW_MAX = 10_000
_HOW = "Write it like rank, z_score:group, breadth:universe:0.0, beta:60:index or correlation:60:group"


@dataclass(frozen=True)
class CrossFeature:
    """One feature across listings.

    Attributes
    ----------
    kind
        ``rank``: from 1 for the smallest, equal values sharing the mean of their ranks; ``percent_rank``: that over the
        number of values (pandas ``rank(pct=True)``); ``z_score``: deviation from the mean in sample standard deviations,
        NaN where there are fewer than two values or all are equal; ``mean``: the equally weighted mean, ``count``: how
        many took part; ``breadth``: the share of values above the threshold; ``net_breadth``: that less the share below
        it (of returns and 0: advances minus declines over issues); ``beta``, ``correlation``: least-squares slope on, and
        Pearson's correlation with, the reference over the last `window` moments at which both have a value; NaN before,
        and where the reference (of a correlation, either) was constant.
    reference
        ``universe``: all listings that have a value; ``group``: those of the row's own group; ``index``: a series that is
        given with the moments, for beta and correlation only. The mean of universe or group includes the row itself.
    window
        Moments, 2 to 10,000; of beta and correlation only.
    threshold
        Of the breadths only.

    Raises
    ------
    ParameterError
        If parts do not go together or are out of range.
    """

    kind: Kind
    reference: Reference = "universe"
    window: int = 0
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UnknownNameError("cross-section feature", self.kind, KINDS)
        if self.reference not in REFERENCES:
            raise UnknownNameError("reference", self.reference, REFERENCES, where=self.kind)
        if self.kind in WINDOWED:
            if not isinstance(self.window, int) or not 2 <= self.window <= WINDOW_MAX:
                raise ParameterError(
                    f"{self.kind} has window {self.window!r}", remedy=f"Give a whole number from 2 to {WINDOW_MAX}"
                )
        elif self.window:
            raise ParameterError(f"{self.kind} has no window", remedy=_HOW)
        elif self.reference == "index":
            raise ParameterError(f"{self.kind} is taken over the universe or a group, not an index", remedy=_HOW)
        if not math.isfinite(self.threshold) or (self.threshold and self.kind not in WITH_THRESHOLD):
            raise ParameterError(f"{self.kind} cannot have the threshold {self.threshold}", remedy=_HOW)

    @classmethod
    def parse(cls, text: str) -> CrossFeature:
        """Read ``rank``, ``z_score:group``, ``breadth:universe:0.02``, ``beta:60``, ``correlation:60:index``.

        Raises
        ------
        UnknownNameError
            If the kind or the reference does not exist; the message names the nearest.
        ParameterError
            If it is malformed.
        """
        kind, *rest = text.split(":")
        kinds, references = {name: name for name in KINDS}, {name: name for name in REFERENCES}
        if kind not in kinds:
            raise UnknownNameError("cross-section feature", kind, KINDS)
        window, threshold = 0, 0.0
        try:
            if kind in WINDOWED:
                window = int(rest.pop(0))
            if kind in WITH_THRESHOLD and len(rest) == 2:
                threshold = float(rest.pop())
        except (IndexError, ValueError):
            raise ParameterError(f"{text!r} is not a cross-section feature", remedy=_HOW) from None
        if len(rest) > 1:
            raise ParameterError(f"{text!r} is not a cross-section feature", remedy=_HOW)
        reference = rest[0] if rest else "universe"
        if reference not in references:
            raise UnknownNameError("reference", reference, REFERENCES, where=text)
        return cls(kinds[kind], references[reference], window, threshold)

    @property
    def column(self) -> str:
        """Name of the output column, such as ``beta_60_index``."""
        threshold = f"_{self.threshold:g}".replace("-", "m").replace(".", "p") if self.threshold else ""
        window = f"_{self.window}" if self.window else ""
        return f"{self.kind}{window}_{self.reference}{threshold}"

    @property
    def warm_up(self) -> int:
        """Moments with a value up to and with the first that gives one."""
        return self.window or 1
