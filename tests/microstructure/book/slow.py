"""A book as one would write it first: a dictionary of orders, everything else computed anew after each event."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from math import inf, isnan, nan

from tapeline.kernels.book import ADD, BEGIN_SNAPSHOT, CANCEL, END_SNAPSHOT, EXECUTE, MODIFY, SET, TRADE

DUST = 1e-9


@dataclass
class Order:
    side: int
    price: float
    size: float
    entered: int
    withheld: bool


def _possible(x: float) -> bool:
    return 0.0 < x < inf


@dataclass
class SlowBook:
    """By order."""

    depth: int
    patience_us: int
    orders: dict[int, Order] = field(default_factory=dict)
    levels: dict[int, dict[float, set[int]]] = field(default_factory=lambda: {1: {}, -1: {}})
    prices: dict[int, list[float]] = field(default_factory=lambda: {1: [], -1: []})
    counts: dict[str, float] = field(default_factory=dict)
    waiting: list[int] = field(default_factory=list)
    loading: bool = False

    def count(self, name: str, by: float = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + by

    def best(self, side: int) -> float | None:
        prices = self.prices[side]
        return prices[-1 if side > 0 else 0] if prices else None

    def crosses(self, order: Order) -> bool:
        best = self.best(-order.side)
        return best is not None and (order.price - best) * order.side >= 0

    def rest(self, number: int) -> None:
        order = self.orders[number]
        if order.withheld:
            self.waiting.remove(number)
        order.withheld = False
        level = self.levels[order.side]
        if order.price not in level:
            level[order.price] = set()
            bisect.insort(self.prices[order.side], order.price)
        level[order.price].add(number)

    def leave(self, number: int) -> None:
        order = self.orders[number]
        if order.withheld:
            self.waiting.remove(number)
            return
        members = self.levels[order.side][order.price]
        members.remove(number)
        if not members:
            del self.levels[order.side][order.price]
            self.prices[order.side].remove(order.price)

    def enter(self, number: int, side: int, price: float, size: float, now: int) -> None:
        order = self.orders[number] = Order(side, price, size, now, withheld=True)
        self.waiting.append(number)
        if self.crosses(order):
            self.count("withheld")
        else:
            self.rest(number)

    def settle(self, now: int) -> None:
        for number in list(self.waiting):
            order = self.orders[number]
            while self.crosses(order) and now - order.entered >= self.patience_us:
                best = self.best(-order.side)
                gone = self.levels[-order.side][best]
                self.count("crossed_levels")
                for other in list(gone):
                    self.count("crossed_orders")
                    self.count("crossed_size", self.orders[other].size)
                    self.leave(other)
                    del self.orders[other]
            if not self.crosses(order):
                self.rest(number)

    def take(self, now: int, action: int, number: int, side: int, price: float, size: float) -> list[float]:
        """One event; the row after it."""
        trade = [nan, nan, nan]
        order = self.orders.get(number)
        if action in (ADD, MODIFY):
            if not _possible(price) or not _possible(size):
                self.count("refused")
            elif action == ADD or order is not None:
                if order is not None:
                    if action == ADD:
                        self.count("duplicate")
                    side = side if action == ADD else order.side
                    if action == MODIFY and price == order.price and size <= order.size:
                        order.size = size
                        side = 0
                    else:
                        self.leave(number)
                if side:
                    self.enter(number, side, price, size, now)
            else:
                self.count("unknown")
        elif action in (CANCEL, EXECUTE):
            if order is None:
                self.count("unknown")
            elif not (action == CANCEL and isnan(size)) and not _possible(size):
                self.count("refused")
            else:
                if action == EXECUTE and not order.withheld:
                    trade = [price if _possible(price) else order.price, size, -order.side]
                if isnan(size) or order.size - size <= DUST * size:
                    if size - order.size > DUST * size:
                        self.count("excess")
                    self.leave(number)
                    del self.orders[number]
                else:
                    order.size -= size
        elif action == TRADE:
            if _possible(price) and _possible(size):
                trade = [price, size, side or nan]
            else:
                self.count("refused")
        elif action == BEGIN_SNAPSHOT:
            self.orders, self.levels, self.prices, self.waiting = {}, {1: {}, -1: {}}, {1: [], -1: []}, []
            self.loading = True
        else:
            assert action == END_SNAPSHOT
            self.loading = False
        self.settle(now)
        return [float(now), *trade, *self.quotes()]

    def top(self, side: int) -> list[tuple[float, float]]:
        prices = self.prices[side][::-1] if side > 0 else self.prices[side]
        prices = [] if self.loading else prices[: self.depth]
        found = [(p, sum(self.orders[n].size for n in self.levels[side][p])) for p in prices]
        return found + [(0.0, 0.0)] * (self.depth - len(found))

    def quotes(self) -> list[float]:
        bids, asks = self.top(1), self.top(-1)
        (bid, bid_size), (ask, ask_size) = bids[0], asks[0]
        deeper = [[level[kind] for level in side[1:]] for kind in (0, 1) for side in (bids, asks)]
        return [bid, ask, bid_size, ask_size, *(x for part in deeper for x in part)]


@dataclass
class SlowLevels:
    """By level: a dictionary of prices for each side."""

    depth: int
    sides: dict[int, dict[float, float]] = field(default_factory=lambda: {1: {}, -1: {}})
    counts: dict[str, float] = field(default_factory=dict)
    loading: bool = False

    def count(self, name: str, by: float = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + by

    def take(self, now: int, action: int, side: int, price: float, size: float) -> list[float]:
        """One event; the row after it."""
        trade = [nan, nan, nan]
        if action == SET:
            if not _possible(price) or not 0 <= size < inf:
                self.count("refused")
            elif size == 0:
                if self.sides[side].pop(price, None) is None:
                    self.count("unknown")
            else:
                for other in [p for p in self.sides[-side] if (price - p) * side >= 0]:
                    self.count("crossed_levels")
                    self.count("crossed_size", self.sides[-side].pop(other))
                self.sides[side][price] = size
        elif action == TRADE:
            if _possible(price) and _possible(size):
                trade = [price, size, side or nan]
            else:
                self.count("refused")
        elif action == BEGIN_SNAPSHOT:
            self.sides = {1: {}, -1: {}}
            self.loading = True
        else:
            self.loading = False
        tops = []
        for kind in (1, -1):
            best = sorted(self.sides[kind].items(), reverse=kind > 0)[: 0 if self.loading else self.depth]
            tops.append(best + [(0.0, 0.0)] * (self.depth - len(best)))
        bids, asks = tops
        deeper = [[level[kind] for level in part[1:]] for kind in (0, 1) for part in (bids, asks)]
        first = [bids[0][0], asks[0][0], bids[0][1], asks[0][1]]
        return [float(now), *trade, *first, *(x for part in deeper for x in part)]
