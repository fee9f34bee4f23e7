"""A venue on this machine: a WebSocket and REST on one port, which misbehaves when it is told to."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

Words = Any
LOST = 6
"""Steps that nobody hears after a connection ended."""
_HEARTBEAT_S = 0.1


@dataclass
class Faults:
    """At which steps what goes wrong.

    Attributes
    ----------
    drop
        The connection is cut.
    silence
        It stays, but nothing comes over it any more, and pings are not answered.
    skip
        The step and the next are left out.
    twice
        The frame comes twice.
    swap
        It comes after the next one.
    garbage
        It comes cut in half, which is no JSON.
    oversized
        A frame larger than the client takes stands in its place.
    answers
        What REST says to the first requests instead of the truth: a status and headers, or an empty body.
    """

    drop: set[int] = field(default_factory=set)
    silence: set[int] = field(default_factory=set)
    skip: set[int] = field(default_factory=set)
    twice: set[int] = field(default_factory=set)
    swap: set[int] = field(default_factory=set)
    garbage: set[int] = field(default_factory=set)
    oversized: set[int] = field(default_factory=set)
    answers: list[tuple[int, dict[str, str], str]] = field(default_factory=list)


class Venue:
    """Plays a market once a client has subscribed; each step once, whoever listens.

    Parameters
    ----------
    words
        The market in a venue's format.
    faults
        What goes wrong.
    clients
        Subscriptions that must stand before it begins.
    oversized_bytes
        Size of an oversized frame.
    """

    def __init__(self, words: Words, faults: Faults | None = None, oversized_bytes: int = 1 << 20) -> None:
        self.words = words
        self.faults = faults or Faults()
        self.position = 0
        self.port = 0
        self.done = threading.Event()
        self.requests: list[str] = []
        self.connections = 0
        self._oversized = "x" * oversized_bytes
        self._wanted: dict[ServerConnection, set[str]] = {}
        self._mute: set[ServerConnection] = set()
        self._ready = asyncio.Event()
        self._ended = asyncio.Event()

    # WebSocket --------------------------------------------------------------------------------------------------------

    async def _serve(self, socket: ServerConnection) -> None:
        self.connections += 1
        try:
            async for said in socket:
                wanted, answers = self.words.wants(json.loads(said))
                for answer in [*answers, *self.words.greeting(wanted, self.position)]:
                    await socket.send(answer)
                if wanted:
                    self._wanted.setdefault(socket, set()).update(wanted)
                    self._ready.set()
        except ConnectionClosed:
            pass
        finally:
            self._wanted.pop(socket, None)

    async def _play(self) -> None:
        steps = self.words.market.steps
        await self._subscribed()
        while self.position < len(steps):
            at = self.position
            if at in self.faults.drop or at in self.faults.silence:
                for socket in list(self._wanted):
                    if at in self.faults.silence:
                        socket.transport.pause_reading()
                        self._mute.add(socket)
                    else:
                        socket.transport.abort()
                    self._wanted.pop(socket, None)
                self.position = min(at + LOST, len(steps) - 1)
                await self._subscribed()
                continue
            await self._publish(at)
            if at % 8 == 7:
                await asyncio.sleep(0.001)
        self.done.set()

    async def _publish(self, at: int) -> None:
        faults = self.faults
        places = [at, at]
        if at in faults.swap:
            places = [at + 1, at]
        elif at in faults.skip:
            places = []
        elif at not in faults.twice:
            places = [at]
        end = at + 2 if at in faults.swap or at in faults.skip else at + 1
        # A client sees a frame only after what it tells is true.
        self.position = end
        for place in places:
            for socket, wanted in list(self._wanted.items()):
                frame = self.words.frame(place, wanted)
                if frame is not None:
                    await self._send(socket, at, frame)
        if at in faults.oversized:
            await self._subscribed()

    async def _send(self, socket: ServerConnection, at: int, frame: str) -> None:
        if at in self.faults.garbage:
            frame = frame[: len(frame) // 2]
        if at in self.faults.oversized:
            frame = json.dumps({"stream": self._oversized})
        with suppress(ConnectionClosed):
            await socket.send(frame)
        if at in self.faults.oversized:
            self._wanted.pop(socket, None)

    async def _subscribed(self) -> None:
        """Wait for a client that listens to everything."""
        count = len(self.expected)
        while not any(len(wanted) >= count for wanted in self._wanted.values()):
            self._ready.clear()
            await self._ready.wait()

    @property
    def expected(self) -> set[str]:
        """What a client subscribes to in all."""
        return self._expected

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            beat = self.words.heartbeat(self.position)
            if beat is not None:
                for socket in list(self._wanted):
                    with suppress(ConnectionClosed):
                        await socket.send(beat)

    # REST -------------------------------------------------------------------------------------------------------------

    def _http(self, socket: ServerConnection, request: Request) -> Response | None:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return None
        self.requests.append(request.path)
        status, headers, body = 200, {}, None
        if self.faults.answers:
            status, headers, body = self.faults.answers.pop(0)
        if body is None:
            answer = self.words.answer(request.path, request.headers, self.position)
            status, body = (200, json.dumps(answer)) if answer is not None else (404, "not found")
        data = body.encode()
        all_headers = Headers({"Content-Length": str(len(data)), "Connection": "close", **headers})
        return Response(status, HTTPStatus(status).phrase if status != 418 else "banned", all_headers, data)

    # Running ----------------------------------------------------------------------------------------------------------

    @contextmanager
    def running(self, expected: set[str]) -> Iterator[Venue]:
        """Serve in a thread of its own until the block ends."""
        self._expected = expected
        started = threading.Event()
        loop = asyncio.new_event_loop()

        async def main() -> None:
            server: Server
            async with serve(
                self._serve, "127.0.0.1", 0, process_request=self._http, ping_interval=None, compression=None
            ) as server:
                self.port = next(iter(server.sockets)).getsockname()[1]
                tasks = [asyncio.create_task(self._play()), asyncio.create_task(self._beat())]
                started.set()
                await self._ended.wait()
                for task in tasks:
                    task.cancel()
                for socket in [*self._wanted, *self._mute]:
                    socket.transport.abort()

        thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
        thread.start()
        assert started.wait(10)
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(self._ended.set)
            thread.join(20)
            assert not thread.is_alive()
            loop.close()

    def url(self, scheme: str) -> str:
        """Where it is: ``ws`` or ``http``."""
        return f"{scheme}://127.0.0.1:{self.port}"


Check = Callable[[], bool]
