"""The market in three venues' words, as their documentation has them."""

from __future__ import annotations

import json
import zlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from tests.live.market import FIRST_US, Market, Side, State, Step


def _iso(event_us: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=event_us)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _price(price: Decimal) -> str:
    return f"{price:.1f}"


def _size(size: Decimal) -> str:
    return f"{size:.8f}"


class BinanceWords:
    """Numbered changes; books and trades by REST."""

    url_path = ""
    channels: ClassVar = {"trade": "trade", "book": "depth@100ms", "quote": "bookTicker"}

    def __init__(self, market: Market) -> None:
        self.market = market

    def wants(self, said: dict[str, Any]) -> tuple[list[str], list[str]]:
        """What a client's words subscribe to, and what to answer."""
        assert said["method"] == "SUBSCRIBE"
        return said["params"], [json.dumps({"result": None, "id": said["id"]})]

    def greeting(self, wanted: list[str], position: int) -> list[str]:
        """What the venue sends on subscribing."""
        return []

    def heartbeat(self, position: int) -> str | None:
        return None

    def frame(self, position: int, wanted: set[str]) -> str | None:
        """A step's frame, if it was subscribed to."""
        step = self.market.steps[position]
        stream = f"{step.symbol.lower()}@{self.channels[step.kind]}"
        if stream not in wanted:
            return None
        return json.dumps({"stream": stream, "data": self._data(step, position)})

    def _data(self, step: Step, position: int) -> dict[str, Any]:
        if step.kind == "trade":
            return {
                "e": "trade", "E": step.event_us + 3, "s": step.symbol, "t": step.number, "p": _price(step.price),
                "q": _size(step.size), "T": step.event_us, "m": step.side == -1, "M": True,
            }  # fmt: skip
        state = self.market.states[step.symbol][position + 1]
        if step.kind == "quote":
            bid, ask = max(state.bids), min(state.asks)
            return {
                "u": step.number, "s": step.symbol, "b": _price(bid), "B": _size(state.bids[bid]), "a": _price(ask),
                "A": _size(state.asks[ask]),
            }  # fmt: skip
        sides: dict[int, list[list[str]]] = {1: [], -1: []}
        for side, price, _ in step.changes:  # the size that the level has now
            levels = state.bids if side == 1 else state.asks
            sides[side].append([_price(price), _size(levels.get(price, Decimal(0)))])
        return {
            "e": "depthUpdate", "E": step.event_us, "s": step.symbol, "U": step.first, "u": step.number, "b": sides[1],
            "a": sides[-1],
        }  # fmt: skip

    def answer(self, target: str, headers: Any, position: int) -> Any:
        """What REST answers; none: not found."""
        url, query = urlsplit(target), parse_qs(urlsplit(target).query)
        assert headers["X-MBX-TIME-UNIT"] == "MICROSECOND"
        symbol = query["symbol"][0]
        if url.path == "/api/v3/depth":
            state = self.market.states[symbol][position]
            return {
                "lastUpdateId": state.update,
                "bids": [[_price(p), _size(s)] for p, s in sorted(state.bids.items(), reverse=True)],
                "asks": [[_price(p), _size(s)] for p, s in sorted(state.asks.items())],
            }
        if url.path != "/api/v3/historicalTrades":
            return None
        first, limit = int(query["fromId"][0]), int(query["limit"][0])
        found = [step for step in self.market.trades(symbol, position) if step.number >= first]
        return [
            {
                "id": step.number, "price": _price(step.price), "qty": _size(step.size), "quoteQty": "1.0",
                "time": step.event_us, "isBuyerMaker": step.side == -1, "isBestMatch": True,
            }
            for step in found[:limit]
        ]  # fmt: skip


