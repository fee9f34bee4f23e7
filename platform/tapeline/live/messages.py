"""What a venue says, whichever format it says it in: the adapters' output, the feed's input."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Level:
    """A price level and the size that it now has; 0 removes it.

    The texts are as the venue wrote them: checksums are taken over them.
    """

    price: float
    size: float
    price_text: str
    size_text: str


@dataclass(frozen=True, slots=True)
class TradeMessage:
    """One trade.

    Attributes
    ----------
    symbol
        As the venue writes it.
    number
        The venue's trade id; none where it has none.
    event_us
        When it was matched, µs.
    price, size
        As traded.
    side
        Aggressor: 1 buyer, -1 seller, 0 unknown.
    past
        It is told again on subscribing: what happened before, not what happens.
    """

    symbol: str
    number: int | None
    event_us: int
    price: float
    size: float
    side: int
    past: bool = False


@dataclass(frozen=True, slots=True)
class QuoteMessage:
    """Best bid and ask; number and time are none where the venue gives none."""

    symbol: str
    number: int | None
    event_us: int | None
    bid_price: float
    bid_size: float
    ask_price: float
    ask_size: float


@dataclass(frozen=True, slots=True)
class BookUpdate:
    """Levels that changed.

    Attributes
    ----------
    first, last
        Numbers of the changes that it contains; none where the venue does not number them.
    checksum
        CRC-32 of the book after it; none where the venue gives none.
    """

    symbol: str
    first: int | None
    last: int | None
    event_us: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    checksum: int | None = None


@dataclass(frozen=True, slots=True)
class BookSnapshot:
    """The whole book after change ``last``; its time is none where the venue does not say it."""

    symbol: str
    last: int | None
    event_us: int | None
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    checksum: int | None = None


@dataclass(frozen=True, slots=True)
class LastTrade:
    """A heartbeat that tells the last trade's number, so that a gap shows in a quiet market too."""

    symbol: str
    number: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """The venue refuses what was asked of it, such as a subscription."""

    reason: str


Message = TradeMessage | QuoteMessage | BookUpdate | BookSnapshot | LastTrade | Refusal
