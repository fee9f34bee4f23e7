"""The two kinds of rows that indicators read, bars and ticks, and what a possible value of each column is.

A **bar** carries all its columns. A **tick** is one event, a trade or a change of the book, and carries some of them:

* NaN says that the event does not carry the column. A trade has ``price``, ``size`` and perhaps ``side``; a book update
  has what it changed of the quotes. What an event does not carry is as it was.
* ``bid``, ``ask`` and the levels behind them are the book *after* the event. The quote that a trade met is therefore the
  one of the rows before it; a feed that sends the met quote with the trade gives it in a row before the trade's.
* A quoted price of 0 says that this side, or this level, is empty from now on (as in NYSE TAQ). A size of 0 at a price
  says that nothing is queued there.
* ``side`` is +1 where a buyer met an order that waited, −1 where a seller did, NaN where the venue does not tell.
* ``time`` is the event time in microseconds, exact below 2**53.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Schema = Literal["bars", "ticks"]

LEVELS = 5
"""Price levels of each side that a tick carries at most, the best one included."""


@dataclass(frozen=True)
class Column:
    """A column of a row.

    Parameters
    ----------
    schema
        The kind of row it belongs to.
    split_power
        Power of the cumulative split factor that adjusts it: 1 for a price, −1 for a number of shares.
    condition
        Python condition on ``{0}``, the value, that every possible one fulfils and NaN does not.
    """

    schema: Schema
    split_power: int
    condition: str


_PRICE = (1, "0.0 < {0} < math.inf")
_SHARES = (-1, "0.0 <= {0} < math.inf")
_NUMBER = (0, "-math.inf < {0} < math.inf")
_QUOTE = (1, "0.0 <= {0} < math.inf")  # 0: no such level


def _levels(name: str) -> tuple[str, ...]:
    return (name, *(f"{name}_{level}" for level in range(2, LEVELS + 1)))


BIDS, ASKS, BID_SIZES, ASK_SIZES = _levels("bid"), _levels("ask"), _levels("bid_size"), _levels("ask_size")
"""Columns of one side of the book, best level first."""

COLUMNS: Mapping[str, Column] = MappingProxyType(
    {
        **{name: Column("bars", *_PRICE) for name in ("open", "high", "low", "close")},
        "volume": Column("bars", *_SHARES),
        "session": Column("bars", *_NUMBER),
        "time": Column("ticks", *_NUMBER),
        "price": Column("ticks", *_PRICE),
        "size": Column("ticks", -1, "0.0 < {0} < math.inf"),
        "side": Column("ticks", 0, "({0} == 1.0 or {0} == -1.0)"),
        **{name: Column("ticks", *_QUOTE) for name in ("bid", "ask")},
        **{name: Column("ticks", *_SHARES) for name in ("bid_size", "ask_size")},
        **{name: Column("ticks", *_QUOTE) for name in (*BIDS[1:], *ASKS[1:])},
        **{name: Column("ticks", *_SHARES) for name in (*BID_SIZES[1:], *ASK_SIZES[1:])},
    }
)
"""Every column that an indicator may take, in row order."""

INPUTS = tuple(name for name, column in COLUMNS.items() if column.schema == "bars")
"""Columns of a bar, in row order."""

TICK_INPUTS = tuple(name for name, column in COLUMNS.items() if column.schema == "ticks")
"""Columns of a tick, in row order."""


def schemas_of(names: Iterable[str]) -> set[Schema]:
    """The kinds of rows that columns belong to."""
    return {COLUMNS[name].schema for name in names}