class KrakenWords:
    """Books with a checksum over the best ten levels, told in full on subscribing; trades by REST go by time."""

    url_path = "/v2"
    depth = 10
    past_trades = 50

    def __init__(self, market: Market) -> None:
        self.market = market

    def wants(self, said: dict[str, Any]) -> tuple[list[str], list[str]]:
        part = said["params"]
        names = [f"{part['channel']}:{symbol}" for symbol in part["symbol"]]
        answer = json.dumps({"method": said["method"], "success": True, "result": {"channel": part["channel"]}})
        return ([] if said["method"] == "unsubscribe" else names), [answer]

    def greeting(self, wanted: list[str], position: int) -> list[str]:
        said = []
        for name in wanted:
            channel, _, symbol = name.partition(":")
            if channel == "book":
                state = self.market.states[symbol][position]
                said.append(self._book("snapshot", symbol, *self._top(state), state, None))
            if channel == "trade":
                past = self.market.trades(symbol, position)[::-1][: self.past_trades][::-1]
                said.append(self._trades("snapshot", past))
        return said

    def heartbeat(self, position: int) -> str | None:
        return json.dumps({"channel": "heartbeat"})

    def frame(self, position: int, wanted: set[str]) -> str | None:
        step = self.market.steps[position]
        channel = {"trade": "trade", "book": "book", "quote": "ticker"}[step.kind]
        if f"{channel}:{step.symbol}" not in wanted:
            return None
        if step.kind == "trade":
            return self._trades("update", [step])
        before, after = self.market.states[step.symbol][position : position + 2]
        if step.kind == "quote":
            bid, ask = max(after.bids), min(after.asks)
            row = (
                f'{{"symbol":"{step.symbol}","bid":{_price(bid)},"bid_qty":{_size(after.bids[bid])},"ask":{_price(ask)},'
                f'"ask_qty":{_size(after.asks[ask])},"timestamp":"{_iso(step.event_us)}"}}'
            )
            return f'{{"channel":"ticker","type":"update","data":[{row}]}}'
        old, new = self._top(before), self._top(after)
        changed = [
            [(p, s) for p, s in now if dict(was).get(p) != s]
            + [(p, Decimal(0)) for p, _ in was if p not in (after.bids if side == 0 else after.asks)]
            for side, (was, now) in enumerate(zip(old, new, strict=True))
        ]
        return self._book("update", step.symbol, changed[0], changed[1], after, step.event_us)

    def _top(self, state: State) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        bids = sorted(state.bids.items(), reverse=True)[: self.depth]
        return bids, sorted(state.asks.items())[: self.depth]

    def _book(self, kind: str, symbol: str, bids: Any, asks: Any, state: State, event_us: int | None) -> str:
        sides = [
            ",".join(f'{{"price":{_price(p)},"qty":{_size(s) if s else 0}}}' for p, s in side) for side in (bids, asks)
        ]
        time = f',"timestamp":"{_iso(event_us)}"' if event_us else ""
        return (
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}","bids":[{sides[0]}],"asks":[{sides[1]}],'
            f'"checksum":{self.checksum(state)}{time}}}]}}'
        )

    def checksum(self, state: State) -> int:
        """As the venue's guide tells it."""
        bids, asks = self._top(state)
        said = "".join(
            str(int(_price(price).replace(".", ""))) + str(int(_size(size).replace(".", "")))
            for price, size in asks + bids
        )
        return zlib.crc32(said.encode())

    def _trades(self, kind: str, steps: list[Step]) -> str:
        rows = ",".join(
            f'{{"symbol":"{step.symbol}","side":"{"buy" if step.side == 1 else "sell"}","price":{_price(step.price)},'
            f'"qty":{_size(step.size)},"ord_type":"market","trade_id":{step.number},"timestamp":"{_iso(step.event_us)}"}}'
            for step in steps
        )
        return f'{{"channel":"trade","type":"{kind}","data":[{rows}]}}'

    def answer(self, target: str, headers: Any, position: int) -> Any:
        query = parse_qs(urlsplit(target).query)
        assert urlsplit(target).path == "/0/public/Trades"
        symbol = {"XBTUSD": "BTC/USD", "ETHUSD": "ETH/USD"}[query["pair"][0]]
        since = int(query["since"][0])
        found = [step for step in self.market.trades(symbol, position) if step.event_us * 1_000 > since]
        found = found[: int(query["count"][0])]
        rows = [
            [_price(s.price), _size(s.size), s.event_us / 1e6, "b" if s.side == 1 else "s", "m", "", s.number]
            for s in found
        ]
        return {"error": [], "result": {symbol: rows, "last": str(found[-1].event_us * 1_000 if found else since)}}


class CoinbaseWords:
    """Trades are told by their maker's side; heartbeats tell the last one. For the adapter that reads a declaration."""

    url_path = ""

    def __init__(self, market: Market) -> None:
        self.market = market

    def wants(self, said: dict[str, Any]) -> tuple[list[str], list[str]]:
        assert said["type"] == "subscribe"
        wanted = [f"{channel}:{product}" for channel in said["channels"] for product in said["product_ids"]]
        return wanted, [json.dumps({"type": "subscriptions", "channels": said["channels"]})]

    def greeting(self, wanted: list[str], position: int) -> list[str]:
        said = []
        for name in wanted:
            channel, _, symbol = name.partition(":")
            if channel == "level2":
                state = self.market.states[symbol][position]
                sides = {
                    name: [[_price(p), _size(s)] for p, s in sorted(side.items())]
                    for name, side in (("bids", state.bids), ("asks", state.asks))
                }
                said.append(json.dumps({"type": "snapshot", "product_id": symbol, **sides}))
        return said

    def heartbeat(self, position: int) -> str | None:
        symbol = self.market.symbols[0]
        last = self.market.states[symbol][position].trades
        return json.dumps(
            {"type": "heartbeat", "sequence": 90, "last_trade_id": last, "product_id": symbol, "time": _iso(FIRST_US)}
        )

    def frame(self, position: int, wanted: set[str]) -> str | None:
        step = self.market.steps[position]
        if step.kind == "trade" and f"matches:{step.symbol}" in wanted:
            return json.dumps({"type": "match", "maker_order_id": "a", "taker_order_id": "b", **self._trade(step)})
        if step.kind == "book" and f"level2:{step.symbol}" in wanted:
            changes = [["buy" if side == 1 else "sell", _price(p), _size(s)] for side, p, s in step.changes]
            time = _iso(step.event_us)
            return json.dumps({"type": "l2update", "product_id": step.symbol, "changes": changes, "time": time})
        return None

    def _trade(self, step: Step) -> dict[str, Any]:
        return {
            "trade_id": step.number, "sequence": 50, "time": _iso(step.event_us), "product_id": step.symbol,
            "size": _size(step.size), "price": _price(step.price), "side": "sell" if step.side == 1 else "buy",
        }  # fmt: skip

    def answer(self, target: str, headers: Any, position: int) -> Any:
        query = parse_qs(urlsplit(target).query)
        symbol = urlsplit(target).path.split("/")[2]
        found = [step for step in self.market.trades(symbol, position) if step.number < int(query["after"][0])]
        newest = found[-int(query["limit"][0]) :]
        return [self._trade(step) for step in reversed(newest)]


def books_equal(mine: tuple[dict[float, float], dict[float, float]], bids: Side, asks: Side) -> bool:
    """Whether a book that was rebuilt is the market's, every size to the last bit."""
    return mine == tuple({float(p): float(s) for p, s in side.items()} for side in (bids, asks))
