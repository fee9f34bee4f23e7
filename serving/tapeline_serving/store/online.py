"""What the engine asks of the store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol


class OnlineStore(Protocol):
    """Reads keys: a `RedisConnection`, or one that remembers."""

    def mget(self, keys: Sequence[bytes]) -> asyncio.Future[list[bytes | None]]:
        """Values of ``keys`` in their order, ``None`` where there is none."""
        ...

    def execute(self, *command: bytes) -> asyncio.Future[Any]:
        """The reply to any one command."""
        ...

    def poll(self, reply: asyncio.Future[Any]) -> None:
        """Hold the loop for a moment until an answer is there."""
        ...
