"""A proxy between a client and a server's Unix socket, that can be slow, reset connections, or fall silent."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Literal

Mode = Literal["whole", "slow", "silent"]
CHUNK = 4_096
SLOW_S = 0.01


class Proxy:
    """Listens on a Unix socket beside the server's.

    Parameters
    ----------
    listening, server
        The two sockets.

    Attributes
    ----------
    mode
        Whole: what comes is handed on at once. Slow: a little at a time. Silent: connections stay open, and nothing goes through.
    """

    def __init__(self, listening: Path, server: Path) -> None:
        self.mode: Mode = "whole"
        self._listening, self._server = str(listening), str(server)
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait()

    def reset(self) -> None:
        """Cut all connections."""
        self._loop.call_soon_threadsafe(self._cut)

    def close(self) -> None:
        """End."""
        self.reset()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_unix_server(self._serve, self._listening))
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_unix_connection(self._server)
        self._writers |= {writer, to_writer}
        try:
            await asyncio.gather(self._pump(reader, to_writer), self._pump(to_reader, writer))
        finally:
            self._writers -= {writer, to_writer}
            writer.close()
            to_writer.close()

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(CHUNK):
                while self.mode == "silent":  # noqa: ASYNC110 - set by another thread
                    await asyncio.sleep(0.01)
                if self.mode == "slow":
                    await asyncio.sleep(SLOW_S)
                target.write(data)
                await target.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            target.transport.abort()
