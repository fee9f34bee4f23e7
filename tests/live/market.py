"""A market that happens the same way every time, step by step, and what is true of it at each step."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from decimal import Decimal

FIRST_US = 1_699_974_000_000_000  # 2023-11-14 15:00 UTC
Side = dict[Decimal, Decimal]


@dataclass
class Step:
    """One thing that happens: a trade, a change of the book, or a new best bid and ask."""

    kind: str
    symbol: str
    event_us: int
    number: int = 0
    first: int = 0
    price: Decimal = Decimal(0)
    size: Decimal = Decimal(0)
    side: int = 0
    changes: list[tuple[int, Decimal, Decimal]] = field(default_factory=list)


@dataclass
class State:
    """Of one symbol, after some step."""

    bids: Side
    asks: Side
    update: int
    trades: int

    def copy(self) -> State:
        return State(dict(self.bids), dict(self.asks), self.update, self.trades)

    def put(self, side: int, price: Decimal, size: Decimal) -> None:
        levels = self.bids if side == 1 else self.asks
        if size:
            levels[price] = size
        else:
            levels.pop(price, None)


class Market:
    """Steps, and each symbol's state before and after every one of them.

    Parameters
    ----------
    symbols
        As the venue writes them.
    count
        Steps.
    seed
        Of chance.
    levels
        Levels a side at the beginning.
    """

    def __init__(self, symbols: list[str], count: int, seed: int, levels: int = 14) -> None:
        chance = random.Random(seed)
        self.symbols = symbols
        self.steps: list[Step] = []
        self.states: dict[str, list[State]] = {symbol: [] for symbol in symbols}
        now = {symbol: self._first(chance, place, levels) for place, symbol in enumerate(symbols)}
        self.first_trade = {symbol: state.trades + 1 for symbol, state in now.items()}
        event_us = FIRST_US
        for _ in range(count):
            event_us += chance.randrange(1, 4_000)
            symbol = chance.choice(symbols)
            for each, state in now.items():
                self.states[each].append(state.copy())
            self.steps.append(self._step(chance, symbol, now[symbol], event_us))
        for each, state in now.items():
            self.states[each].append(state.copy())

    def _first(self, chance: random.Random, place: int, levels: int) -> State:
        mid = Decimal("45283.5") + 1000 * place
        bids = {mid - Decimal(number) / 10: _size(chance) for number in range(1, levels + 1)}
        asks = {mid + Decimal(number) / 10: _size(chance) for number in range(1, levels + 1)}
        return State(bids, asks, 400_900_000 + 1_000 * place, 60_000 + 100 * place)

    def _step(self, chance: random.Random, symbol: str, state: State, event_us: int) -> Step:
        kind = chance.choices(["book", "trade", "quote"], [55, 35, 10])[0]
        if kind == "trade":
            state.trades += 1
            side = chance.choice([1, -1])
            price = min(state.asks) if side == 1 else max(state.bids)
            return Step("trade", symbol, event_us, state.trades, price=price, size=_size(chance), side=side)
        if kind == "quote":
            return Step("quote", symbol, event_us, state.update)
        changes = []
        for _ in range(chance.randrange(1, 4)):
            side = chance.choice([1, -1])
            levels = state.bids if side == 1 else state.asks
            if chance.random() < 0.35 and len(levels) > 11:
                price, size = chance.choice(sorted(levels)), Decimal(0)
            else:
                best = max(state.bids) if side == 1 else min(state.asks)
                price = best - side * Decimal(chance.randrange(-1, 16)) / 10
                crossed = price >= min(state.asks) if side == 1 else price <= max(state.bids)
                price, size = (best, _size(chance)) if crossed else (price, _size(chance))
            state.put(side, price, size)
            changes.append((side, price, size))
        first = state.update + 1
        state.update = first + len(changes) - 1 + chance.randrange(0, 3)
        return Step("book", symbol, event_us, state.update, first, changes=changes)

    def trades(self, symbol: str, until: int) -> list[Step]:
        """Trades of a symbol among the first so many steps."""
        return [step for step in self.steps[:until] if step.kind == "trade" and step.symbol == symbol]


def _size(chance: random.Random) -> Decimal:
    return Decimal(chance.randrange(1, 10**9)) / Decimal(10**8)
