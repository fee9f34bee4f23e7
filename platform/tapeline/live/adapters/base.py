"""What every adapter can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from tapeline.live.messages import BookSnapshot, Message, TradeMessage


@dataclass(frozen=True)
class HttpRequest:
    """A GET request; secret headers are added by who sends it."""

    url: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class TradesPage:
    """Trades of a venue's history, in any order.

    Attributes
    ----------
    trades
        They.
    cursor
        Where the next page begins, in the venue's own terms; empty: by the numbers that are still missing.
    """

    trades: tuple[TradeMessage, ...]
    cursor: str = ""


class Adapter(Protocol):
    """One venue's format.

    Methods that parse take a value that :func:`tapeline.live.parsing.decode` gave, raise
    :class:`tapeline.core.errors.InvalidDataError` for whatever does not have the venue's form, and leave out what they were
    not asked for. Symbols are the venue's. Adapters hold nothing but the declaration, so the same words always mean the same.
    """

    numbered_books: bool
    """Whether changes of books are numbered without gaps."""
    dense_trades: bool
    """Whether trades of a symbol are numbered without gaps."""
    book_depth: int | None
    """Levels a side that changes are told of; none: all."""

    def url(self) -> str:
        """Where the WebSocket is."""
        ...

    def subscribe(self) -> list[str]:
        """What to say when the connection stands."""
        ...

    def resubscribe(self, symbol: str) -> list[str]:
        """What to say to get a symbol's book anew over the connection; nothing if the venue has a request for it."""
        ...

    def parse(self, value: Any) -> list[Message]:
        """What a frame says, in order."""
        ...

    def snapshot_request(self, symbol: str) -> HttpRequest | None:
        """Asks for a book; none if it comes over the connection."""
        ...

    def parse_snapshot(self, symbol: str, value: Any) -> BookSnapshot:
        """The answer to that."""
        ...

    def trades_request(self, symbol: str, first: int, last: int, since_us: int, cursor: str) -> HttpRequest | None:
        """Asks for missing trades; none if the venue has no history.

        Parameters
        ----------
        symbol, first, last
            The numbers that are missing.
        since_us
            Time of the trade before them, µs; 0 if unknown.
        cursor
            What the page before gave; empty at first.
        """
        ...

    def parse_trades(self, symbol: str, value: Any) -> TradesPage:
        """The answer to that."""
        ...
