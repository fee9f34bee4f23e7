"""The declaration of a JSON format: where in a message which field stands, and in which unit."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from tapeline.live.parsing import TimeUnit

Kind = Literal["trades", "quotes", "book", "book_snapshot", "last_trade"]
_PATH = re.compile(r"/?[^./\s]+(\.[^./\s]+)*")


def _is_path(value: str) -> str:
    if not _PATH.fullmatch(value):
        raise ValueError(f"{value!r} is no path: write it like data.0.price, or /symbol from the frame's root")
    return value


Path = Annotated[str, AfterValidator(_is_path)]
"""Keys of objects and places in arrays with dots between; of the row, or with a slash before it of the whole frame."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Time(_Part):
    """A time: its path and unit."""

    path: Path
    unit: TimeUnit


class SideRule(_Part):
    """Who was the aggressor, or which side of the book: its path, and the values that mean either side."""

    path: Path
    buy: tuple[str | int | bool, ...] = Field(min_length=1)
    sell: tuple[str | int | bool, ...] = Field(min_length=1)


class Levels(_Part):
    """Where price and size stand in a level; with ``side`` bids and asks stand in one array."""

    price: Path = "0"
    size: Path = "1"
    side: SideRule | None = None


_NEEDED: dict[str, tuple[str, ...]] = {
    "trades": ("event", "price", "size"),
    "quotes": ("bid_price", "bid_size", "ask_price", "ask_size"),
    "book": ("event",),
    "book_snapshot": (),
    "last_trade": ("sequence",),
}


class RowRule(_Part):
    """Fields of a row; which are needed depends on the kind.

    Attributes
    ----------
    symbol, event, sequence
        Symbol, time, and the venue's number.
    price, size, side
        Of a trade.
    bid_price, bid_size, ask_price, ask_size
        Of a quote.
    first, last
        Numbers of the first and last change that a change of the book contains; of a snapshot only the last.
    bids, asks, changes, level
        Arrays of levels: one a side, or one of both.
    """

    symbol: Path | None = None
    event: Time | None = None
    sequence: Path | None = None
    price: Path | None = None
    size: Path | None = None
    side: SideRule | None = None
    bid_price: Path | None = None
    bid_size: Path | None = None
    ask_price: Path | None = None
    ask_size: Path | None = None
    first: Path | None = None
    last: Path | None = None
    bids: Path | None = None
    asks: Path | None = None
    changes: Path | None = None
    level: Levels = Levels()

    def lacks(self, kind: Kind) -> list[str]:
        """Which fields of a kind are not declared."""
        missing = [name for name in _NEEDED[kind] if getattr(self, name) is None]
        if kind in {"book", "book_snapshot"}:
            if self.changes is None and (self.bids is None or self.asks is None):
                missing.append("bids and asks (or changes)")
            if self.changes is not None and self.level.side is None:
                missing.append("level.side")
        return missing


class MessageRule(RowRule):
    """One kind of message.

    Attributes
    ----------
    kind
        What it is.
    match
        Paths and the values that a message of this kind has there.
    rows
        Path of an array of rows; none: the message is the one row.
    """

    kind: Kind
    match: dict[Path, str | int | bool] = Field(min_length=1)
    rows: Path | None = None

    @model_validator(mode="after")
    def _complete(self) -> MessageRule:
        missing = self.lacks(self.kind)
        if self.symbol is None:
            missing.insert(0, "symbol")
        if missing:
            raise ValueError(f"a message of kind {self.kind} needs {', '.join(missing)}")
        return self


class RefusalRule(_Part):
    """A message by which the venue refuses something."""

    match: dict[Path, str | int | bool] = Field(min_length=1)
    reason: Path


class History(RowRule):
    """How missing trades are asked for.

    Attributes
    ----------
    url
        With ``{symbol}``, ``{first}``, ``{last}``, ``{end}`` (last + 1) and ``{limit}`` in it.
    rows
        Path of the array of trades; none: the answer is the array.
    """

    url: str = Field(pattern=r"^https?://")
    rows: Path | None = None

    @model_validator(mode="after")
    def _complete(self) -> History:
        missing = [*self.lacks("trades"), *([] if self.sequence else ["sequence"])]
        if missing:
            raise ValueError(f"the history needs {', '.join(missing)}")
        if not {"{first}", "{last}", "{end}"} & set(re.findall(r"\{\w+\}", self.url)):
            raise ValueError("the history's url asks for no numbers: put {first}, {last} or {end} into it")
        return self


class Snapshot(RowRule):
    """How a book is asked for; ``url`` with ``{symbol}`` in it."""

    url: str = Field(pattern=r"^https?://")

    @model_validator(mode="after")
    def _complete(self) -> Snapshot:
        missing = [*self.lacks("book_snapshot"), *([] if self.last else ["last"])]
        if missing:
            raise ValueError(f"the snapshot needs {', '.join(missing)}")
        return self


class Mapping(_Part):
    """A JSON format.

    Attributes
    ----------
    subscribe
        What to say when the connection stands; ``{symbols}`` becomes the array of all, ``{symbol}`` one message for each.
    resubscribe
        What to say to get one symbol's book anew; with ``{symbol}`` in it.
    messages
        Kinds of messages; the first that matches counts.
    refusal, history, snapshot
        See there.
    dense_trades
        Whether trades of a symbol are numbered without gaps.
    """

    subscribe: tuple[str, ...] = ()
    resubscribe: tuple[str, ...] = ()
    messages: tuple[MessageRule, ...] = Field(min_length=1, max_length=64)
    refusal: RefusalRule | None = None
    history: History | None = None
    snapshot: Snapshot | None = None
    dense_trades: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> Mapping:
        books = [rule for rule in self.messages if rule.kind == "book"]
        numbered = {rule.last is not None for rule in books}
        if len(numbered) > 1 or any((rule.first is None) != (rule.last is None) for rule in books):
            raise ValueError("changes of the book are numbered by first and last, or not at all")
        in_band = any(rule.kind == "book_snapshot" for rule in self.messages)
        if books and not in_band and self.snapshot is None:
            raise ValueError("a book needs snapshots: a message of kind book_snapshot, or a snapshot's url")
        return self
