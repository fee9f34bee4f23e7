"""Live sources against the venue of this machine, and what must be the same whatever it does."""

from __future__ import annotations

import asyncio
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Self

import psycopg
import redis
from tapeline.live.book_sync import PLACES
from tapeline.live.delivery import plan_of
from tapeline.live.gaps import Gap
from tapeline.live.runner import LiveRunner
from tapeline.live.source import LiveSource, parse_source
from tapeline.streaming.codec import ACTIONS, EventKind, decode_block
from tapeline.streaming.plan import FIELD, StreamPlan

from tests.live.formats import BinanceWords, CoinbaseWords, KrakenWords, books_equal
from tests.live.market import Market
from tests.live.venue import Faults, Venue

SYMBOLS = {
    "binance": {"BTCUSDT": "BTC", "ETHUSDT": "ETH"},
    "kraken": {"BTC/USD": "BTC", "ETH/USD": "ETH"},
    "json": {"BTC-USD": "BTC", "ETH-USD": "ETH"},
}
WORDS = {"binance": BinanceWords, "kraken": KrakenWords, "json": CoinbaseWords}
CHANNELS = {"binance": ["trades", "book", "quotes"], "kraken": ["trades", "book", "quotes"], "json": ["trades", "book"]}
COINBASE = {
    "subscribe": ['{"type":"subscribe","product_ids":{symbols},"channels":["matches","level2","heartbeat"]}'],
    "refusal": {"match": {"type": "error"}, "reason": "message"},
    "messages": [
        {
            "kind": "trades", "match": {"type": "match"}, "symbol": "product_id", "sequence": "trade_id",
            "event": {"path": "time", "unit": "iso8601"}, "price": "price", "size": "size",
            "side": {"path": "side", "buy": ["sell"], "sell": ["buy"]},
        },
        {"kind": "last_trade", "match": {"type": "heartbeat"}, "symbol": "product_id", "sequence": "last_trade_id"},
        {"kind": "book_snapshot", "match": {"type": "snapshot"}, "symbol": "product_id", "bids": "bids", "asks": "asks"},
        {
            "kind": "book", "match": {"type": "l2update"}, "symbol": "product_id", "changes": "changes",
            "event": {"path": "time", "unit": "iso8601"},
            "level": {"price": "1", "size": "2", "side": {"path": "0", "buy": ["buy"], "sell": ["sell"]}},
        },
    ],
}  # fmt: skip
Row = tuple[Any, ...]


def make_source(adapter: str, venue: Venue, **changes: Any) -> LiveSource:
    """A source that listens to a venue, with short pauses."""
    content: dict[str, Any] = {
        "name": f"{adapter}-live",
        "source": f"{adapter}-tape",
        "adapter": adapter,
        "url": venue.url("ws") + venue.words.url_path,
        "rest_url": venue.url("http"),
        "symbols": SYMBOLS[adapter],
        "channels": CHANNELS[adapter],
        "partitions": 2,
        "timing": {"silence_s": 5.0, "ping_s": 5.0, "retry_s": 0.02, "retry_max_s": 0.1},
        "rest": {"interval_s": 0.0, "retry_s": 0.05, "grace_s": 0.05},
        "limits": {"frame_bytes_max": 200_000},
    }
    if adapter == "json":
        history = {
            "url": venue.url("http") + "/products/{symbol}/trades?after={end}&limit={limit}",
            **{name: part for name, part in COINBASE["messages"][0].items() if name not in {"kind", "match", "symbol"}},
        }
        content["mapping"] = {**COINBASE, "history": history}
    for name, value in changes.items():
        content[name] = {**content[name], **value} if isinstance(content.get(name), dict) else value
    return parse_source(content, "here")


def make_venue(adapter: str, count: int, seed: int, faults: Faults | None = None) -> Venue:
    """A venue that plays a market in a format."""
    return Venue(WORDS[adapter](Market(list(SYMBOLS[adapter]), count, seed)), faults)


def expected(adapter: str) -> set[str]:
    """What a client of a venue subscribes to."""
    symbols = SYMBOLS[adapter]
    if adapter == "binance":
        return {f"{symbol.lower()}@{channel}" for symbol in symbols for channel in BinanceWords.channels.values()}
    channels = {"kraken": ("trade", "book", "ticker"), "json": ("matches", "level2", "heartbeat")}[adapter]
    return {f"{channel}:{symbol}" for symbol in symbols for channel in channels}


