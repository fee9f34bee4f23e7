"""Kraken spot, WebSocket v2: trades, the book with its CRC-32 checksum, best bid and ask."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tapeline.core.errors import ConfigurationError, InvalidDataError
from tapeline.live.adapters.base import HttpRequest, TradesPage
from tapeline.live.messages import BookSnapshot, BookUpdate, Level, Message, QuoteMessage, Refusal, TradeMessage
from tapeline.live.parsing import level, member, moment_us, number, rows, text, whole

if TYPE_CHECKING:
    from tapeline.live.source import LiveSource

DEPTHS = (10, 25, 100, 500, 1_000)
_OLD_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
"""The history knows some assets by their old names."""
_SIDES = {"buy": 1, "b": 1, "sell": -1, "s": -1}


class Kraken:
    """See :class:`tapeline.live.adapters.base.Adapter`.

    Parameters
    ----------
    source
        The declaration.

    Raises
    ------
    ConfigurationError
        If the depth is none that Kraken has.
    """

    numbered_books = False
    dense_trades = True

    def __init__(self, source: LiveSource) -> None:
        self._source = source
        self._socket = source.url or "wss://ws.kraken.com/v2"
        self._rest = (source.rest_url or "https://api.kraken.com").rstrip("/")
        self.book_depth: int | None = source.depth or DEPTHS[0]
        if self.book_depth not in DEPTHS:
            raise ConfigurationError(
                f"Kraken has no books of depth {self.book_depth}",
                where=f"live source {source.name}",
                remedy=f"Choose of {', '.join(map(str, DEPTHS))}",
            )

    def url(self) -> str:
        """Where the WebSocket is."""
        return self._socket

    def subscribe(self) -> list[str]:
        """What to say when the connection stands."""
        symbols = list(self._source.symbols)
        parts: dict[str, dict[str, Any]] = {
            "trades": {"channel": "trade", "symbol": symbols, "snapshot": True},
            "book": {"channel": "book", "symbol": symbols, "depth": self.book_depth, "snapshot": True},
            "quotes": {"channel": "ticker", "symbol": symbols, "event_trigger": "bbo", "snapshot": True},
        }
        return [_say("subscribe", parts[channel]) for channel in self._source.channels]

    def resubscribe(self, symbol: str) -> list[str]:
        """Unsubscribe from a symbol's book, and subscribe again."""
        part = {"channel": "book", "symbol": [symbol], "depth": self.book_depth}
        return [_say("unsubscribe", part), _say("subscribe", {**part, "snapshot": True})]

    def parse(self, value: Any) -> list[Message]:
        """What a frame says."""
        channel = value.get("channel") if isinstance(value, dict) else member(value, "channel")
        if channel is None and value.get("success") is False:
            return [Refusal(str(value.get("error", value))[:500])]
        if channel == "trade":
            past = member(value, "type") == "snapshot"
            return [_trade(row, past=past) for row in rows(member(value, "data"), "data")]
        if channel == "book":
            make = _snapshot if member(value, "type") == "snapshot" else _update
            return [make(row) for row in rows(member(value, "data"), "data")]
        if channel == "ticker":
            return [_quote(row) for row in rows(member(value, "data"), "data")]
        return []

    def snapshot_request(self, symbol: str) -> HttpRequest | None:  # noqa: ARG002
        """None: the book comes over the connection."""
        return None

    def parse_snapshot(self, symbol: str, value: Any) -> BookSnapshot:  # noqa: ARG002
        """Nothing is asked, so nothing answers."""
        raise InvalidDataError(f"Kraken was not asked for a book of {symbol}")

    def trades_request(self, symbol: str, first: int, last: int, since_us: int, cursor: str) -> HttpRequest | None:  # noqa: ARG002
        """Asks for trades after the one before the gap; the history goes by time."""
        since = cursor or str(max(since_us * 1_000 - 1, 0))
        pair = quote(self._pair(symbol), safe="")
        count = min(self._source.rest.page, 1_000)
        return HttpRequest(f"{self._rest}/0/public/Trades?pair={pair}&since={since}&count={count}")

    def parse_trades(self, symbol: str, value: Any) -> TradesPage:
        """The answer to that: rows of price, volume, time, side, order type, miscellaneous, trade id."""
        if errors := member(value, "error"):
            raise InvalidDataError(f"Kraken refuses: {errors}")
        result = member(value, "result")
        pairs = [key for key in result if key != "last"] if isinstance(result, dict) else []
        trades = tuple(
            TradeMessage(
                symbol,
                whole(member(row, 6), "trade_id"),
                moment_us(member(row, 2), "s", "time"),
                number(member(row, 0), "price"),
                number(member(row, 1), "volume"),
                _side(member(row, 3)),
            )
            for pair in pairs
            for row in rows(result[pair], "the history")
        )
        return TradesPage(trades, str(member(result, "last")))

    def _pair(self, symbol: str) -> str:
        if symbol in self._source.rest_symbols:
            return self._source.rest_symbols[symbol]
        return "".join(_OLD_NAMES.get(asset, asset) for asset in symbol.split("/"))


def _say(method: str, parameters: dict[str, Any]) -> str:
    return json.dumps({"method": method, "params": parameters})


def _side(value: Any) -> int:
    return _SIDES.get(value, 0) if isinstance(value, str) else 0


def _trade(row: Any, *, past: bool) -> TradeMessage:
    return TradeMessage(
        text(member(row, "symbol"), "symbol"),
        whole(member(row, "trade_id"), "trade_id"),
        moment_us(member(row, "timestamp"), "iso8601", "timestamp"),
        number(member(row, "price"), "price"),
        number(member(row, "qty"), "qty"),
        _side(member(row, "side")),
        past,
    )


def _levels(value: Any) -> tuple[Level, ...]:
    return tuple(level(member(each, "price"), member(each, "qty")) for each in rows(value, "levels"))


def _checksum(row: Any) -> int:
    return whole(member(row, "checksum"), "checksum")


def _snapshot(row: Any) -> BookSnapshot:
    time = row.get("timestamp") if isinstance(row, dict) else None
    return BookSnapshot(
        text(member(row, "symbol"), "symbol"),
        None,
        None if time is None else moment_us(time, "iso8601", "timestamp"),
        _levels(member(row, "bids")),
        _levels(member(row, "asks")),
        _checksum(row),
    )


def _update(row: Any) -> BookUpdate:
    return BookUpdate(
        text(member(row, "symbol"), "symbol"),
        None,
        None,
        moment_us(member(row, "timestamp"), "iso8601", "timestamp"),
        _levels(member(row, "bids")),
        _levels(member(row, "asks")),
        _checksum(row),
    )


def _quote(row: Any) -> QuoteMessage:
    time = row.get("timestamp") if isinstance(row, dict) else None
    return QuoteMessage(
        text(member(row, "symbol"), "symbol"),
        None,
        None if time is None else moment_us(time, "iso8601", "timestamp"),
        *(number(member(row, key), key) for key in ("bid", "bid_qty", "ask", "ask_qty")),
    )
