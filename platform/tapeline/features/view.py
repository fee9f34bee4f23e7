"""Feature view specifications: what a view is made of, without computing anything.

A specification is data: it can be written to JSON and read back, so that a model bundle carries the views it was trained
on. This module imports neither a database driver nor a frame library; the inference server reads it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from tapeline.core.errors import ParameterError
from tapeline.features.lineage import lineage_hash
from tapeline.features.request import FeatureRequest
from tapeline.features.timeframes import TimeFrame

if TYPE_CHECKING:
    from tapeline.features.plan import FeaturePlan

_NAME = re.compile(r"^[a-z][a-z0-9_]{0,47}$")
_COLUMN_LENGTH_MAX = 63

RawKind: TypeAlias = Literal["bars", "trades"]
"""The table of the schema ``tapeline`` that raw rows are in."""


@dataclass(frozen=True)
class SessionBars:
    """Bars that the source delivers, one per session, stored in ``tapeline.bars``.

    Attributes
    ----------
    source
        Name of the source in ``tapeline.sources``.
    calendar
        Exchange calendar whose sessions the bars cover, such as ``XNYS``.
    """

    source: str
    calendar: str
    raw: ClassVar[RawKind] = "bars"


@dataclass(frozen=True)
class TradeBars:
    """Bars built from the source's trades in ``tapeline.trades``.

    A bar covers ``[start, end)`` with both ends at multiples of the width since the epoch; an interval without a trade
    makes no bar.

    Attributes
    ----------
    source, calendar
        As for :class:`SessionBars`; the calendar says where sessions begin.
    width_us
        Width of a bar in microseconds.
    """

    source: str
    calendar: str
    width_us: int
    raw: ClassVar[RawKind] = "trades"

    def __post_init__(self) -> None:
        if self.width_us <= 0:
            raise ParameterError(f"width_us is {self.width_us}", remedy="Give the width of a bar")


@dataclass(frozen=True)
class TradedBars:
    """Bars built from the source's trades, each closed by the trade that brings what was traded to a threshold.

    The rule in full stands in :mod:`tapeline.kernels.bars_traded`. A bar's time is that of its closing trade, and its
    sequence that trade's. A late or corrected trade moves every bar after it.

    Attributes
    ----------
    source, calendar
        As for :class:`SessionBars`; the calendar says where sessions begin.
    measure
        What is summed: ``tick`` (trades), ``volume`` (shares) or ``dollar`` (price × size).
    threshold
        The sum with which a bar ends, positive.
    """

    source: str
    calendar: str
    measure: Literal["tick", "volume", "dollar"]
    threshold: float
    raw: ClassVar[RawKind] = "trades"

    def __post_init__(self) -> None:
        if self.measure not in {"tick", "volume", "dollar"} or not 0.0 < self.threshold < math.inf:
            raise ParameterError(
                f"{self.measure!r} bars of {self.threshold} cannot be made",
                remedy="Give tick, volume or dollar, and a positive threshold",
            )


@dataclass(frozen=True)
class Trades:
    """The source's trades themselves: a row for each, with its price, size and time, and NaN for quotes and sides.

    Attributes
    ----------
    source, calendar
        As for :class:`SessionBars`.
    """

    source: str
    calendar: str
    raw: ClassVar[RawKind] = "trades"


@dataclass(frozen=True)
class LongerBars:
    """Bars of a time frame, made from the source's shorter bars in ``tapeline.bars``: hours from minutes, weeks from days.

    A shorter bar belongs to the longer one in which it ends. A bar is finished by the row that ends where it ends; where
    that is missing, it is over when the source's lag has passed since its end. Frames that follow sessions leave out rows
    between sessions. Prices before a split inside a bar are put on the basis after it.

    Attributes
    ----------
    source, calendar
        As for :class:`SessionBars`.
    frame
        The time frame, such as ``5m``, ``1h/session``, ``session`` or ``week``; see
        :class:`tapeline.features.timeframes.TimeFrame`.
    """

    source: str
    calendar: str
    frame: TimeFrame
    raw: ClassVar[RawKind] = "bars"

    def __post_init__(self) -> None:
        if self.frame.partial:
            raise ParameterError(
                f"a view's rows cannot be {self.frame.text}", remedy="Ask for partial frames in its features"
            )


Rows: TypeAlias = SessionBars | TradeBars | TradedBars | Trades | LongerBars

_KINDS: dict[str, type[Rows]] = {
    "session_bars": SessionBars,
    "trade_bars": TradeBars,
    "traded_bars": TradedBars,
    "trades": Trades,
    "longer_bars": LongerBars,
}


@dataclass(frozen=True)
class FeatureViewSpec:
    """A named, versioned set of features over one kind of rows of one source.

    Attributes
    ----------
    name
        Lower-case letters, digits and underscores, at most 48.
    version
        From 1. Values of another lineage hash need another version.
    rows
        The rows that the features are computed over, one entity (symbol) at a time.
    features
        What to compute, in the order of the output columns.
    ttl_us
        How long after its event a value may still be used, in microseconds; 0 for ever.
    description
        One sentence for people.
    dividends
        Whether prices are adjusted for cash dividends as well as for splits, as known at the time and forward only:
        features then see C/(C − D) more of a price after a dividend D from the close C. Part of the lineage.

    Raises
    ------
    ParameterError
        If the name or a number is out of range, no feature is asked for, two make the same column, or a column's name is
        longer than PostgreSQL's 63 characters.
    """

    name: str
    version: int
    rows: Rows
    features: tuple[FeatureRequest, ...]
    ttl_us: int
    description: str = ""
    dividends: bool = False

    def __post_init__(self) -> None:
        where = f"feature view {self.name!r}"
        if not _NAME.match(self.name):
            raise ParameterError(
                f"{self.name!r} is not a view name", remedy="Use a lower-case letter, then letters, digits, underscores"
            )
        if self.version < 1:
            raise ParameterError(f"version is {self.version}", where=where, remedy="Versions start at 1")
        if self.ttl_us < 0:
            raise ParameterError(f"ttl_us is {self.ttl_us}", where=where, remedy="Give 0 for no limit, or more")
        if not self.features:
            raise ParameterError("no feature is asked for", where=where, remedy="Name at least one")
        longest = max(self.columns, key=len)
        if len(longest) > _COLUMN_LENGTH_MAX:
            raise ParameterError(
                f"column {longest!r} has {len(longest)} characters, more than {_COLUMN_LENGTH_MAX}",
                where=where,
                remedy="Give the feature shorter parameters, or a custom feature a shorter name",
            )
        doubled = sorted({column for column in self.columns if self.columns.count(column) > 1})
        if doubled:
            raise ParameterError(f"column {doubled[0]!r} is made twice", where=where, remedy="Ask for it once")

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the output columns, in order."""
        return tuple(column for feature in self.features for column in feature.columns)

    @cached_property
    def plan(self) -> FeaturePlan:
        """The compiled plan that computes all columns."""
        from tapeline.features.plan import FeaturePlan  # importing numba takes longer than reading a specification

        return FeaturePlan.of(
            self.features, moments=isinstance(self.rows, TradedBars | Trades), dividends=self.dividends
        )

    @property
    def table(self) -> str:
        """Name of the table that holds the values, in the schema ``features``."""
        return f"{self.name}__v{self.version}"

    @cached_property
    def lineage_hash(self) -> str:
        """Hexadecimal SHA-256 of everything a value depends on."""
        return lineage_hash(self.definition(), self.plan.hash)

    def definition(self) -> dict[str, Any]:
        """The specification as JSON data; :meth:`from_definition` reads it back."""
        kind = next(name for name, made in _KINDS.items() if isinstance(self.rows, made))
        rows: dict[str, Any] = {"kind": kind, **vars(self.rows)}
        if isinstance(self.rows, LongerBars):
            rows["frame"] = self.rows.frame.text
        adjustment = {"dividends": True} if self.dividends else {}
        return {
            "name": self.name,
            "version": self.version,
            "rows": rows,
            "features": [feature.definition() for feature in self.features],
            "ttl_us": self.ttl_us,
            "description": self.description,
            **adjustment,
        }

    @classmethod
    def from_definition(cls, definition: Mapping[str, Any]) -> FeatureViewSpec:
        """The specification that :meth:`definition` wrote.

        Raises
        ------
        ParameterError
            If a part is missing or malformed.
        """
        try:
            built = _rows_of(definition["rows"])
            return cls(
                name=definition["name"],
                version=int(definition["version"]),
                rows=built,
                features=tuple(FeatureRequest.from_definition(feature) for feature in definition["features"]),
                ttl_us=int(definition["ttl_us"]),
                description=definition.get("description", ""),
                dividends=bool(definition.get("dividends", False)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ParameterError(
                f"a feature view definition is malformed: {type(error).__name__}: {error}",
                remedy="Write it with FeatureViewSpec.definition()",
            ) from None


def _rows_of(definition: Mapping[str, Any]) -> Rows:
    """Rows of a definition; raises KeyError, TypeError or ValueError if it is malformed."""
    source, calendar = definition["source"], definition["calendar"]
    match definition["kind"]:
        case "session_bars":
            return SessionBars(source, calendar)
        case "trade_bars":
            return TradeBars(source, calendar, int(definition["width_us"]))
        case "traded_bars":
            return TradedBars(source, calendar, definition["measure"], float(definition["threshold"]))
        case "trades":
            return Trades(source, calendar)
        case "longer_bars":
            return LongerBars(source, calendar, TimeFrame.parse(definition["frame"]))
        case kind:
            raise ParameterError(f"rows of kind {kind!r} are unknown", where="feature view definition")
