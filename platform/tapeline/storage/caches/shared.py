"""The second level: Redis, asked within a time limit, and left alone for a while when it does not answer.

Nothing here raises what went wrong: a cache that cannot be reached is a cache that holds nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

Command = tuple[bytes, ...]
Execute = Callable[..., Awaitable[Any]]
"""Sends one command, given as bytes, and gives its reply: a pipelining connection's, or redis-py's ``execute_command``."""

FAILURES_BEFORE_PAUSE = 3
PAUSE_S = 1.0

# Only who holds the lock may release it: a holder that was slow may find another's in its place.
_UNLOCK = b"if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class SharedLevel:
    """Redis as the second level of caches.

    Belongs to one event loop.

    Parameters
    ----------
    execute
        Sends one command. Commands of one call are sent together, as far as it can.
    timeout_s
        The longest that anything asked here may take; beyond it the answer is that there is none.

    Attributes
    ----------
    errors
        Calls that failed or took too long.
    skipped
        Calls that were not made because the ones before had failed.
    """

    def __init__(self, execute: Execute, *, timeout_s: float = 0.05) -> None:
        self.errors = 0
        self.skipped = 0
        self._execute = execute
        self._timeout_s = timeout_s
        self._failures = 0
        self._paused_until_s = 0.0

    async def call(self, *commands: Command) -> list[Any] | None:
        """The replies to some commands; ``None`` if any of them failed, or they were not sent."""
        if self._failures >= FAILURES_BEFORE_PAUSE and time.monotonic() < self._paused_until_s:
            self.skipped += 1
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                if len(commands) == 1:  # gathering would cost two more turns of the loop
                    replies = [await self._execute(*commands[0])]
                else:
                    replies = await asyncio.gather(*[self._execute(*command) for command in commands])
        except Exception:  # noqa: BLE001  of whatever client, for whatever reason: a cache fails no request
            self.errors += 1
            self._failures += 1
            self._paused_until_s = time.monotonic() + PAUSE_S
            return None
        self._failures = 0
        return replies

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None] | None:
        """What the keys hold; ``None`` if Redis does not answer."""
        replies = await self.call((b"MGET", *keys))
        if replies is None or not isinstance(replies[0], list) or len(replies[0]) != len(keys):
            return None
        return [value if isinstance(value, bytes) else None for value in replies[0]]

    async def set_many(self, items: Sequence[tuple[bytes, bytes]], *, expire_ms: int) -> bool:
        """Keep values, for so long at most; whether Redis took all of them."""
        expire = b"%d" % max(expire_ms, 1)
        return await self.call(*[(b"SET", key, value, b"PX", expire) for key, value in items]) is not None

    async def lock_many(self, keys: Sequence[bytes], token: bytes, *, lease_ms: int) -> list[bool]:
        """Which of the keys are now locked by this token.

        All of them if Redis does not answer: without it there is nobody to wait for.
        """
        lease = b"%d" % lease_ms
        replies = await self.call(*[(b"SET", lock_of(key), token, b"NX", b"PX", lease) for key in keys])
        return [True] * len(keys) if replies is None else [reply is not None for reply in replies]

    async def unlock_many(self, keys: Sequence[bytes], token: bytes) -> None:
        """Give up the locks that this token holds; what fails here expires."""
        await self.call(*[(b"EVAL", _UNLOCK, b"1", lock_of(key), token) for key in keys])


def lock_of(key: bytes) -> bytes:
    """Where the lock of a key is."""
    return key + b":lock"