class Listener:
    """A runner in a thread of its own."""

    def __init__(
        self, source: LiveSource, database: str, redis_url: str, record: Path | None = None, **more: Any
    ) -> None:
        self.source = source
        self.plan: StreamPlan = plan_of(source, "test")
        self.client = redis.Redis.from_url(redis_url)
        self.notices: list[str] = []
        self.error: BaseException | None = None
        self.gaps: list[Gap] = []
        self.runner = LiveRunner(
            source, self.plan, redis=self.client, connect=lambda: psycopg.connect(database, options="-c timezone=UTC"),
            record=record, random=Random(5), notice=self.notices.append, **more,
        )  # fmt: skip
        self._loop = asyncio.new_event_loop()
        self._stop: asyncio.Event | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        async def main() -> None:
            self._stop = asyncio.Event()
            self._started.set()
            await self.runner.run(self._stop)

        try:
            self._loop.run_until_complete(main())
        except BaseException as error:  # noqa: BLE001 - it is looked at by the test
            self.error = error
        finally:
            self._loop.close()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self.client.close()

    def end(self) -> None:
        """Ask it to end, and wait."""
        if self._thread.is_alive():
            assert self._stop is not None
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(20)
            assert not self._thread.is_alive()

    def until(self, check: Callable[[], bool], seconds: float = 20.0) -> None:
        """Wait until something is true."""
        ends_s = time.monotonic() + seconds
        while not check():
            if self.error is not None:
                raise self.error
            assert time.monotonic() < ends_s, (self.runner.totals(), self.notices[-5:])
            time.sleep(0.05)


def sent_rows(client: redis.Redis, plan: StreamPlan) -> dict[str, list[Row]]:
    """What a stream holds, kind by kind, in the order of keys; every number as its bits."""
    found: dict[str, dict[Row, Row]] = defaultdict(dict)
    for partition in range(plan.partitions):
        for _, entry in client.xrange(plan.events_key(partition)):
            events = decode_block(entry[FIELD])
            for record in events.records:
                key = (events.symbols[int(record["symbol"])], int(record["event_us"]), int(record["sequence"]))
                action = ACTIONS[int(record["extra"])] if events.kind is EventKind.book_events else ""
                row = (*key, record["values"].tobytes(), int(record["side"]), action, int(record["available_us"]))
                assert found[events.kind.name].setdefault(key, row) == row, "a key that was sent with other content"
    return {kind: [rows[key] for key in sorted(rows)] for kind, rows in found.items()}


def without_available(rows: list[Row]) -> list[Row]:
    """Rows without when each came: that is different in every run."""
    return [row[:-1] for row in rows]


def books_at(rows: list[Row]) -> dict[str, dict[int, tuple[dict[float, float], dict[float, float]]]]:
    """For each symbol the book after each time (or number, where the venue numbers), rebuilt from its rows alone."""
    built: dict[str, dict[int, tuple[dict[float, float], dict[float, float]]]] = defaultdict(dict)
    now: dict[str, tuple[dict[float, float], dict[float, float]]] = defaultdict(lambda: ({}, {}))
    for symbol, event_us, sequence, values, side, action, _ in rows:
        bids, asks = now[symbol]
        if action == "clear":
            bids.clear()
            asks.clear()
        else:
            price, size = struct.unpack("<dd", values)
            levels = bids if side == 1 else asks
            if action == "delete":
                del levels[price]
            else:
                levels[price] = size
        moment = sequence // PLACES if sequence >= PLACES else event_us
        built[symbol][moment] = (dict(bids), dict(asks))
    return built


def truth_of_trades(venue: Venue, symbols: dict[str, str], since: int = 0) -> list[Row]:
    """Rows of all trades from a step on, as they must be sent."""
    return sorted(
        (symbols[s.symbol], s.event_us, s.number, struct.pack("<dd", float(s.price), float(s.size)), s.side, "")
        for s in venue.words.market.steps[since:]
        if s.kind == "trade"
    )


def require_final_books(venue: Venue, symbols: dict[str, str], rows: list[Row], depth: int | None = None) -> None:
    """The books at the end are the market's."""
    last = books_at(rows)
    for theirs, ours in symbols.items():
        state = venue.words.market.states[theirs][-1]
        bids, asks = sorted(state.bids.items(), reverse=True)[:depth], sorted(state.asks.items())[:depth]
        assert books_equal(last[ours][max(last[ours])], dict(bids), dict(asks)), theirs


def places(venue: Venue, kind: str, after: int, *, pair: bool = False) -> int:
    """The next step of a kind; with ``pair`` one whose successor is of the same kind and symbol."""
    steps = venue.words.market.steps
    for at in range(after, len(steps) - 1):
        same = (steps[at].kind, steps[at].symbol) == (steps[at + 1].kind, steps[at + 1].symbol)
        if steps[at].kind == kind and (same or not pair):
            return at
    raise AssertionError(f"no {kind} after step {after}")
