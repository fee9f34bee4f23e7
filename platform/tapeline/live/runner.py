"""Runs a live source: connection, history, delivery and recording around one feed, in one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psycopg
from redis import Redis

from tapeline.core.clock import Clock, LiveClock
from tapeline.core.errors import ConfigurationError, LimitError, UnavailableError
from tapeline.live.connection import Connection, ConnectionCounters
from tapeline.live.delivery import Delivery
from tapeline.live.feed import Feed, FeedCounters
from tapeline.live.fetching import FetchCounters, Fetcher
from tapeline.live.frames import Frame, FrameKind
from tapeline.live.outcome import Outcome
from tapeline.live.recorder import KEEP_BYTES, Recorder
from tapeline.live.retrying import Backoff
from tapeline.live.source import LiveSource
from tapeline.live.starting import start_frame
from tapeline.streaming.plan import StreamPlan

_DRAIN_S = 10.0
"""How long what waits may take to be delivered once the end was asked for."""
_LOOK_S = 0.25


@dataclass
class RunCounters:
    """Of all runs of this process.

    Attributes
    ----------
    runs
        How often a run began.
    sent
        Events that Redis acknowledged.
    waiting_max
        Most events that waited at once.
    stalled
        How often nothing was read from the venue since too many waited.
    delivery_retries
        Deliveries that were tried again.
    """

    runs: int = 0
    sent: int = 0
    waiting_max: int = 0
    stalled: int = 0
    delivery_retries: int = 0


@dataclass
class LiveRunner:
    """Listens to a live source until it is told to end.

    Attributes
    ----------
    source
        The declaration.
    plan
        The stream.
    redis
        A client that returns bytes.
    connect
        Opens a connection to PostgreSQL.
    record
        Folder of the recording; none: nothing is recorded.
    keep_bytes
        Room of all recordings of the source.
    clock
        The machine's clock if none is given.
    random
        For pauses.
    notice
        Takes words for the operator.
    """

    source: LiveSource
    plan: StreamPlan
    redis: Redis
    connect: Callable[[], psycopg.Connection[Any]]
    record: Path | None = None
    keep_bytes: int = KEEP_BYTES
    clock: Clock = field(default_factory=LiveClock)
    random: Random = field(default_factory=Random)
    notice: Callable[[str], None] = lambda _: None
    counters: RunCounters = field(default_factory=RunCounters)
    connections: ConnectionCounters = field(default_factory=ConnectionCounters)
    fetches: FetchCounters = field(default_factory=FetchCounters)
    seen: FeedCounters = field(default_factory=FeedCounters)
    _last_us: int = 0

    def totals(self) -> dict[str, Any]:
        """All counters by name."""
        return {**asdict(self.counters), **asdict(self.connections), **asdict(self.fetches), **asdict(self.seen)}

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set.

        Raises
        ------
        ConfigurationError
            If the declaration, the stream or the source do not fit, or the venue refuses what is asked of it at first.
        UnavailableError
            If a server is away at the beginning, or what waits cannot be delivered at the end.
        DiskFullError
            If the recording has no room.
        """
        delivery = await asyncio.to_thread(Delivery, self.source, self.plan, self.redis, self.connect)
        try:
            while not stop.is_set():
                await _Run(self, delivery).until(stop)
        finally:
            self.counters.sent = delivery.producer.sent
            delivery.close()

    def now_us(self) -> int:
        """The clock; while it steps back it stands still."""
        self._last_us = max(self._last_us, self.clock.now_us())
        return self._last_us


