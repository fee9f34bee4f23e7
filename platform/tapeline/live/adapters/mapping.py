"""Any venue that speaks JSON, by a declaration: see :mod:`tapeline.live.adapters.mapping_rules`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tapeline.core.errors import InvalidDataError
from tapeline.live.adapters.base import HttpRequest, TradesPage
from tapeline.live.adapters.mapping_rules import MessageRule, RowRule, SideRule
from tapeline.live.messages import (
    BookSnapshot,
    BookUpdate,
    LastTrade,
    Level,
    Message,
    QuoteMessage,
    Refusal,
    TradeMessage,
)
from tapeline.live.parsing import level, moment_us, number, rows, text, whole

if TYPE_CHECKING:
    from tapeline.live.source import LiveSource

_MISSING = object()


class MappedJson:
    """See :class:`tapeline.live.adapters.base.Adapter`.

    Parameters
    ----------
    source
        The declaration; it has a mapping.
    """

    book_depth: int | None = None

    def __init__(self, source: LiveSource) -> None:
        assert source.mapping is not None
        self._source = source
        self._mapping = source.mapping
        self.numbered_books = any(rule.kind == "book" and rule.last is not None for rule in source.mapping.messages)
        self.dense_trades = source.mapping.dense_trades

    def url(self) -> str:
        """Where the WebSocket is."""
        assert self._source.url is not None
        return self._source.url

    def subscribe(self) -> list[str]:
        """What to say when the connection stands."""
        symbols = list(self._source.symbols)
        said = []
        for template in self._mapping.subscribe:
            whole_text = template.replace("{symbols}", json.dumps(symbols))
            each = symbols if "{symbol}" in whole_text else [""]
            said += [whole_text.replace("{symbol}", json.dumps(symbol)[1:-1]) for symbol in each]
        return said

    def resubscribe(self, symbol: str) -> list[str]:
        """What to say to get a symbol's book anew."""
        return [template.replace("{symbol}", json.dumps(symbol)[1:-1]) for template in self._mapping.resubscribe]

    def parse(self, value: Any) -> list[Message]:
        """What a frame says."""
        refusal = self._mapping.refusal
        if refusal is not None and _matches(refusal.match, value):
            return [Refusal(str(_find(value, value, refusal.reason))[:500])]
        for rule in self._mapping.messages:
            if _matches(rule.match, value):
                found = [value] if rule.rows is None else rows(_find(value, value, rule.rows), rule.rows)
                return [_message(rule, row, value) for row in found]
        return []

    def snapshot_request(self, symbol: str) -> HttpRequest | None:
        """Asks for a book; none if the format has no address for it."""
        rule = self._mapping.snapshot
        return None if rule is None else HttpRequest(rule.url.replace("{symbol}", self._escaped(symbol)))

    def parse_snapshot(self, symbol: str, value: Any) -> BookSnapshot:
        """The answer to that."""
        assert self._mapping.snapshot is not None
        return _snapshot(self._mapping.snapshot, symbol, value, value)

    def trades_request(self, symbol: str, first: int, last: int, since_us: int, cursor: str) -> HttpRequest | None:  # noqa: ARG002
        """Asks for missing trades; none if the format has no address for it."""
        rule = self._mapping.history
        if rule is None:
            return None
        parts = {
            "symbol": self._escaped(symbol),
            "first": first,
            "last": last,
            "end": last + 1,
            "limit": min(last - first + 1, self._source.rest.page),
        }
        url = rule.url
        for name, part in parts.items():
            url = url.replace(f"{{{name}}}", str(part))
        return HttpRequest(url)

    def parse_trades(self, symbol: str, value: Any) -> TradesPage:
        """The answer to that."""
        rule = self._mapping.history
        assert rule is not None
        found = value if rule.rows is None else _find(value, value, rule.rows)
        return TradesPage(tuple(_trade(rule, symbol, row, value) for row in rows(found, "the history")))

    def _escaped(self, symbol: str) -> str:
        return quote(self._source.rest_symbol(symbol), safe="")


def _find(row: Any, frame: Any, path: str) -> Any:
    found = _seek(row, frame, path)
    if found is _MISSING:
        raise InvalidDataError(f"the message has nothing at {path}")
    return found


