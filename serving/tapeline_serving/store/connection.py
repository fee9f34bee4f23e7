"""One pipelining connection to Redis.

A request that finds the connection idle is written at once; those that come while others wait leave together at the end of
their loop tick. Replies come back in order, so sixty concurrent requests cost Redis and the kernel about as much as one. No pool and no lock stand between a request and the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from tapeline.core.errors import UnavailableError

from tapeline_serving.store.address import RedisAddress

_BACKOFF_S_MIN = 0.02
_BACKOFF_S_MAX = 2.0
_RECEIVE_BYTES = 1 << 16
_POLL_NS = 100_000
_MAY_POLL = (os.cpu_count() or 1) > 1  # on one processor polling would only keep Redis from answering
_REMEDY = "Start it (`tapeline up`) or check redis_url; the server reconnects by itself"


class RedisConnection:
    """A connection that pipelines, times out, and reconnects by itself.

    Belongs to the event loop on which ``start`` was called; not thread-safe.

    Parameters
    ----------
    address
        Where Redis listens.
    timeout_s
        The longest a reply may take. A connection whose oldest request waits longer is given up, because a reply that
        still came would have to be matched to a request that is gone.
    waiting_max
        Requests in flight beyond which further ones are refused at once.
    on_change
        Called with ``True`` after connecting and ``False`` after a loss.
    """

    def __init__(
        self,
        address: RedisAddress,
        *,
        timeout_s: float = 1.0,
        waiting_max: int = 10_000,
        on_change: Callable[[bool], None] | None = None,
    ) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self.waiting_max = waiting_max
        self.errors = 0
        self._on_change = on_change or (lambda _: None)
        self._protocol: _Protocol | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """Whether requests can be sent now."""
        return self._protocol is not None

    async def start(self) -> bool:
        """Connect, and keep connected until ``close``; whether the first attempt succeeded."""
        first = asyncio.get_running_loop().create_future()
        self._keeper = asyncio.create_task(self._keep_connected(first), name="redis connection")
        return bool(await first)

    async def close(self) -> None:
        """Give up the connection; requests in flight fail."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        if self._protocol is not None:
            self._protocol.abort("the server is stopping")
            self._protocol = None

    def mget(self, keys: Sequence[bytes]) -> asyncio.Future[list[bytes | None]]:
        """Values of ``keys`` in their order, ``None`` where there is none, by one MGET.

        Raises
        ------
        UnavailableError
            As `execute`.
        """
        return self.execute(b"MGET", *keys)

    def poll(self, reply: asyncio.Future[Any]) -> None:
        """Hold the loop for up to 0.1 ms until an answer is there.

        Redis needs less than that, and falling asleep and being woken takes more. Right for a request that has the loop for
        itself.
        """
        if _MAY_POLL and not reply.done() and self._protocol is not None:
            self._protocol.poll(reply)

    def execute(self, *command: bytes) -> asyncio.Future[Any]:
        """The reply to any one command.

        Raises
        ------
        UnavailableError
            At once if there is no connection or too many requests wait; through the future if the connection is lost, the
            reply takes too long, or Redis refuses the command.
        """
        protocol = self._protocol
        if protocol is None:
            self.errors += 1
            raise UnavailableError("Redis is not connected", where=str(self.address), remedy=_REMEDY)
        if len(protocol.waiting) >= self.waiting_max:
            self.errors += 1
            raise UnavailableError(f"{self.waiting_max} requests wait for Redis", where=str(self.address))
        return protocol.send(command)

    async def _keep_connected(self, first: asyncio.Future[bool]) -> None:
        backoff_s = _BACKOFF_S_MIN
        while True:
            protocol = None
            try:
                protocol = await asyncio.wait_for(self._connect(), self.timeout_s)
            except (OSError, TimeoutError, UnavailableError, ssl.SSLError, hiredis.HiredisError):
                self.errors += 1
            if protocol is not None:
                backoff_s = _BACKOFF_S_MIN
                self._protocol = protocol
                self._on_change(True)
            if not first.done():
                first.set_result(protocol is not None)
            if protocol is not None:
                await self._watch(protocol)
                self._protocol = None
                self.errors += 1
                self._on_change(False)
            # Jitter keeps many servers from returning to a restarted Redis in step.
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311
            backoff_s = min(2 * backoff_s, _BACKOFF_S_MAX)

    async def _connect(self) -> _Protocol:
        loop = asyncio.get_running_loop()
        address = self.address
        if address.path is not None:
            _, protocol = await loop.create_unix_connection(lambda: _Protocol(loop, str(address)), address.path)
        else:
            context = ssl.create_default_context() if address.tls else None
            _, protocol = await loop.create_connection(
                lambda: _Protocol(loop, str(address)), address.host, address.port, ssl=context
            )
        if not address.tls:
            protocol.allow_direct_access()
        try:
            for command in address.greeting():
                await protocol.send(command)
        except BaseException:
            protocol.abort("its greeting failed")
            raise
        return protocol

    async def _watch(self, protocol: _Protocol) -> None:
        """Return when the connection is lost, and lose it when its oldest request has waited too long."""
        while True:
            done, _ = await asyncio.wait([protocol.lost], timeout=self.timeout_s / 4)
            if done:
                return
            if protocol.waiting and time.monotonic() - protocol.waiting[0][1] > self.timeout_s:
                protocol.abort(f"no reply within {self.timeout_s:g} s")


class _Protocol(asyncio.Protocol):
    """Requests out in one write per loop tick; replies in, first come, first served."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self.waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self.lost: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._name = name
        self._reader = hiredis.Reader()
        self._outgoing: list[bytes] = []
        self._transport: Any = None
        self._reason = "it closed the connection"
        self._descriptor: int | None = None

    def allow_direct_access(self) -> None:
        """Let requests go round the transport where it has nothing of its own to write; not for TLS."""
        self._descriptor = self._transport.get_extra_info("socket").fileno()

    def send(self, command: tuple[bytes | str, ...]) -> asyncio.Future[Any]:
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
        self.waiting.append((future, time.monotonic()))
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
        return UnavailableError(f"Redis was lost: {self._reason}", where=self._name, remedy=_REMEDY)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while True:
            try:
                reply = self._reader.gets()
            except hiredis.ProtocolError as error:
                self.abort(f"it does not speak the Redis protocol ({error})")
                return
            if reply is False:
                return
            if not self.waiting:
                self.abort("it answered a request that nobody sent")
                return
            future, _ = self.waiting.popleft()
            if future.done():  # its request was cancelled: the reply was still due
                continue
            if isinstance(reply, Exception):
                future.set_exception(UnavailableError(f"Redis refused a command: {reply}", where=self._name))
            else:
                future.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._reason = str(exc) or type(exc).__name__
        while self.waiting:
            future, _ = self.waiting.popleft()
            if not future.done():
                future.set_exception(self._failure())
        if not self.lost.done():
            self.lost.set_result(None)
