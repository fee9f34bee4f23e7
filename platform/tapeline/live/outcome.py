"""What a feed answers: rows to send, gaps to record, requests and words for the venue."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tapeline.live.adapters.base import HttpRequest
from tapeline.live.gaps import Gap
from tapeline.streaming.codec import EventKind, Events, make_events

TradeRow = tuple[str, int, int, int, float, float, int]
"""Symbol, event, sequence, available, price, size, side."""
QuoteRow = tuple[str, int, int, int, float, float, float, float]
"""Symbol, event, sequence, available, bid price and size, ask price and size."""
BookEventRow = tuple[str, int, int, int, float, float, int, str]
"""Symbol, event, sequence, available, price, size, side, action."""


@dataclass(frozen=True)
class Ask:
    """A request for the venue's history.

    Attributes
    ----------
    key
        Tag of the frame that answers it.
    request
        What to get.
    delay_s
        How long to wait first.
    urgent
        Whether a book waits for it.
    """

    key: str
    request: HttpRequest
    delay_s: float = 0.0
    urgent: bool = False


@dataclass(frozen=True)
class Say:
    """Words for the venue over the connection that stands."""

    text: str
    delay_s: float = 0.0


@dataclass
class Outcome:
    """Of one or more frames, in order.

    Attributes
    ----------
    trades, quotes, books
        Rows.
    positions
        For each symbol of the venue number and time of its newest trade, µs.
    gaps
        Found, or in a new state.
    asks, says
        For the venue.
    refused
        Frames that have no form that is known: why, and their bytes.
    refusals
        What the venue refused.
    """

    trades: list[TradeRow] = field(default_factory=list)
    quotes: list[QuoteRow] = field(default_factory=list)
    books: list[BookEventRow] = field(default_factory=list)
    positions: dict[str, tuple[int, int]] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    says: list[Say] = field(default_factory=list)
    refused: list[tuple[str, bytes]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    @property
    def events(self) -> int:
        """How many rows there are."""
        return len(self.trades) + len(self.quotes) + len(self.books)

    def add(self, other: Outcome) -> None:
        """Append what came after it."""
        self.trades += other.trades
        self.quotes += other.quotes
        self.books += other.books
        self.positions |= other.positions
        self.gaps += other.gaps
        self.asks += other.asks
        self.says += other.says
        self.refused += other.refused
        self.refusals += other.refusals

    def batches(self) -> list[Events]:
        """The rows as events, one batch a kind."""
        made = []
        if self.trades:
            made.append(_events(EventKind.trades, self.trades, 2, side=np.array([row[6] for row in self.trades])))
        if self.quotes:
            made.append(_events(EventKind.quotes, self.quotes, 4))
        if self.books:
            made.append(
                _events(
                    EventKind.book_events,
                    self.books,
                    2,
                    side=np.array([row[6] for row in self.books]),
                    actions=[row[7] for row in self.books],
                )
            )
        return made


def _events(
    kind: EventKind,
    rows: list[TradeRow] | list[QuoteRow] | list[BookEventRow],
    values: int,
    *,
    side: np.typing.NDArray[np.int64] | int = 0,
    actions: list[str] | None = None,
) -> Events:
    times = np.array([row[1:4] for row in rows], dtype=np.int64)
    return make_events(
        kind,
        [row[0] for row in rows],
        times[:, 0],
        times[:, 1],
        times[:, 2],
        np.array([row[4 : 4 + values] for row in rows], dtype=np.float64),
        side=side,
        actions=actions,
        texts=[[""] * len(rows)] if kind is EventKind.book_events else (),
    )
