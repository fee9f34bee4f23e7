"""Feature view specifications: what a view is made of, without computing anything.

A specification is data: it can be written to JSON and read back, so that a model bundle carries the views it was trained
on. This module imports neither a database driver nor a frame library; the inference server reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from tapeline.core.errors import ParameterError
from tapeline.features.lineage import lineage_hash
from tapeline.features.request import FeatureRequest

if TYPE_CHECKING:
    from tapeline.features.plan import FeaturePlan

_NAME = re.compile(r"^[a-z][a-z0-9_]{0,47}$")


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


Rows: TypeAlias = SessionBars | TradeBars


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

    Raises
    ------
    ParameterError
        If the name or a number is out of range, no feature is asked for, or two make the same column.
    """

    name: str
    version: int
    rows: Rows
    features: tuple[FeatureRequest, ...]
    ttl_us: int
    description: str = ""

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
        if isinstance(self.rows, TradeBars) and self.rows.width_us <= 0:
            raise ParameterError(f"width_us is {self.rows.width_us}", where=where, remedy="Give the width of a bar")
        if not self.features:
            raise ParameterError("no feature is asked for", where=where, remedy="Name at least one")
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

        return FeaturePlan.of(self.features)

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
        rows: dict[str, Any] = {
            "kind": "session_bars" if isinstance(self.rows, SessionBars) else "trade_bars",
            "source": self.rows.source,
            "calendar": self.rows.calendar,
        }
        if isinstance(self.rows, TradeBars):
            rows["width_us"] = self.rows.width_us
        return {
            "name": self.name,
            "version": self.version,
            "rows": rows,
            "features": [feature.definition() for feature in self.features],
            "ttl_us": self.ttl_us,
            "description": self.description,
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
            rows = definition["rows"]
            kind = rows["kind"]
            if kind not in {"session_bars", "trade_bars"}:
                raise ParameterError(f"rows of kind {kind!r} are unknown", where="feature view definition")
            built: Rows = (
                SessionBars(source=rows["source"], calendar=rows["calendar"])
                if kind == "session_bars"
                else TradeBars(source=rows["source"], calendar=rows["calendar"], width_us=int(rows["width_us"]))
            )
            return cls(
                name=definition["name"],
                version=int(definition["version"]),
                rows=built,
                features=tuple(FeatureRequest.from_definition(feature) for feature in definition["features"]),
                ttl_us=int(definition["ttl_us"]),
                description=definition.get("description", ""),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ParameterError(
                f"a feature view definition is malformed: {type(error).__name__}: {error}",
                remedy="Write it with FeatureViewSpec.definition()",
            ) from None