def _seek(row: Any, frame: Any, path: str) -> Any:
    value = frame if path.startswith("/") else row
    for key in path.removeprefix("/").split("."):
        if isinstance(value, dict):
            value = value.get(key, _MISSING)
        elif isinstance(value, list) and key.isascii() and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return _MISSING
    return value


def _matches(wanted: dict[str, str | int | bool], frame: Any) -> bool:
    return all(_same(_seek(frame, frame, path), value) for path, value in wanted.items())


def _same(found: Any, wanted: str | int | bool) -> bool:
    return type(found) is type(wanted) and bool(found == wanted)


def _side(rule: SideRule | None, row: Any, frame: Any) -> int:
    if rule is None:
        return 0
    found = _find(row, frame, rule.path)
    if any(_same(found, each) for each in rule.buy):
        return 1
    return -1 if any(_same(found, each) for each in rule.sell) else 0


def _optional_whole(rule_path: str | None, row: Any, frame: Any) -> int | None:
    return None if rule_path is None else whole(_find(row, frame, rule_path), rule_path)


def _number(path: str | None, row: Any, frame: Any) -> float:
    assert path is not None
    return number(_find(row, frame, path), path)


def _event(rule: RowRule, row: Any, frame: Any) -> int | None:
    if rule.event is None:
        return None
    return moment_us(_find(row, frame, rule.event.path), rule.event.unit, rule.event.path)


def _message(rule: MessageRule, row: Any, frame: Any) -> Message:
    assert rule.symbol is not None
    symbol = text(_find(row, frame, rule.symbol), rule.symbol)
    if rule.kind == "trades":
        return _trade(rule, symbol, row, frame)
    if rule.kind == "quotes":
        names = (rule.bid_price, rule.bid_size, rule.ask_price, rule.ask_size)
        prices = [_number(path, row, frame) for path in names]
        return QuoteMessage(symbol, _optional_whole(rule.sequence, row, frame), _event(rule, row, frame), *prices)
    if rule.kind == "last_trade":
        assert rule.sequence is not None
        return LastTrade(symbol, whole(_find(row, frame, rule.sequence), rule.sequence))
    if rule.kind == "book_snapshot":
        return _snapshot(rule, symbol, row, frame)
    bids, asks = _levels(rule, row, frame)
    event_us = _event(rule, row, frame)
    assert event_us is not None
    first, last = (_optional_whole(path, row, frame) for path in (rule.first, rule.last))
    return BookUpdate(symbol, first, last, event_us, bids, asks)


def _trade(rule: RowRule, symbol: str, row: Any, frame: Any) -> TradeMessage:
    event_us = _event(rule, row, frame)
    assert event_us is not None
    return TradeMessage(
        symbol,
        _optional_whole(rule.sequence, row, frame),
        event_us,
        _number(rule.price, row, frame),
        _number(rule.size, row, frame),
        _side(rule.side, row, frame),
    )


def _snapshot(rule: RowRule, symbol: str, row: Any, frame: Any) -> BookSnapshot:
    bids, asks = _levels(rule, row, frame)
    return BookSnapshot(symbol, _optional_whole(rule.last, row, frame), _event(rule, row, frame), bids, asks)


def _levels(rule: RowRule, row: Any, frame: Any) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
    if rule.changes is None:
        assert rule.bids is not None
        assert rule.asks is not None
        bids, asks = (
            tuple(_level(rule, each, frame) for each in rows(_find(row, frame, path), path))
            for path in (rule.bids, rule.asks)
        )
        return bids, asks
    found = rows(_find(row, frame, rule.changes), rule.changes)
    sided = [(_side(rule.level.side, each, frame), _level(rule, each, frame)) for each in found]
    if any(side == 0 for side, _ in sided):
        raise InvalidDataError("a change of the book is of neither side")
    return tuple(each for side, each in sided if side == 1), tuple(each for side, each in sided if side == -1)


def _level(rule: RowRule, each: Any, frame: Any) -> Level:
    return level(_find(each, frame, rule.level.price), _find(each, frame, rule.level.size))