class _Run:
    """From one start frame to the end of its recording."""

    def __init__(self, runner: LiveRunner, delivery: Delivery) -> None:
        self._runner = runner
        self._source = runner.source
        self._delivery = delivery
        self._feed = Feed(runner.source, runner.seen)
        self._recorder: Recorder | None = None
        self._outbox = Outcome()
        self._in_flight = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._ending = False
        self._refused: ConfigurationError | None = None
        self._fetcher = Fetcher(runner.source, self._fetched, runner.random, runner.fetches)
        self._connection = Connection(
            runner.source, self._feed.adapter, self._take, self._wait_for_room, runner.now_us, runner.connections,
            runner.random, runner.notice,
        )  # fmt: skip

    async def until(self, stop: asyncio.Event) -> None:
        """Until the end was asked for, or the recording has no room for more of this run."""
        positions, gaps = await asyncio.to_thread(self._delivery.earlier)
        runner = self._runner
        now_us = runner.now_us()
        runner.counters.runs += 1
        if runner.record is not None:
            self._recorder = Recorder(runner.record, self._source, now_us, keep_bytes=runner.keep_bytes)
        try:
            self._take(start_frame(now_us, positions, gaps))
            await self._work(stop)
        finally:
            if self._recorder is not None:
                self._recorder.close()

    async def _work(self, stop: asyncio.Event) -> None:
        sender = asyncio.create_task(self._send())
        tasks = [
            asyncio.create_task(each) for each in (self._connection.hold(), self._fetcher.run(), self._watch(stop))
        ]
        try:
            done, _ = await asyncio.wait([*tasks, sender], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancel(tasks)
            await self._drain(sender)
        for task in done:
            task.result()

    async def _watch(self, stop: asyncio.Event) -> None:
        """Return when this run is to end."""
        while not stop.is_set() and not (self._recorder is not None and self._recorder.is_full):
            if self._refused is not None:
                raise self._refused
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await stop.wait()

    async def _drain(self, sender: asyncio.Task[None]) -> None:
        self._ending = True
        self._wake.set()
        try:
            async with asyncio.timeout(_DRAIN_S):
                await sender
        except TimeoutError:
            raise UnavailableError(
                f"{self._outbox.events + self._in_flight} events could not be delivered before the end",
                where=f"live source {self._source.name}",
                remedy="What is missing is asked of the venue's history when the source runs again",
            ) from None

    # Frames -----------------------------------------------------------------------------------------------------------

    def _take(self, frame: Frame) -> Outcome:
        """Record a frame, and do what the feed says about it."""
        if self._recorder is not None:
            self._recorder.append(frame)
        outcome = self._feed.take(frame)
        for ask in outcome.asks:
            self._fetcher.ask(ask)
        self._connection.say(outcome.says)
        self._refuse(outcome.refusals)
        if outcome.events or outcome.gaps or outcome.refused:
            self._outbox.add(outcome)
            self._wake.set()
            waiting = self._outbox.events + self._in_flight
            self._runner.counters.waiting_max = max(self._runner.counters.waiting_max, waiting)
        return outcome

    def _fetched(self, kind: FrameKind, tag: str, data: bytes) -> None:
        self._take(Frame(kind, self._runner.now_us(), data, tag))

    def _refuse(self, reasons: Sequence[str]) -> None:
        """What a venue refuses at first is a mistake of the declaration; later it is told and lived with."""
        for reason in reasons:
            self._runner.notice(f"{self._source.name}: the venue refuses: {reason}")
            if self._runner.connections.connected == 1 and self._runner.counters.sent == 0:
                self._refused = ConfigurationError(
                    f"the venue refuses: {reason}", where=f"live source {self._source.name}"
                )

    async def _wait_for_room(self) -> bool:
        """Wait until no more events wait than may; returns whether that was so at once."""
        limit = self._source.limits.waiting_events_max
        if self._outbox.events + self._in_flight < limit:
            return True
        self._runner.counters.stalled += 1
        while self._outbox.events + self._in_flight >= limit:
            self._room.clear()
            await self._room.wait()
        return False

    # Delivery ---------------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._outbox = self._outbox, Outcome()
            if batch.events or batch.gaps or batch.refused:
                if self._recorder is not None:
                    self._recorder.flush()  # nothing is sent that the recording may not have
                self._in_flight = batch.events
                await self._deliver(batch)
                self._in_flight = 0
                self._runner.counters.sent = self._delivery.producer.sent
                self._room.set()
            elif self._ending:
                return
            if self._ending:
                self._wake.set()

    async def _deliver(self, batch: Outcome) -> None:
        backoff = Backoff(0.1, 5.0, self._runner.random)
        while True:
            try:
                await asyncio.to_thread(self._delivery.deliver, batch)
                return
            except (UnavailableError, LimitError) as error:
                self._runner.counters.delivery_retries += 1
                self._runner.notice(f"{self._source.name}: {error}")
            await asyncio.sleep(backoff.next_s())


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
