"""Redis' protocol on one connection: requests out, replies and news of changed keys in, all in their order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
from tapeline.core.errors import UnavailableError

REMEDY = "Start it (`tapeline up`) or check redis_url; the server reconnects by itself"
_RECEIVE_BYTES = 1 << 16
_READS_MAX = 16
_POLL_NS = 100_000


class Pipeline(asyncio.Protocol):
    """Requests out in one write per loop tick; replies in, first come, first served."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self.waiting: deque[tuple[asyncio.Future[Any], float, Callable[[Any], None] | None]] = deque()
        self.is_tracking = False
        self.lost: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._name = name
        self._reader = hiredis.Reader()
        self._outgoing: list[bytes] = []
        self._transport: Any = None
        self._reason = "it closed the connection"
        self._descriptor: int | None = None
        self._heard_s = time.monotonic()
        self._on_invalidated: Callable[[list[bytes] | None], None] = lambda _: None

    def track(self, on_invalidated: Callable[[list[bytes] | None], None]) -> None:
        """From now on pass news of changed keys on."""
        self._on_invalidated = on_invalidated
        self.is_tracking = True

    def listen(self, heard_s_max: float) -> bool:
        """Read what has arrived; whether anything was heard within so many seconds."""
        if self._descriptor is not None and not self._read_arrived(self._descriptor):
            return False
        return not self._transport.is_closing() and time.monotonic() - self._heard_s < heard_s_max

    def _read_arrived(self, descriptor: int) -> bool:
        for _ in range(_READS_MAX):
            if self._transport.is_closing():
                return False
            try:
                data = os.read(descriptor, _RECEIVE_BYTES)
            except BlockingIOError:
                return True
            except OSError:  # the transport finds out for itself, as it does about an end
                return False
            if not data:
                return False
            self.data_received(data)
            if len(data) < _RECEIVE_BYTES:
                return True
        return False  # there is so much to read that other requests should have their turn

    def allow_direct_access(self) -> None:
        """Let requests go round the transport where it has nothing of its own to write; not for TLS."""
        self._descriptor = self._transport.get_extra_info("socket").fileno()

    def send(
        self, command: tuple[bytes | str, ...], on_reply: Callable[[Any], None] | None = None
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        if self.lost.done():
            future.set_exception(self._failure())
            return future
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub knows pairs only
        if not self.waiting and not self._transport.is_closing():
            self._write_now(packed)  # nobody to share a write with: do not wait for the end of the tick
        else:
            if not self._outgoing:
                self._loop.call_soon(self._flush)
            self._outgoing.append(packed)
        self.waiting.append((future, time.monotonic(), on_reply))
        return future

    def _write_now(self, packed: bytes) -> None:
        written = 0
        if self._descriptor is not None and self._transport.get_write_buffer_size() == 0:
            with contextlib.suppress(OSError):  # full, or lost: the transport waits, or finds out
                written = os.write(self._descriptor, packed)
        if written < len(packed):
            self._transport.write(packed[written:])

    def poll(self, reply: asyncio.Future[Any]) -> None:
        """Read until the reply is there, for a moment; what does not come in it comes by the event loop."""
        if self._descriptor is None:
            return
        until = time.perf_counter_ns() + _POLL_NS
        while not reply.done() and not self._transport.is_closing() and time.perf_counter_ns() < until:
            try:
                data = os.read(self._descriptor, _RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except OSError:  # the transport finds out for itself, as it does about an end
                return
            if not data:
                return
            self.data_received(data)

    def abort(self, reason: str) -> None:
        self._reason = reason
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()

    def _failure(self) -> UnavailableError:
        return UnavailableError(f"Redis was lost: {self._reason}", where=self._name, remedy=REMEDY)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._heard_s = time.monotonic()
        self._reader.feed(data)
        while True:
            try:
                reply = self._reader.gets()
            except hiredis.ProtocolError as error:
                self.abort(f"it does not speak the Redis protocol ({error})")
                return
            if reply is False:
                return
            if isinstance(reply, hiredis.PushNotification):
                if reply and reply[0] == b"invalidate":
                    self._on_invalidated(reply[1])
                continue
            if not self.waiting:
                self.abort("it answered a request that nobody sent")
                return
            future, _, on_reply = self.waiting.popleft()
            if on_reply is not None and not isinstance(reply, Exception):
                on_reply(reply)
            if future.done():  # its request was cancelled: the reply was still due
                continue
            if isinstance(reply, Exception):
                future.set_exception(UnavailableError(f"Redis refused a command: {reply}", where=self._name))
            else:
                future.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._reason = str(exc) or type(exc).__name__
        self.is_tracking = False
        self._on_invalidated(None)
        while self.waiting:
            future, _, _ = self.waiting.popleft()
            if not future.done():
                future.set_exception(self._failure())
        if not self.lost.done():
            self.lost.set_result(None)
