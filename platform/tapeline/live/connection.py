"""Holds a WebSocket: connects, subscribes, reads, notices a connection that is dead without saying so, and connects again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from tapeline.core.errors import ConfigurationError, MissingExtraError
from tapeline.live.adapters import Adapter
from tapeline.live.frames import Frame, FrameKind
from tapeline.live.outcome import Outcome, Say
from tapeline.live.retrying import Backoff
from tapeline.live.source import LiveSource

try:
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.exceptions import ConnectionClosed, InvalidURI, WebSocketException
except ImportError:  # pragma: no cover - the extra is not installed
    raise MissingExtraError("websockets", "live") from None

_FRAMES_QUEUED = 64
"""Frames that the library holds; beyond it the socket is not read, and the venue feels that."""
_CLOSE_S = 1.0


@dataclass
class ConnectionCounters:
    """Connections that stood, tries that failed, connections given up for their silence, bytes of messages."""

    connected: int = 0
    failed: int = 0
    silent: int = 0
    bytes: int = 0


class Connection:
    """A connection that is made again whenever it ends.

    Parameters
    ----------
    source, adapter
        The declaration, and the venue's format.
    take
        Takes frames.
    room
        Waits until there is room for more; false if it had to.
    now_us
        The clock.
    counters
        Counted up.
    random
        For pauses.
    notice
        Takes words for the operator.
    """

    def __init__(
        self,
        source: LiveSource,
        adapter: Adapter,
        take: Callable[[Frame], Outcome],
        room: Callable[[], Awaitable[bool]],
        now_us: Callable[[], int],
        counters: ConnectionCounters,
        random: Random,
        notice: Callable[[str], None],
    ) -> None:
        self._source = source
        self._adapter = adapter
        self._take = take
        self._room = room
        self._now_us = now_us
        self._counters = counters
        self._random = random
        self._notice = notice
        self._socket: ClientConnection | None = None
        self._heard_s = 0.0
        self._stalled = False
        self._was_silent = False
        self._speaking: set[asyncio.Task[None]] = set()

    async def hold(self) -> None:
        """Work until cancelled."""
        timing = self._source.timing
        backoff = Backoff(timing.retry_s, timing.retry_max_s, self._random)
        while True:
            began_s, opened, reason = time.monotonic(), False, "the end was asked for"
            try:
                async with connect(
                    self._adapter.url(),
                    max_size=self._source.limits.frame_bytes_max,
                    max_queue=_FRAMES_QUEUED,
                    open_timeout=timing.open_s,
                    ping_interval=timing.ping_s,
                    ping_timeout=timing.pong_s,
                    close_timeout=_CLOSE_S,
                ) as socket:
                    opened = True
                    await self._listen(socket)
            except InvalidURI as error:
                raise ConfigurationError(str(error), where=f"url of live source {self._source.name}") from None
            except (OSError, TimeoutError, WebSocketException) as error:
                reason = (
                    f"silent for {timing.silence_s:g} s" if self._was_silent else str(error) or type(error).__name__
                )
            finally:
                self._socket = None
                if opened:
                    self._take(Frame(FrameKind.closed, self._now_us(), reason.encode()))
                else:
                    self._counters.failed += 1
            if opened and time.monotonic() - began_s >= timing.stable_s:
                backoff.reset()
            pause_s = backoff.next_s()
            self._notice(f"{self._source.name}: {reason}; connecting again in {pause_s:.1f} s")
            await asyncio.sleep(pause_s)

    async def _listen(self, socket: ClientConnection) -> None:
        self._counters.connected += 1
        self._socket = socket
        self._was_silent = False
        self._heard_s = time.monotonic()
        self._take(Frame(FrameKind.opened, self._now_us(), b"", self._adapter.url()))
        watch = asyncio.create_task(self._watch(socket))
        try:
            for text in self._adapter.subscribe():
                await socket.send(text)
            while True:
                data = await socket.recv(decode=False)
                self._heard_s = time.monotonic()
                self._counters.bytes += len(data)
                self._take(Frame(FrameKind.text, self._now_us(), data))
                self._stalled = True
                if not await self._room():
                    self._heard_s = time.monotonic()
                self._stalled = False
        finally:
            watch.cancel()

    async def _watch(self, socket: ClientConnection) -> None:
        """End a connection over which nothing comes, also where the other side is gone without a word."""
        silence_s = self._source.timing.silence_s
        while True:
            await asyncio.sleep(silence_s / 4)
            if not self._stalled and time.monotonic() - self._heard_s > silence_s:
                self._was_silent = True
                self._counters.silent += 1
                socket.transport.abort()
                return

    def say(self, says: Sequence[Say]) -> None:
        """Say something over the connection that stands, if it still does then."""
        if says and self._socket is not None:
            task = asyncio.create_task(self._say(self._socket, sorted(says, key=lambda each: each.delay_s)))
            self._speaking.add(task)
            task.add_done_callback(self._speaking.discard)

    async def _say(self, socket: ClientConnection, says: Sequence[Say]) -> None:
        waited_s = 0.0
        for each in says:
            await asyncio.sleep(each.delay_s - waited_s)
            waited_s = each.delay_s
            if socket is not self._socket:
                return
            with suppress(ConnectionClosed):
                await socket.send(each.text)
