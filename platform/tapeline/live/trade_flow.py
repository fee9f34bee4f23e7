"""One symbol's trades: out as they come, what is missing asked for, filled or given up."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tapeline.core.errors import InvalidDataError
from tapeline.live.adapters import Adapter
from tapeline.live.frames import Frame, FrameKind
from tapeline.live.gaps import UNNUMBERED, Gap, GapReason, GapState, Remedy
from tapeline.live.messages import LastTrade, TradeMessage
from tapeline.live.outcome import Ask, Outcome
from tapeline.live.parsing import decode
from tapeline.live.source import LiveSource
from tapeline.live.trade_ids import OPEN_GAPS_MAX, Observed, OpenGap, Seen, TradeIds
from tapeline.streaming.codec import EventKind

if TYPE_CHECKING:
    from tapeline.live.feed import FeedCounters


class TradeFlow:
    """Trades of one symbol.

    Parameters
    ----------
    source, adapter, symbol
        Of what; the symbol is the venue's.
    counters
        Of the feed.
    """

    def __init__(self, source: LiveSource, adapter: Adapter, symbol: str, counters: FeedCounters) -> None:
        self._source = source
        self._adapter = adapter
        self._symbol = symbol
        self._ours = source.symbols[symbol]
        self._counters = counters
        self._ids = TradeIds(dense=adapter.dense_trades)
        self._records: dict[int, Gap] = {}
        self._cursors: dict[int, str] = {}
        self._connection = 0
        self._sequence = -1
        self._event_us = 0

    @property
    def open(self) -> list[Gap]:
        """Gaps that are neither filled nor given up."""
        return list(self._records.values())

    def resume(self, number: int, event_us: int) -> None:
        """Go on after a trade of an earlier run."""
        self._ids.last, self._ids.event_us = number, event_us

    def reopen(self, record: Gap, out: Outcome) -> None:
        """Go on filling a gap that an earlier run found."""
        gap = OpenGap(record.first, record.last, record.since_us, record.until_us)
        self._ids.gaps.append(gap)
        self._records[gap.first] = record
        self._ask(gap, out, 0.0)

    # The stream -------------------------------------------------------------------------------------------------------

    def take(self, message: TradeMessage | LastTrade, receive_us: int, connection: int, out: Outcome) -> None:
        """A trade came over the connection, or word of the last one."""
        if isinstance(message, LastTrade):
            self._note(self._ids.told(message.number, receive_us), receive_us, connection, out)
            return
        if message.past and (message.number is None or self._ids.last is None):
            self._counters.ignored += 1  # it happened before anybody listened
            return
        if message.number is None or not self._adapter.dense_trades:
            self._note_silence(message.event_us, receive_us, connection, out)
        if message.number is None:
            self._sequence = max(receive_us, self._sequence + 1)
            self._send(message, self._sequence, receive_us, out)
        else:
            observed = self._ids.observe(message.number, message.event_us)
            self._note(observed, receive_us, connection, out)
            if observed.seen is Seen.known:
                self._counters.repeated += 1
                return
            self._send(message, message.number, receive_us, out)
            if observed.touched is not None:
                self._counters.late += 1
                self._shrunk(observed.touched, Remedy.stream, receive_us, out)
        self._connection, self._event_us = connection, message.event_us

    def _send(self, message: TradeMessage, sequence: int, receive_us: int, out: Outcome) -> None:
        available_us = max(receive_us, message.event_us)
        out.trades.append(
            (self._ours, message.event_us, sequence, available_us, message.price, message.size, message.side)
        )
        if self._ids.last is not None:
            out.positions[self._symbol] = (self._ids.last, self._ids.event_us)

    def _note(self, observed: Observed, receive_us: int, connection: int, out: Outcome) -> None:
        """Record what a number shows."""
        if observed.restarted:
            detail = "the venue counts anew; trades before that may be missing"
            self._unfillable(GapReason.renumbered, self._event_us, self._ids.event_us, receive_us, detail, out)
        if observed.given_up is not None:
            self._give_up(observed.given_up, f"more than {OPEN_GAPS_MAX} gaps are open", receive_us, out)
        gap = observed.found
        if gap is not None:
            reason = GapReason.sequence
            if self._connection != connection:
                reason = GapReason.disconnect if self._connection else GapReason.downtime
            self._records[gap.first] = self._record(gap, receive_us, reason)
            out.gaps.append(self._records[gap.first])
            self._ask(gap, out, self._source.rest.grace_s)

    def _note_silence(self, event_us: int, receive_us: int, connection: int, out: Outcome) -> None:
        """A venue that does not number its trades cannot tell what a lost connection cost."""
        if self._connection not in {0, connection}:
            detail = "the venue does not number its trades without gaps"
            self._unfillable(GapReason.disconnect, self._event_us, event_us, receive_us, detail, out)

    def _unfillable(
        self, reason: GapReason, since_us: int, until_us: int, receive_us: int, detail: str, out: Outcome
    ) -> None:
        out.gaps.append(
            Gap(
                EventKind.trades, self._ours, receive_us, UNNUMBERED, UNNUMBERED, since_us, until_us, reason,
                GapState.unfillable, Remedy.none, 0, receive_us, detail,
            )
        )  # fmt: skip

    def _record(self, gap: OpenGap, found_us: int, reason: GapReason) -> Gap:
        return Gap(
            EventKind.trades, self._ours, found_us, gap.first, gap.last, gap.since_us, gap.until_us, reason,
            GapState.found, Remedy.none, gap.missing, found_us,
        )  # fmt: skip

    # The history ------------------------------------------------------------------------------------------------------

    def _ask(self, gap: OpenGap, out: Outcome, delay_s: float) -> None:
        limit = self._source.limits.gap_trades_max
        if gap.missing > limit:
            self._give_up(gap, f"{gap.missing} trades are missing, at most {limit} are asked for", 0, out)
            return
        first, last = gap.left[0][0], gap.left[-1][1]
        cursor = self._cursors.get(gap.first, "")
        request = self._adapter.trades_request(self._symbol, first, last, gap.since_us, cursor)
        if request is None:
            self._give_up(gap, "the venue has no history", 0, out)
            return
        out.asks.append(Ask(f"trades:{self._symbol}:{gap.first}", request, delay_s))

    def answered(self, first: int, frame: Frame, out: Outcome) -> None:
        """The history answered about the gap that begins with ``first``, or will not."""
        gap = next((gap for gap in self._ids.gaps if gap.first == first), None)
        if gap is None:
            self._counters.ignored += 1  # filled meanwhile by the stream
            return
        if frame.kind is FrameKind.failed:
            self._give_up(gap, frame.data.decode(errors="replace"), frame.receive_us, out)
            return
        before, cursor = gap.missing, self._cursors.pop(gap.first, "")
        detail = "the history does not have them"
        try:
            page = self._adapter.parse_trades(self._symbol, decode(frame.data))
            if page.trades:
                self._cursors[gap.first] = page.cursor
            self._take_page(gap, page.trades, frame.receive_us, out)
        except InvalidDataError as error:
            self._counters.refused += 1
            out.refused.append((str(error), frame.data))
            detail = str(error)
        if gap not in self._ids.gaps:
            return
        if gap.missing < before:
            gap.tries = 0
            self._ask(gap, out, 0.0)
            return
        gap.tries += 1
        if self._cursors.get(gap.first) == cursor:
            del self._cursors[gap.first]  # it did not move on: from the beginning again
        if gap.tries >= self._source.rest.empty_max:
            self._give_up(gap, detail, frame.receive_us, out)
        else:
            self._ask(gap, out, self._source.rest.grace_s * 2.0**gap.tries)

    def _take_page(self, gap: OpenGap, trades: tuple[TradeMessage, ...], receive_us: int, out: Outcome) -> None:
        for trade in sorted(trades, key=lambda each: each.number or 0):
            if trade.number is not None and gap.take(trade.number):
                self._counters.late += 1
                self._send(trade, trade.number, receive_us, out)
        self._shrunk(gap, Remedy.history, receive_us, out)

    def _shrunk(self, gap: OpenGap, remedy: Remedy, receive_us: int, out: Outcome) -> None:
        if gap.left:
            return
        self._close(gap)
        out.gaps.append(
            replace(
                self._records.pop(gap.first), state=GapState.filled, remedy=remedy, missing=0, changed_us=receive_us
            )
        )

    def _give_up(self, gap: OpenGap, detail: str, receive_us: int, out: Outcome) -> None:
        self._close(gap)
        record = self._records.pop(gap.first)
        out.gaps.append(
            replace(
                record, state=GapState.unfillable, missing=gap.missing, detail=detail[:500],
                changed_us=receive_us or record.changed_us,
            )
        )  # fmt: skip

    def _close(self, gap: OpenGap) -> None:
        if gap in self._ids.gaps:
            self._ids.close(gap)
        self._cursors.pop(gap.first, None)
