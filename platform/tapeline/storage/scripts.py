"""Lua scripts in pipelines, on one server or on a cluster."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.crc import key_slot
from redis.exceptions import NoScriptError

from tapeline.storage.redis import is_cluster

CALLS_PER_PIPELINE = 64


class Call(NamedTuple):
    """One call of a script. In a cluster its keys must lie in one slot."""

    keys: Sequence[bytes]
    arguments: Sequence[bytes]


class Script:
    """A script that may be repeated: where a server did not know it yet, a whole pipeline is sent again.

    Parameters
    ----------
    source
        In Lua.
    """

    def __init__(self, source: str) -> None:
        self.source = source

    @cached_property
    def sha(self) -> str:
        """By which a server that knows the script finds it."""
        return hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: Redis, calls: Sequence[Call]) -> Iterator[Any]:
        """The replies, errors among them, in the order of the calls; some calls a round trip.

        Raises
        ------
        redis.RedisError
            If a server cannot be reached.
        """
        for batch in _batches(calls):
            replies = self._fill(client.pipeline(transaction=False), batch).execute(raise_on_error=False)
            if any(isinstance(reply, NoScriptError) for reply in replies):
                client.script_load(self.source)
                replies = self._fill(client.pipeline(transaction=False), batch).execute(raise_on_error=False)
            yield from replies

    async def run_async(self, client: AsyncRedis, calls: Sequence[Call]) -> list[Any]:
        """``run`` on an event loop."""
        everything: list[Any] = []
        for batch in _batches(calls):
            replies = await self._fill(client.pipeline(transaction=False), batch).execute(raise_on_error=False)
            if any(isinstance(reply, NoScriptError) for reply in replies):
                await self._load_async(client)
                replies = await self._fill(client.pipeline(transaction=False), batch).execute(raise_on_error=False)
            everything += replies
        return everything

    async def _load_async(self, client: Any) -> None:
        if not is_cluster(client):
            await client.script_load(self.source)
            return
        await asyncio.gather(*(node.execute_command("SCRIPT LOAD", self.source) for node in client.get_primaries()))

    def _fill(self, pipeline: Any, calls: Sequence[Call]) -> Any:
        for call in calls:
            pipeline.execute_command("EVALSHA", self.sha, len(call.keys), *call.keys, *call.arguments)
        return pipeline


def by_slot(client: object, keys: Sequence[bytes]) -> Iterator[list[int]]:
    """Places of keys that one call may hold: all of them, or in a cluster those of one slot after the other."""
    if not is_cluster(client):
        yield list(range(len(keys)))
        return
    slots: dict[int, list[int]] = {}
    for place, key in enumerate(keys):
        slots.setdefault(key_slot(key), []).append(place)
    yield from slots.values()


def _batches(calls: Sequence[Call]) -> Iterator[Sequence[Call]]:
    for start in range(0, len(calls), CALLS_PER_PIPELINE):
        yield calls[start : start + CALLS_PER_PIPELINE]
