"""Binance spot: trades, numbered changes of the book, best bid and ask.

Times are asked for in microseconds, over the WebSocket and in the history alike, so that a trade has one key wherever it is read.
``bookTicker`` tells no time: its quotes count from when they were received.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tapeline.live.adapters.base import HttpRequest, TradesPage
from tapeline.live.messages import BookSnapshot, BookUpdate, Level, Message, QuoteMessage, Refusal, TradeMessage
from tapeline.live.parsing import level, member, moment_us, number, rows, text, whole

if TYPE_CHECKING:
    from tapeline.live.source import LiveSource

_STREAMS = {"trades": "trade", "book": "depth@100ms", "quotes": "bookTicker"}
_STREAMS_PER_MESSAGE = 200
_MICROSECONDS_FROM = 10**14
"""Numbers from here on are µs, below it ms: they meet in the year 5138."""
SNAPSHOT_LEVELS = 5_000


class Binance:
    """See :class:`tapeline.live.adapters.base.Adapter`.

    Parameters
    ----------
    source
        The declaration.
    """

    numbered_books = True
    dense_trades = True
    book_depth: int | None = None

    def __init__(self, source: LiveSource) -> None:
        self._source = source
        self._socket = (source.url or "wss://stream.binance.com:9443").rstrip("/")
        self._rest = (source.rest_url or "https://api.binance.com").rstrip("/")

    def url(self) -> str:
        """Where the WebSocket is."""
        return f"{self._socket}/stream?timeUnit=MICROSECOND"

    def subscribe(self) -> list[str]:
        """What to say when the connection stands."""
        channels = [_STREAMS[channel] for channel in self._source.channels]
        streams = [f"{symbol.lower()}@{channel}" for symbol in self._source.symbols for channel in channels]
        pieces = [streams[at : at + _STREAMS_PER_MESSAGE] for at in range(0, len(streams), _STREAMS_PER_MESSAGE)]
        return [
            json.dumps({"method": "SUBSCRIBE", "params": piece, "id": place + 1}) for place, piece in enumerate(pieces)
        ]

    def resubscribe(self, symbol: str) -> list[str]:  # noqa: ARG002
        """Nothing: books are asked for."""
        return []

    def parse(self, value: Any) -> list[Message]:
        """What a frame says."""
        if isinstance(value, dict) and ("error" in value or "msg" in value):
            return [Refusal(json.dumps(value.get("error", value))[:500])]
        data = value.get("data") if isinstance(value, dict) and "stream" in value else value
        if not isinstance(data, dict):
            member(value, "stream")
            return []
        event = data.get("e")
        if event == "trade":
            return [_trade(data)]
        if event == "depthUpdate":
            return [_update(data)]
        if event is None and "u" in data:
            return [_quote(data)]
        return []

    def snapshot_request(self, symbol: str) -> HttpRequest | None:
        """Asks for a book."""
        limit = self._source.depth or SNAPSHOT_LEVELS
        return self._request(f"/api/v3/depth?symbol={quote(symbol, safe='')}&limit={limit}")

    def parse_snapshot(self, symbol: str, value: Any) -> BookSnapshot:
        """The answer to that."""
        bids, asks = _levels(member(value, "bids")), _levels(member(value, "asks"))
        return BookSnapshot(symbol, whole(member(value, "lastUpdateId"), "lastUpdateId"), None, bids, asks)

    def trades_request(self, symbol: str, first: int, last: int, since_us: int, cursor: str) -> HttpRequest | None:  # noqa: ARG002
        """Asks for missing trades."""
        limit = min(last - first + 1, self._source.rest.page, 1_000)
        return self._request(f"/api/v3/historicalTrades?symbol={quote(symbol, safe='')}&fromId={first}&limit={limit}")

    def parse_trades(self, symbol: str, value: Any) -> TradesPage:
        """The answer to that."""
        return TradesPage(
            tuple(
                TradeMessage(
                    symbol,
                    whole(member(row, "id"), "id"),
                    _moment(member(row, "time"), "time"),
                    number(member(row, "price"), "price"),
                    number(member(row, "qty"), "qty"),
                    _side(member(row, "isBuyerMaker")),
                )
                for row in rows(value, "the history")
            )
        )

    def _request(self, path: str) -> HttpRequest:
        return HttpRequest(self._rest + path, (("X-MBX-TIME-UNIT", "MICROSECOND"),))


def _moment(value: Any, what: str) -> int:
    return moment_us(value, "us" if whole(value, what) >= _MICROSECONDS_FROM else "ms", what)


def _side(buyer_is_maker: Any) -> int:
    return -1 if buyer_is_maker is True else 1 if buyer_is_maker is False else 0


def _levels(value: Any) -> tuple[Level, ...]:
    return tuple(level(member(each, 0), member(each, 1)) for each in rows(value, "levels"))


def _trade(data: dict[str, Any]) -> TradeMessage:
    return TradeMessage(
        text(member(data, "s"), "s"),
        whole(member(data, "t"), "t"),
        _moment(member(data, "T"), "T"),
        number(member(data, "p"), "p"),
        number(member(data, "q"), "q"),
        _side(member(data, "m")),
    )


def _update(data: dict[str, Any]) -> BookUpdate:
    return BookUpdate(
        text(member(data, "s"), "s"),
        whole(member(data, "U"), "U"),
        whole(member(data, "u"), "u"),
        _moment(member(data, "E"), "E"),
        _levels(member(data, "b")),
        _levels(member(data, "a")),
    )


def _quote(data: dict[str, Any]) -> QuoteMessage:
    prices = [number(member(data, key), key) for key in ("b", "B", "a", "A")]
    return QuoteMessage(text(member(data, "s"), "s"), whole(data["u"], "u"), None, *prices)
