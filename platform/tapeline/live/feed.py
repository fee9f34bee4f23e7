"""Decides what each frame means: rows, gaps, requests. It does no I/O and reads no clock, so the same frames always give the same.

Trades go out as they come; what their numbers show to be missing is asked of the venue's history and goes out late, with its true
time. Books go out only while they are known to be right.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from tapeline.core.errors import InvalidDataError
from tapeline.live.adapters import Adapter, adapter_of
from tapeline.live.book_sync import BookResult, BookSync
from tapeline.live.frames import Frame, FrameKind
from tapeline.live.gaps import UNNUMBERED, Gap, GapReason, GapState, Remedy
from tapeline.live.messages import (
    BookSnapshot,
    BookUpdate,
    LastTrade,
    Message,
    QuoteMessage,
    Refusal,
    TradeMessage,
)
from tapeline.live.outcome import Ask, Outcome, Say
from tapeline.live.parsing import decode
from tapeline.live.source import LiveSource
from tapeline.live.starting import read_start
from tapeline.live.trade_flow import TradeFlow
from tapeline.streaming.codec import EventKind


@dataclass
class FeedCounters:
    """What a feed has seen.

    Attributes
    ----------
    frames
        In all.
    trades, quotes, book_rows
        Rows that went out.
    late
        Trades among them that had been missing.
    repeated
        Trades that were had already.
    ignored
        Messages that say nothing new: unasked symbols, changes that a book contains, quotes that are outdated.
    refused
        Frames without a known form.
    snapshots
        Books that were made right.
    """

    frames: int = 0
    trades: int = 0
    quotes: int = 0
    book_rows: int = 0
    late: int = 0
    repeated: int = 0
    ignored: int = 0
    refused: int = 0
    snapshots: int = 0

    def as_dict(self) -> dict[str, int]:
        """For people and scripts."""
        return asdict(self)


@dataclass
class _Quotes:
    """Of one symbol: the last number, sequence and time, and in which connection that was."""

    number: int = -1
    sequence: int = -1
    event_us: int = 0
    connection: int = 0


class Feed:
    """One run of a live source.

    Parameters
    ----------
    source
        The declaration.
    counters
        Counted up; new ones if none.
    """

    def __init__(self, source: LiveSource, counters: FeedCounters | None = None) -> None:
        self.source = source
        self.adapter: Adapter = adapter_of(source)
        self.counters = counters or FeedCounters()
        self.connection = 0
        self._channels = frozenset(source.channels)
        self._trades = {symbol: TradeFlow(source, self.adapter, symbol, self.counters) for symbol in source.symbols}
        self._books = {
            symbol: BookSync(numbered=self.adapter.numbered_books, depth=self.adapter.book_depth)
            for symbol in source.symbols
        }
        self._book_gaps: dict[str, Gap] = {}
        self._book_tries: dict[str, int] = {}
        self._quotes = {symbol: _Quotes() for symbol in source.symbols}

    def take(self, frame: Frame) -> Outcome:
        """Take a frame in.

        Returns
        -------
        Outcome
            What is to be done about it. A frame that has no known form is in its ``refused``, and changes nothing else.
        """
        out = Outcome()
        self.counters.frames += 1
        try:
            if frame.kind is FrameKind.text:
                for message in self.adapter.parse(decode(frame.data)):
                    self._handle(message, frame.receive_us, out)
            elif frame.kind is FrameKind.start:
                self._start(frame, out)
            elif frame.kind is FrameKind.opened:
                self.connection += 1
            elif frame.kind is FrameKind.closed:
                self._closed(frame.receive_us, out)
            else:
                self._answered(frame, out)
        except InvalidDataError as error:
            self.counters.refused += 1
            out.refused.append((str(error), frame.data))
        self.counters.trades += len(out.trades)
        self.counters.quotes += len(out.quotes)
        self.counters.book_rows += len(out.books)
        return out

    # A run ------------------------------------------------------------------------------------------------------------

    def _start(self, frame: Frame, out: Outcome) -> None:
        positions, gaps = read_start(frame)
        for symbol, (number, event_us) in positions.items():
            if symbol in self._trades:
                self._trades[symbol].resume(number, event_us)
        names = {ours: theirs for theirs, ours in self.source.symbols.items()}
        for gap in gaps:
            theirs = names.get(gap.symbol)
            if theirs is not None and gap.kind is EventKind.trades:
                self._trades[theirs].reopen(gap, out)
            elif theirs is not None and gap.kind is EventKind.book_events:
                self._book_gaps[theirs] = gap  # the snapshot of this run will fill it

    def _closed(self, receive_us: int, out: Outcome) -> None:
        for symbol, book in self._books.items():
            if "book" in self._channels:
                self._book_result(symbol, book.disconnected(), receive_us, book.event_us, out)

    def _handle(self, message: Message, receive_us: int, out: Outcome) -> None:
        if isinstance(message, Refusal):
            out.refusals.append(message.reason)
            return
        if message.symbol not in self.source.symbols:
            self.counters.ignored += 1
            return
        if isinstance(message, TradeMessage | LastTrade):
            if "trades" in self._channels:
                self._require_past(message, receive_us)
                self._trades[message.symbol].take(message, receive_us, self.connection, out)
        elif isinstance(message, QuoteMessage):
            if "quotes" in self._channels:
                self._require_past(message, receive_us)
                self._quote(message, receive_us, out)
        elif "book" in self._channels:
            self._require_past(message, receive_us)
            self._book(message, receive_us, out)

    def _require_past(self, message: Message, receive_us: int) -> None:
        event_us = getattr(message, "event_us", None)
        if event_us is not None and event_us > receive_us + self.source.limits.clock_skew_s * 1e6:
            raise InvalidDataError(f"an event of {message!r:.80} lies {event_us - receive_us} µs in the future")

    # Quotes -----------------------------------------------------------------------------------------------------------

    def _quote(self, message: QuoteMessage, receive_us: int, out: Outcome) -> None:
        known = self._quotes[message.symbol]
        event_us = receive_us if message.event_us is None else message.event_us
        if message.number is not None:
            if message.number <= known.number:
                self.counters.ignored += 1
                return
            known.number = sequence = message.number
        else:
            sequence = max(receive_us, known.sequence + 1)
        ours = self.source.symbols[message.symbol]
        if known.connection not in {0, self.connection}:
            out.gaps.append(
                Gap(
                    EventKind.quotes, ours, receive_us, UNNUMBERED, UNNUMBERED, known.event_us, event_us,
                    GapReason.disconnect, GapState.unfillable, Remedy.none, 0, receive_us, "the venue keeps no quotes",
                )
            )  # fmt: skip
        known.sequence, known.event_us, known.connection = sequence, event_us, self.connection
        prices = (message.bid_price, message.bid_size, message.ask_price, message.ask_size)
        out.quotes.append((ours, event_us, sequence, max(receive_us, event_us), *prices))

    # Books ------------------------------------------------------------------------------------------------------------

    def _book(self, message: BookUpdate | BookSnapshot, receive_us: int, out: Outcome) -> None:
        book = self._books[message.symbol]
        since_us = book.event_us
        result = book.update(message) if isinstance(message, BookUpdate) else book.snapshot(message)
        self._book_result(message.symbol, result, receive_us, since_us, out)

    def _book_result(self, symbol: str, result: BookResult, receive_us: int, since_us: int, out: Outcome) -> None:
        ours = self.source.symbols[symbol]
        if result.ignored:
            self.counters.ignored += 1
        for row in result.rows:
            available_us = max(receive_us, row.event_us)
            out.books.append(
                (ours, row.event_us, row.sequence, available_us, row.price, row.size, row.side, row.action)
            )
        if result.repaired:
            self.counters.snapshots += 1
            self._book_tries.pop(symbol, None)
            gap = self._book_gaps.pop(symbol, None)
            if gap is not None:
                out.gaps.append(
                    replace(
                        gap, state=GapState.filled, remedy=Remedy.snapshot, until_us=result.rows[0].event_us, missing=0,
                        changed_us=receive_us,
                    )
                )  # fmt: skip
        if result.lost is not None and symbol not in self._book_gaps:
            reason, first, last = result.lost
            first, last = (UNNUMBERED if number is None else number for number in (first, last))
            gap = Gap(
                EventKind.book_events, ours, receive_us, first, last, since_us, 0, GapReason(reason), GapState.found,
                Remedy.none, 0 if first == UNNUMBERED else last - first + 1, receive_us,
            )  # fmt: skip
            self._book_gaps[symbol] = gap
            out.gaps.append(gap)
        if result.ask:
            self._ask_book(symbol, out)

    def _ask_book(self, symbol: str, out: Outcome) -> None:
        """Ask for a book: at once, then with longer and longer pauses."""
        tries = self._book_tries.get(symbol, 0)
        self._book_tries[symbol] = tries + 1
        rest = self.source.rest
        delay_s = min(rest.retry_max_s, rest.retry_s * 2.0 ** min(tries - 1, 16)) if tries else 0.0
        request = self.adapter.snapshot_request(symbol)
        if request is None:
            out.says += [Say(text, delay_s) for text in self.adapter.resubscribe(symbol)]
        else:
            out.asks.append(Ask(f"book:{symbol}", request, delay_s, urgent=True))

    # Answers ----------------------------------------------------------------------------------------------------------

    def _answered(self, frame: Frame, out: Outcome) -> None:
        what, _, rest = frame.tag.partition(":")
        symbol = rest.rpartition(":")[0] if what == "trades" else rest
        if symbol not in self.source.symbols or what not in {"trades", "book"}:
            raise InvalidDataError(f"an answer to {frame.tag!r}, which was not asked")
        if what == "trades":
            self._trades[symbol].answered(int(rest.rpartition(":")[2]), frame, out)
            return
        book = self._books[symbol]
        try:
            if frame.kind is FrameKind.failed:
                raise InvalidDataError(frame.data.decode(errors="replace"))
            self._book(self.adapter.parse_snapshot(symbol, decode(frame.data)), frame.receive_us, out)
        except InvalidDataError as error:
            self.counters.refused += 1
            out.refused.append((str(error), frame.data))
            book.snapshot_failed()
            book.asked = True
            self._ask_book(symbol, out)

    @property
    def open_gaps(self) -> list[Gap]:
        """Gaps that are neither filled nor given up."""
        trades: Iterable[Gap] = (gap for flow in self._trades.values() for gap in flow.open)
        return [*trades, *self._book_gaps.values()]
