"""Keeps one book right: snapshot and changes put together, gaps noticed, a new snapshot asked for.

Two ways to know that nothing is missing. *Numbered* venues number each change: changes are buffered until a snapshot is there, those
that it contains are dropped, the next one must follow it directly, and so on. Others send the snapshot on subscribing and a
*checksum* with each change. Either way rows come out only of a book that is known to be right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from tapeline.core.errors import InvalidDataError
from tapeline.live.book import Book
from tapeline.live.messages import BookSnapshot, BookUpdate, Level

BUFFERED_MAX = 10_000
"""Changes that wait for a snapshot; beyond it all are dropped and the next snapshot is waited for anew."""
PLACES = 1 << 14
"""A row's sequence is the venue's number times this, plus its place: those of a change from the front on, those of the snapshot
with that number up to the end, so that neither takes the other's key."""
CHANGES_MAX = 1 << 12
"""Rows of a change at most; the other places are for snapshots."""
RESTART_US = 1_000_000
"""A change with a number that was had already, later than the book by this much, says that the venue counts anew."""
_NUMBER_MAX = (1 << 53) // PLACES

ADD, CHANGE, DELETE, CLEAR = "add", "change", "delete", "clear"


@dataclass(frozen=True, slots=True)
class BookRow:
    """A row of ``tapeline.book_events``; the price of a ``clear`` is NaN."""

    event_us: int
    sequence: int
    action: str
    side: int
    price: float
    size: float


class Standing(Enum):
    """Whether the book is known."""

    waiting = "waiting"
    right = "right"


@dataclass
class BookResult:
    """What a message did.

    Attributes
    ----------
    rows
        To be recorded.
    lost
        Why the book is not known any more: a reason, and first and last missing number (none where they have none).
    repaired
        Whether the book is right again.
    ask
        Whether a snapshot is needed now.
    ignored
        Why the message was left out; empty if it was not.
    """

    rows: list[BookRow] = field(default_factory=list)
    lost: tuple[str, int | None, int | None] | None = None
    repaired: bool = False
    ask: bool = False
    ignored: str = ""


