"""What a history of ticks holds, told the slow way: plain loops over rows, sharing nothing with the kernels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from orderflow_metrics import L1Quote

from tests.microstructure.ticks import BOOK, Columns


@dataclass(frozen=True)
class Trade:
    """A trade with its sign by the venue or by Lee and Ready, and the mid that it met (NaN: none)."""

    row: int
    time: float
    price: float
    size: float
    sign: float
    mid: float


@dataclass(frozen=True)
class Tape:
    """All rows' books after the event, the rows that changed the book, and the trades."""

    times: list[float]
    books: list[dict[str, float]]
    changes: list[int]
    trades: list[Trade]

    def mid(self, row: int) -> float:
        """The mid after a row."""
        return _mid(self.books[row])

    def until(self, row: int) -> Tape:
        """The same, cut off after a row."""
        return Tape(
            self.times[: row + 1],
            self.books[: row + 1],
            [change for change in self.changes if change <= row],
            [trade for trade in self.trades if trade.row <= row],
        )

    def quotes(self, level: int, count: int) -> list[L1Quote]:
        """One level of the book after each of its last changes; an empty side as a price that none is below, or above."""
        suffix = "" if level == 1 else f"_{level}"
        quotes = []
        for row in self.changes[-count:]:
            book = self.books[row]
            bid, ask = book[f"bid{suffix}"], book[f"ask{suffix}"]
            quotes.append(
                L1Quote(
                    bid_price=bid if bid > 0 else -math.inf,
                    bid_size=book[f"bid_size{suffix}"] if bid > 0 else 0.0,
                    ask_price=ask if ask > 0 else math.inf,
                    ask_size=book[f"ask_size{suffix}"] if ask > 0 else 0.0,
                )
            )
        return quotes


def _mid(book: dict[str, float]) -> float:
    return (book["bid"] + book["ask"]) / 2 if 0 < book["bid"] <= book["ask"] else math.nan


def tape_of(columns: Columns) -> Tape:
    """Read all rows."""
    book = dict.fromkeys(BOOK, math.nan)
    books, changes, trades = [], [], []
    last_price, tick = math.nan, 0.0
    times = columns["time"].tolist()
    for row, time in enumerate(times):
        price = float(columns["price"][row])
        if price == price:
            mid = _mid(book)
            if price != last_price and last_price == last_price:
                tick = 1.0 if price > last_price else -1.0
            last_price = price
            sign = float(columns["side"][row])
            if sign != sign:
                sign = math.copysign(1.0, price - mid) if price != mid and mid == mid else tick
            trades.append(Trade(row, time, price, float(columns["size"][row]), sign, mid))
        carried = {name: float(columns[name][row]) for name in BOOK if not math.isnan(columns[name][row])}
        if carried:
            book = book | carried
            changes.append(row)
        books.append(book)
    return Tape(times, books, changes, trades)
