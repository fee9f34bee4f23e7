"""A worker's own connection to Redis: it sends commands ahead of their replies, so that reading on costs no round trip of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from tapeline.core.errors import FencedError
from tapeline.storage.online import COMPARE_AND_SET, count_written, script_calls, unavailable, write_many
from tapeline.streaming.plan import StreamPlan
from tapeline.streaming.reading import Entry

_SHA = COMPARE_AND_SET.sha.encode()
READ_ENTRIES_MAX = 64
"""Entries of one partition that are read at once."""
READ_BYTES = 8 << 20
"""What one read should come to, by the size of the entries before."""


class Link:
    """Reads a worker's partitions and writes its online values. For one thread.

    Parameters
    ----------
    redis
        A client that returns bytes; a connection of its pool is kept.
    plan
        The stream.
    group, consumer
        Whose entries these are.

    Attributes
    ----------
    asked
        Whether a read is under way.
    """

    def __init__(self, redis: Redis, plan: StreamPlan, group: str, consumer: str) -> None:
        self._redis = redis
        self._plan = plan
        self._group, self._consumer = group, consumer
        self._connection: Any = None
        self._partitions: dict[bytes, int] = {}
        self._entry_bytes = 1_024.0
        self._ready: dict[tuple[int, int], bytes] = {}
        self.asked = False

    def close(self) -> None:
        """Give the connection back; what was asked and not received is lost, and comes again from the floor."""
        connection, self._connection, self.asked = self._connection, None, False
        if connection is not None:
            connection.disconnect()  # a reply may be under way
            self._redis.connection_pool.release(connection)

    def assign(self, partitions: Sequence[int]) -> None:
        """Read these partitions from now on; nothing may be asked."""
        self._partitions = {self._plan.events_key(partition): partition for partition in partitions}
        self._ready.clear()

    def ask(self, block_ms: int) -> None:
        """Ask for what is next, without waiting for it.

        Raises
        ------
        UnavailableError
            If Redis is away.
        """
        self._send([], block_ms)
        self.asked = True

    def receive(self) -> list[Entry]:
        """What was asked for; nothing if nothing came in time.

        Raises
        ------
        FencedError
            If a partition has another owner.
        UnavailableError
            If Redis is away.
        """
        self.asked = False
        reply = self._receive()
        if isinstance(reply, ResponseError):
            if "NOGROUP" in str(reply) or "UNBLOCKED" in str(reply):
                raise FencedError(
                    "a partition has another owner",
                    where=f"stream {self._plan.name}, worker {self._consumer}",
                    remedy="Nothing is lost: the new owner goes on where this one was",
                )
            raise unavailable(reply)
        streams = reply.items() if isinstance(reply, dict) else reply or ()
        entries = [
            Entry.of(self._partitions[key], entry_id, fields) for key, found in streams for entry_id, fields in found
        ]
        if entries:
            self._entry_bytes = sum(sum(map(len, entry.fields)) for entry in entries) / len(entries)
        return entries

    def write(self, items: Sequence[tuple[bytes, bytes]], *, then_ask_ms: int | None = None) -> int:
        """Write online values, each if it ranks above what is there; returns how many did.

        Parameters
        ----------
        items
            Keys and packed values.
        then_ask_ms
            Ask for what is next in the same breath, to wait so long for it.

        Raises
        ------
        UnavailableError
            If Redis is away.
        IntegrityError
            If a key holds something else.
        """
        if self.asked:  # the next reply is that of the read
            return write_many(self._redis, items)
        commands = [
            _packed([b"EVALSHA", _SHA, b"%d" % len(keys), *keys, *arguments])
            for keys, arguments in script_calls(self._redis, items)
        ]
        self._send(commands, then_ask_ms)
        self.asked = then_ask_ms is not None
        replies = [self._receive() for _ in commands]
        if any(isinstance(reply, NoScriptError) for reply in replies):  # a server that was restarted
            return write_many(self._redis, items)
        return count_written(replies)

    def _send(self, commands: list[bytes], ask_ms: int | None) -> None:
        try:
            if self._connection is None:
                self._connection = self._redis.connection_pool.get_connection()
            if ask_ms is not None:
                commands = [*commands, self._reading(ask_ms)]
            self._connection.send_packed_command([b"".join(commands)])
        except (RedisError, OSError) as error:
            self.close()
            raise unavailable(error) from error

    def _reading(self, block_ms: int) -> bytes:
        """The command that reads, ready to be sent; it is mostly the same one."""
        fitting = int(READ_BYTES / (self._entry_bytes * max(1, len(self._partitions))))
        count = max(1, min(READ_ENTRIES_MAX, 1 << max(0, fitting.bit_length() - 1)))
        packed = self._ready.get((count, block_ms))
        if packed is None:
            keys = list(self._partitions)
            head = [b"XREADGROUP", b"GROUP", self._group.encode(), self._consumer.encode()]
            counts = [b"COUNT", b"%d" % count, b"BLOCK", b"%d" % block_ms, b"STREAMS"]
            packed = self._ready[(count, block_ms)] = _packed([*head, *counts, *keys, *([b">"] * len(keys))])
        return packed

    def _receive(self) -> Any:
        """The next reply; an error that the server sent is one, too."""
        try:
            return self._connection.read_response()
        except ResponseError as error:
            return error
        except (RedisError, OSError) as error:
            self.close()
            raise unavailable(error) from error


def _packed(arguments: Sequence[bytes]) -> bytes:
    """A command as Redis takes it; redis-py's own packing asks each argument what it is."""
    return b"*%d\r\n%b" % (len(arguments), b"".join([b"$%d\r\n%b\r\n" % (len(one), one) for one in arguments]))
