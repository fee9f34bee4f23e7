"""How the columns of a file or frame map to ours, and which columns each kind of data has."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tapeline.core.errors import InvalidDataError, ParameterError, UnknownNameError
from tapeline.storage.raw_tables import RawKind

Ambiguous = Literal["quarantine", "earliest", "latest"]

TIME_COLUMNS = ("event_timestamp", "start_timestamp", "published_timestamp")
DATE_COLUMNS = ("date", "ex_date")
_SHARED = ("symbol", "event_timestamp", "published_timestamp", "sequence", "deleted")
COLUMNS: dict[str, tuple[str, ...]] = {
    "bars": (*_SHARED, "date", "start_timestamp", "open", "high", "low", "close", "volume"),
    "trades": (*_SHARED, "price", "size", "side"),
    "quotes": (*_SHARED, "bid_price", "bid_size", "ask_price", "ask_size"),
    "book_events": (*_SHARED, "action", "side", "price", "size", "order_id"),
    "actions": (*_SHARED, "kind", "ex_date", "published_date", "ratio", "amount", "currency"),
}
_REQUIRED: dict[str, tuple[str, ...]] = {
    "bars": ("symbol", "open", "high", "low", "close"),
    "trades": ("symbol", "event_timestamp", "price", "size"),
    "quotes": ("symbol", "event_timestamp", "bid_price", "ask_price"),
    "book_events": ("symbol", "event_timestamp", "action", "side"),
    "actions": ("symbol",),
}
_ADJUSTED = re.compile(r"\badj(usted)?\b")


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read the columns of a file or frame.

    Parameters
    ----------
    columns
        Their column → our column. Columns whose name is ours already, but for case and spaces, need no entry.
    timezone
        IANA zone of timestamps that carry none, for example ``America/Chicago``.
    time_format
        A ``strptime`` format for times in text, or ``epoch_s``, ``epoch_ms``, ``epoch_us``, ``epoch_ns``. ISO 8601 if
        none.
    date_format
        The same for dates; that of times if none.
    ambiguous
        What becomes of a local time that the end of summer time makes happen twice.
    symbol
        The one symbol of data without a symbol column.
    bar_width_us
        Length of a bar, for bars that have only a start or only an end.
    first_sequence
        Sequence of a symbol's first row, where the data has no sequence of its own: rows are then numbered by symbol.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    timezone: str | None = None
    time_format: str | None = None
    date_format: str | None = None
    ambiguous: Ambiguous = "quarantine"
    symbol: str | None = None
    bar_width_us: int | None = None
    first_sequence: int = 0

    def __post_init__(self) -> None:
        if self.timezone is not None:
            from zoneinfo import available_timezones

            if self.timezone not in available_timezones():
                raise UnknownNameError("time zone", self.timezone, available_timezones())
        if self.bar_width_us is not None and self.bar_width_us <= 0:
            raise ParameterError(f"a bar's width is positive, not {self.bar_width_us} µs")
        if self.ambiguous not in ("quarantine", "earliest", "latest"):
            raise ParameterError(f"ambiguous is {self.ambiguous!r}", remedy="Use quarantine, earliest or latest")

    def reading(self) -> dict[str, Any]:
        """What a value's reading depends on, but for the names: kept beside a refused row, so that it can be read again."""
        kept = asdict(self)
        return {name: kept[name] for name in ("timezone", "time_format", "date_format", "ambiguous", "bar_width_us")}


def plain(name: str) -> str:
    """A column name without case, spaces and punctuation: ``Adj. Close`` is ``adj_close``."""
    return re.sub(r"[^0-9a-z]+", "_", name.strip().casefold()).strip("_")


def resolve(kind: RawKind, have: Sequence[str], layout: Layout, where: str) -> dict[str, str]:
    """Our column → their column, for every column of this kind that the data has.

    Raises
    ------
    InvalidDataError
        If a needed column is missing, two columns claim one name, or an adjusted price is offered as a price.
    UnknownNameError
        If the mapping names a column that the data lacks, or one that this kind does not have.
    """
    found: dict[str, str] = {}
    for theirs, ours in layout.columns.items():
        if theirs not in have:
            raise UnknownNameError("column", theirs, have, where=where)
        if ours not in COLUMNS[kind]:
            if _ADJUSTED.search(plain(ours).replace("_", " ")):
                raise _adjusted(theirs, where)
            raise UnknownNameError(f"column of {kind}", ours, COLUMNS[kind], where=f"mapping of {theirs!r}")
        if ours in found:
            raise InvalidDataError(f"columns {found[ours]!r} and {theirs!r} both claim to be {ours}", where=where)
        found[ours] = theirs
    for theirs in have:
        ours = plain(theirs)
        if theirs not in layout.columns and ours in COLUMNS[kind] and ours not in found:
            found[ours] = theirs
    for ours, theirs in found.items():
        if ours not in ("symbol", *TIME_COLUMNS, *DATE_COLUMNS, "published_date") and _ADJUSTED.search(
            plain(theirs).replace("_", " ")
        ):
            raise _adjusted(theirs, where)
    if layout.symbol is not None:
        if "symbol" in found and "symbol" in layout.columns.values():
            raise ParameterError("both a symbol and a symbol column are given", where=where, remedy="Give only one")
        found.pop("symbol", None)
    _check_complete(kind, found, have, layout, where)
    return found


def _adjusted(column: str, where: str) -> InvalidDataError:
    return InvalidDataError(
        f"column {column!r} holds adjusted prices, which look ahead: they are scaled by splits and dividends of later years",
        where=where,
        remedy="Map what was traded and paid; splits and dividends are applied when features are computed, as known then",
    )


def _check_complete(kind: RawKind, found: dict[str, str], have: Sequence[str], layout: Layout, where: str) -> None:
    missing = [name for name in _REQUIRED[kind] if name not in found]
    if layout.symbol is not None and "symbol" in missing:
        missing.remove("symbol")
    if kind == "bars" and "date" not in found:
        if "event_timestamp" not in found and "start_timestamp" not in found:
            missing.append("date (of a session), event_timestamp or start_timestamp")
        elif layout.bar_width_us is None and not {"event_timestamp", "start_timestamp"} <= found.keys():
            one = "event_timestamp" if "event_timestamp" in found else "start_timestamp"
            raise InvalidDataError(
                f"the bars have only {one}", where=where, remedy="Name the other column too, or give the bars' width"
            )
    if kind == "actions":
        missing += ["ex_date"] * found.keys().isdisjoint(("ex_date", "event_timestamp"))
        missing += ["ratio (of splits) or amount (of dividends)"] * found.keys().isdisjoint(("ratio", "amount"))
    if not missing:
        return
    hints = []
    for name in missing:
        near = difflib.get_close_matches(name, {plain(column): column for column in have}, n=1, cutoff=0.6)
        theirs = next((column for column in have if near and plain(column) == near[0]), "COLUMN")
        hints.append(f"--map '{theirs}={name.split(' ')[0]}'")
    raise InvalidDataError(
        f"no column for {', '.join(missing)}",
        where=where,
        remedy=f"The columns are: {', '.join(have)}. Name it with {' '.join(hints)}",
    )
