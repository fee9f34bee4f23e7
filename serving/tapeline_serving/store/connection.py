"""One pipelining connection to Redis.

A request that finds the connection idle is written at once; those that come while others wait leave together at the end of
their loop tick. Replies come back in order, so sixty concurrent requests cost Redis and the kernel about as much as one. No pool and no lock stand between a request and the socket.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from tapeline.core.errors import UnavailableError

from tapeline_serving.store.address import RedisAddress
from tapeline_serving.store.pipeline import REMEDY, Pipeline

logger = logging.getLogger("tapeline.serving.store")

_BACKOFF_S_MIN = 0.02
_BACKOFF_S_MAX = 2.0
_MAY_POLL = (os.cpu_count() or 1) > 1  # on one processor polling would only keep Redis from answering
_TRACKING = (("HELLO", "3"), ("CLIENT", "TRACKING", "ON"))
HEARD_S_MAX = 0.5
"""A tracking connection that said nothing for so long may be cut off. It is asked for a sign of life twice as often."""


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

    Attributes
    ----------
    on_invalidated
        If set before ``start``, Redis is asked to tell which keys that were read here have changed since. Called with them, or with
        ``None`` where it may be any: everything was deleted, or the connection is lost. Between it and the callbacks of
        replies there is the order in which Redis sent both.
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
        self.on_invalidated: Callable[[list[bytes] | None], None] | None = None
        self._on_change = on_change or (lambda _: None)
        self._protocol: Pipeline | None = None
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

    def mget(
        self, keys: Sequence[bytes], on_reply: Callable[[list[bytes | None]], None] | None = None
    ) -> asyncio.Future[list[bytes | None]]:
        """Values of ``keys`` in their order, ``None`` where there is none, by one MGET.

        Parameters
        ----------
        keys
            What to read.
        on_reply
            Called with the values the moment they come, before any later news of ``on_invalidated``; who awaits the future may
            hear of them after that.

        Raises
        ------
        UnavailableError
            As `execute`.
        """
        return self._send((b"MGET", *keys), on_reply)

    def hears_of_changes(self) -> bool:
        """Whether ``on_invalidated`` has been told of every change that Redis has sent word of, up to this moment.

        Word that lies unread in the socket is read first; with TLS only the event loop can do that.
        """
        protocol = self._protocol
        return protocol is not None and protocol.is_tracking and protocol.listen(HEARD_S_MAX)

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
        return self._send(command, None)

    def _send(self, command: tuple[bytes, ...], on_reply: Callable[[Any], None] | None) -> asyncio.Future[Any]:
        protocol = self._protocol
        if protocol is None:
            self.errors += 1
            raise UnavailableError("Redis is not connected", where=str(self.address), remedy=REMEDY)
        if len(protocol.waiting) >= self.waiting_max:
            self.errors += 1
            raise UnavailableError(f"{self.waiting_max} requests wait for Redis", where=str(self.address))
        return protocol.send(command, on_reply)

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

    async def _connect(self) -> Pipeline:
        address = self.address
        if not address.sentinels:
            return await self._open((address.host, address.port), address.greeting(), self.on_invalidated)
        protocol = await self._open(await self._leader(), address.greeting(), self.on_invalidated)
        # A leader that was away may not have heard yet that it leads no more.
        if (await protocol.send(("ROLE",)))[0] != b"master":
            protocol.abort("it does not lead its group")
            raise UnavailableError("the server that the sentinels name does not lead its group", where=str(address))
        return protocol

    async def _leader(self) -> tuple[str, int]:
        """Where the first sentinel that answers says the leader is."""
        *login, question = self.address.sentinel_greeting()
        for place in self.address.sentinels:
            try:
                protocol = await asyncio.wait_for(
                    self._open(place, login), self.timeout_s / len(self.address.sentinels)
                )
            except (OSError, TimeoutError, UnavailableError, ssl.SSLError, hiredis.HiredisError):
                continue
            try:
                found = await protocol.send(question)
            except UnavailableError:
                continue
            finally:
                protocol.abort("it has answered")
            if found:
                host, port = found
                return host.decode(), int(port)
        raise UnavailableError(f"no sentinel knows the leader of {self.address.master}", where=str(self.address))

    async def _open(
        self,
        place: tuple[str, int],
        greeting: Sequence[tuple[str, ...]],
        on_invalidated: Callable[[list[bytes] | None], None] | None = None,
    ) -> Pipeline:
        loop = asyncio.get_running_loop()
        address = self.address
        if address.path is not None:
            _, protocol = await loop.create_unix_connection(lambda: Pipeline(loop, str(address)), address.path)
        else:
            _, protocol = await loop.create_connection(
                lambda: Pipeline(loop, str(address)), *place, ssl=self._tls_context()
            )
        if not address.tls:
            protocol.allow_direct_access()
        try:
            for command in greeting:
                await protocol.send(command)
            if on_invalidated is not None:
                await self._track(protocol, on_invalidated)
        except BaseException:
            protocol.abort("its greeting failed")
            raise
        return protocol

    def _tls_context(self) -> ssl.SSLContext | None:
        address = self.address
        if not address.tls:
            return None
        context = ssl.create_default_context(cafile=address.ca_certs)
        if address.certfile is not None:
            context.load_cert_chain(address.certfile, address.keyfile)
        return context

    async def _track(self, protocol: Pipeline, on_invalidated: Callable[[list[bytes] | None], None]) -> None:
        """Ask to be told of changes; a Redis that cannot, or may not, is read without."""
        try:
            for command in _TRACKING:
                await protocol.send(command)
        except UnavailableError as error:
            if protocol.lost.done():
                raise
            logger.warning("Redis does not tell of changed keys, so none are remembered here: %s", error)
        else:
            protocol.track(on_invalidated)

    async def _watch(self, protocol: Pipeline) -> None:
        """Return when the connection is lost, and lose it when its oldest request has waited too long."""
        while True:
            every_s = HEARD_S_MAX / 2 if protocol.is_tracking else self.timeout_s
            done, _ = await asyncio.wait([protocol.lost], timeout=min(every_s, self.timeout_s / 4))
            if done:
                return
            if protocol.is_tracking and not protocol.waiting:
                protocol.send(("PING",)).add_done_callback(_take_note)
            if protocol.waiting and time.monotonic() - protocol.waiting[0][1] > self.timeout_s:
                protocol.abort(f"no reply within {self.timeout_s:g} s")


def _take_note(reply: asyncio.Future[Any]) -> None:
    if not reply.cancelled():
        reply.exception()  # of a lost connection its other requests tell
