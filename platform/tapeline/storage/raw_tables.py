"""The tables of raw data: what identifies a row, what a correction may change, and what a row must have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RawKind = Literal["bars", "trades", "quotes", "book_events", "actions"]


@dataclass(frozen=True, slots=True)
class RawTable:
    """A table of raw data.

    Attributes
    ----------
    kind
        What its rows are.
    content
        The columns that a correction may change.
    needed
        Those of them that each row must have.
    sequence_default
        Sequence of rows without one; none: each must have its own.
    stored_as
        The table's name, where it is not the kind.
    key
        What identifies a row, within its source if ``by_source``.
    by_source
        Whether each source's rows are its own; else a row of any source corrects the one before it.
    announced
        Whether a row may be known before its event.
    """

    kind: RawKind
    content: tuple[str, ...]
    needed: tuple[str, ...]
    sequence_default: int | None = None
    stored_as: str | None = None
    key: tuple[str, ...] = ("symbol", "event_timestamp", "sequence")
    by_source: bool = True
    announced: bool = False

    @property
    def name(self) -> str:
        """The table's name with its schema."""
        return f"tapeline.{self.stored_as or self.kind}"


RAW_TABLES: dict[str, RawTable] = {
    table.kind: table
    for table in (
        RawTable(
            "bars",
            ("start_timestamp", "open", "high", "low", "close", "volume"),
            ("start_timestamp",),
            sequence_default=0,
        ),
        RawTable("trades", ("price", "size", "side"), ()),
        RawTable("quotes", ("bid_price", "bid_size", "ask_price", "ask_size"), ()),
        RawTable("book_events", ("action", "side", "price", "size", "order_id"), ("action",)),
        RawTable(
            "actions",
            ("ratio", "amount", "currency"),
            (),
            sequence_default=0,
            stored_as="corporate_actions",
            key=("symbol", "kind", "event_timestamp", "sequence"),
            by_source=False,
            announced=True,
        ),
    )
}