class BookSync:
    """One symbol's book.

    Parameters
    ----------
    numbered
        Whether the venue numbers changes.
    depth
        Levels a side that the venue tells of; none: all.

    Attributes
    ----------
    standing
        Whether the book is known.
    book
        What is known; of no use while waiting.
    at
        Number of the last change in it.
    event_us
        Time of the last row.
    asked
        Whether a snapshot was asked for that has not come.
    """

    def __init__(self, *, numbered: bool, depth: int | None) -> None:
        self.numbered = numbered
        self.depth = depth
        self.standing = Standing.waiting
        self.book = Book(depth)
        self.at: int | None = None
        self.event_us = 0
        self.asked = False
        self._place = 0
        self._snapshot: BookSnapshot | None = None
        self._buffer: list[BookUpdate] = []
        self._heard_us = 0

    # What comes -------------------------------------------------------------------------------------------------------

    def update(self, message: BookUpdate) -> BookResult:
        """A change came.

        Raises
        ------
        InvalidDataError
            If the venue leaves out numbers that it should give, or a number is too large.
        """
        _require_room(message)
        if self.numbered:
            return self._numbered(message)
        if self.standing is Standing.waiting and self._snapshot is None:
            return BookResult(ask=self._first_ask(), ignored="no snapshot yet")
        if message.event_us < self.event_us:
            return BookResult(ignored="older than the book")
        result = self._begin(self._snapshot, message.event_us) if self._snapshot else BookResult()
        return self._checked(message, result)

    def snapshot(self, message: BookSnapshot) -> BookResult:
        """A snapshot came.

        Raises
        ------
        InvalidDataError
            As of :meth:`update`.
        """
        if self.numbered and self.standing is Standing.right:
            return BookResult(ignored="a snapshot that nobody waits for")
        self.asked = False
        self._snapshot = None
        _require_room(message)
        if self.numbered:
            self._snapshot = message
            return self._connect()
        whole = Book(self.depth)
        whole.apply(message.bids, message.asks)
        if message.checksum is not None and whole.checksum() != message.checksum:
            lost = ("checksum", None, None) if self.standing is Standing.right else None
            self._wait()
            return BookResult(lost=lost, ask=self._first_ask())
        if message.event_us is not None:
            return self._begin(message, message.event_us)
        self._snapshot = message  # its rows get the time of the first change after it
        return BookResult()

    def snapshot_failed(self) -> None:
        """The snapshot that was asked for will not come."""
        self.asked = False

    def disconnected(self) -> BookResult:
        """The connection ended: numbers tell later whether anything is missing, without them everything may be."""
        self.asked = self.asked and self.numbered
        if self.numbered:
            return BookResult()
        lost = ("disconnect", None, None) if self.standing is Standing.right else None
        self._wait()
        return BookResult(lost=lost)

    # Numbered ---------------------------------------------------------------------------------------------------------

    def _numbered(self, message: BookUpdate) -> BookResult:
        if message.first is None or message.last is None or not message.first <= message.last < _NUMBER_MAX:
            raise InvalidDataError(f"a change of the book has the numbers {message.first} to {message.last}")
        if self.at is not None and message.last <= self.at and message.event_us > self.event_us + RESTART_US:
            result = BookResult(lost=("renumbered", None, None) if self.standing is Standing.right else None)
            self._wait()
            self.at = None
            self._buffer.append(message)
            result.ask = self._first_ask()
            return result
        if self.standing is Standing.waiting:
            if len(self._buffer) >= BUFFERED_MAX:
                self._buffer.clear()
            self._buffer.append(message)
            return self._connect()
        assert self.at is not None
        if message.last <= self.at:
            return BookResult(ignored="in the book already")
        if message.first > self.at + 1:
            lost = ("sequence", self.at + 1, message.first - 1)
            self._wait()
            self._buffer.append(message)
            return BookResult(lost=lost, ask=self._first_ask())
        return self._apply(message, BookResult())

    def _connect(self) -> BookResult:
        """Put snapshot and buffered changes together, once both are there and nothing is missing between them."""
        snapshot = self._snapshot
        if snapshot is None:
            return BookResult(ask=self._first_ask())
        if snapshot.last is None or snapshot.last >= _NUMBER_MAX:
            self._snapshot = None
            raise InvalidDataError(f"a snapshot of the book has the number {snapshot.last}")
        if self.at is not None and snapshot.last < self.at:  # older than what was shown
            self._snapshot = None
            return BookResult(ask=self._first_ask())
        at = snapshot.last
        following: list[BookUpdate] = []
        contained = [each.event_us for each in self._buffer if each.last is not None and each.last <= at]
        self._buffer = sorted((each for each in self._buffer if each.last > at), key=_numbers)  # type: ignore[operator]
        for message in self._buffer:
            assert message.first is not None
            assert message.last is not None
            if message.last <= at:
                continue  # twice in the buffer
            if message.first > at + 1:  # a change between them is missing: only a later snapshot contains it
                self._snapshot = None
                return BookResult(ask=self._first_ask())
            following.append(message)
            at = message.last
        if contained:
            self._heard_us = max(self._heard_us, *contained)
        # A snapshot tells no time: it is that of the newest change in it that was heard, else of the first one after it.
        event_us = self._heard_us or (following[0].event_us if following else 0)
        if event_us == 0:
            return BookResult()
        result = self._begin(snapshot, event_us)
        for message in following:
            result = self._apply(message, result)
        self._buffer = []
        return result

    # Rows -------------------------------------------------------------------------------------------------------------

    def _begin(self, snapshot: BookSnapshot, event_us: int) -> BookResult:
        """Rows of a snapshot: the book is cleared, then filled."""
        self._snapshot = None
        self.book = Book(self.depth)
        levels = self.book.apply(snapshot.bids, snapshot.asks)
        result = BookResult(repaired=self.standing is Standing.waiting)
        self.standing = Standing.right
        self.at = snapshot.last
        rows = [(CLEAR, 0, None), *((ADD, side, level) for side, level in levels)]
        self._add(result, event_us, None if self.at is None else (self.at + 1) * PLACES - len(rows), rows)
        return result

    def _apply(self, message: BookUpdate, result: BookResult) -> BookResult:
        changed = self.book.apply(message.bids, message.asks)
        self.at = message.last
        rows = [(CHANGE if level.size else DELETE, side, level) for side, level in changed]
        self._add(result, message.event_us, None if message.last is None else message.last * PLACES, rows)
        return result

    def _checked(self, message: BookUpdate, result: BookResult) -> BookResult:
        """Apply a change, and give its rows only if the book has the venue's checksum then."""
        made = self._apply(message, BookResult())
        if message.checksum is not None and self.book.checksum() != message.checksum:
            was_right = not result.repaired
            self._wait()
            return BookResult(lost=("checksum", None, None) if was_right else None, ask=self._first_ask())
        result.rows += made.rows
        return result

    def _add(
        self, result: BookResult, event_us: int, first: int | None, rows: Sequence[tuple[str, int, Level | None]]
    ) -> None:
        later = event_us > self.event_us
        self.event_us = max(self.event_us, event_us)  # a venue's clock that steps back does not turn rows around
        if first is None:
            first = 0 if later else self._place
            self._place = first + len(rows)
        nan = float("nan")
        for place, (action, side, level) in enumerate(rows):
            price, size = (nan, nan) if level is None else (level.price, level.size)
            result.rows.append(BookRow(self.event_us, first + place, action, side, price, size))

    # Waiting ----------------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        self.standing = Standing.waiting
        self._snapshot = None
        self._buffer = []
        self._heard_us = 0

    def _first_ask(self) -> bool:
        """Whether to ask for a snapshot: once, until it comes or fails."""
        ask, self.asked = not self.asked, True
        return ask


def _require_room(message: BookUpdate | BookSnapshot) -> None:
    levels = len(message.bids) + len(message.asks)
    # In a book of limited depth each new level may push another one out.
    limit = CHANGES_MAX // 2 if isinstance(message, BookUpdate) else PLACES - CHANGES_MAX - 1
    if levels > limit:
        raise InvalidDataError(f"a message has {levels} levels, at most {limit} may be in one of its kind")


def _numbers(message: BookUpdate) -> tuple[int, int]:
    return message.last or 0, message.first or 0
