"""``MGET`` without redis-py's own path through a command, which takes longer than the server's answer.

redis-py opens the connections (address, TLS, password, Sentinel). An answer is read into one piece of memory, and a compiled loop
finds there where each value lies: nothing is cut out and copied before somebody needs it.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any, cast

import hiredis
import numpy as np
from redis import Redis
from redis.crc import key_slot
from redis.exceptions import ResponseError

from tapeline.core.errors import LimitError
from tapeline.kernels import redis_reply
from tapeline.storage.online import FAILURES, unavailable
from tapeline.storage.packed import Found
from tapeline.storage.redis import TIMEOUT_S, is_cluster

ANSWER_BYTES_MAX = 1 << 30
_ROOM_BYTES = 1 << 16
_KEPT_BYTES_MAX = 1 << 22
"""Room that was needed for one great answer is given back after it."""
_TRIES = 300
"""How often the socket is asked again before the thread goes to sleep: about 0.1 ms."""

_RECV = int(ctypes.cast(ctypes.CDLL(None).recv, ctypes.c_void_p).value or 0)


class MultiGet:
    """Values of many keys in one round trip; on a cluster one to each of its nodes, at the same time.

    Each thread reads over connections of its own, and so does each process after a fork. A read changes nothing, so one
    over a connection that the server has closed in the meantime is simply done again over a new one.

    Parameters
    ----------
    client
        Of ``storage.redis.open_redis``.
    """

    def __init__(self, client: Redis) -> None:
        self.client = client
        self._local = threading.local()
        self._of_cluster = is_cluster(client)

    def __call__(self, keys: Sequence[bytes]) -> Found:
        """Where the values of keys lie, in their order. They stay there until this thread's next read.

        Raises
        ------
        UnavailableError
            If a server cannot be reached, or does not answer whole within the connection's timeout.
        LimitError
            If an answer is longer than ``ANSWER_BYTES_MAX``.
        """
        if not keys:
            return Found.of([])
        try:
            return Found.of(self._from_cluster(keys)) if self._of_cluster else self._from_one(keys)
        except FAILURES as error:
            raise unavailable(error) from error

    def close(self) -> None:
        """Close this thread's connections; those of other threads go with their threads."""
        for connection in self._connections().values():
            connection.close()
        self._local.connections = {}

    def _connections(self) -> dict[Any, _Connection]:
        known: dict[Any, _Connection] | None = getattr(self._local, "connections", None)
        if known is None or self._local.process != os.getpid():
            known = self._local.connections = {}
            self._local.process = os.getpid()
        return known

    def _from_one(self, keys: Sequence[bytes]) -> Found:
        command = hiredis.pack_command((b"MGET", *keys))  # type: ignore[arg-type]
        connections = self._connections()
        known = connections.get(None)
        if known is not None:
            try:
                known.ask(command)
                return known.find(len(keys))
            except ConnectionError:
                pass
            finally:
                if not known.is_open:
                    del connections[None]
        known = _Connection(self.client)
        known.ask(command)
        found = known.find(len(keys))
        connections[None] = known
        return found

    def _from_cluster(self, keys: Sequence[bytes]) -> list[bytes | None]:
        try:
            return self._from_nodes(keys)
        except TimeoutError:
            self.close()
            raise
        except FAILURES:  # a slot has moved, or a node has gone: redis-py finds out what is where
            self.close()
            values: Any = self.client.mget_nonatomic(keys)  # type: ignore[attr-defined]
            return cast("list[bytes | None]", values)

    def _from_nodes(self, keys: Sequence[bytes]) -> list[bytes | None]:
        slots: dict[int, list[int]] = {}
        for place, key in enumerate(keys):
            slots.setdefault(key_slot(key), []).append(place)
        cluster: Any = self.client
        asked: dict[str, list[list[int]]] = {}
        nodes = {}
        for slot, places in slots.items():
            holders = cluster.nodes_manager.slots_cache.get(slot)
            if not holders:
                raise ResponseError(f"slot {slot} is not covered")
            nodes[holders[0].name] = holders[0]
            asked.setdefault(holders[0].name, []).append(places)
        connections = self._connections()
        for name, groups in asked.items():
            if name not in connections:
                connections[name] = _Connection(cluster.get_redis_connection(nodes[name]))
            commands = [hiredis.pack_command((b"MGET", *(keys[place] for place in places))) for places in groups]  # type: ignore[arg-type]
            connections[name].ask(b"".join(commands))
        values: list[bytes | None] = [None] * len(keys)
        for name, groups in asked.items():
            for places in groups:
                for place, value in zip(places, connections[name].find(len(places)).values(), strict=True):
                    values[place] = value
        return values


class _Connection:
    """A connection that only ever asks ``MGET``.

    After any error it is closed: an answer that was not read must not become that of the next request.
    """

    def __init__(self, client: Redis) -> None:
        # Not by the pool's own way, which counts every connection it ever made against its limit.
        pool: Any = client.connection_pool
        self._connection: Any = pool.connection_class(**pool.connection_kwargs)
        self._connection.connect()
        self._socket: socket.socket = self._connection._sock  # noqa: SLF001
        timeout_s = self._socket.gettimeout() or TIMEOUT_S
        self._socket.settimeout(timeout_s)  # which also lets the descriptor be used without waiting
        self._timeout_ns = int(timeout_s * 1e9)
        # What lies under a TLS socket is not the answer; on one processor polling would only keep the server from it.
        self._is_plain = type(self._socket) is socket.socket
        self._tries = _TRIES if self._is_plain and (os.cpu_count() or 1) > 1 else 0
        self._descriptor = self._socket.fileno()
        self._data = np.empty(_ROOM_BYTES, dtype=np.uint8)
        self._state = np.zeros(redis_reply.STATE_SIZE, dtype=np.int64)
        self._deadline_ns = 0
        self.is_open = True

    def ask(self, command: bytes) -> None:
        """Send a command; all answers to it are to come within the timeout."""
        if len(self._data) > _KEPT_BYTES_MAX:
            self._data = np.empty(_ROOM_BYTES, dtype=np.uint8)
        self._state[:] = 0
        self._deadline_ns = time.perf_counter_ns() + self._timeout_ns
        try:
            sent = 0
            if self._is_plain:
                try:
                    sent = os.write(self._descriptor, command)  # a socket's own way asks first whether it may
                except BlockingIOError:
                    pass
            if sent < len(command):
                self._socket.sendall(memoryview(command)[sent:])
        except BaseException:
            self.close()
            raise

    def find(self, count: int) -> Found:
        """Where the values of the next answer lie."""
        starts, lengths = np.empty((2, count), dtype=np.int64)
        self._state[redis_reply.FOUND] = -1
        try:
            outcome = redis_reply.PART
            if self._state[redis_reply.FILLED]:  # with the answer before it
                outcome = redis_reply.find_values(self._data, self._state, starts, lengths)
            while outcome == redis_reply.PART:
                outcome = redis_reply.receive_values(
                    _RECV, self._descriptor, self._tries, self._data, self._state, starts, lengths
                )
                if outcome == redis_reply.PART:
                    self._wait()
                    outcome = redis_reply.find_values(self._data, self._state, starts, lengths)
            if outcome == redis_reply.OTHER:
                self._refuse()
        except BaseException:
            self.close()
            raise
        return Found(self._data, starts, lengths)

    def close(self) -> None:
        """Give the connection up."""
        self.is_open = False
        self._connection.disconnect()

    def _refuse(self) -> None:
        """Say what came instead of a list of as many values."""
        reader = hiredis.Reader()
        at = int(self._state[redis_reply.AT])
        try:
            while (reply := reader.gets()) is False:
                if at == self._state[redis_reply.FILLED]:
                    self._wait()
                reader.feed(self._data[at : self._state[redis_reply.FILLED]].tobytes())
                at = int(self._state[redis_reply.FILLED])
        except hiredis.HiredisError as error:
            raise ConnectionResetError(f"what answers does not speak Redis' protocol: {error}") from None
        if isinstance(reply, hiredis.ReplyError):
            raise ResponseError(str(reply))
        raise ConnectionResetError(f"an answer of type {type(reply).__name__} came that was not asked for")

    def _wait(self) -> None:
        """Sleep until more bytes of the answer have come."""
        filled = int(self._state[redis_reply.FILLED])
        if filled == len(self._data):
            self._make_room(filled)
        left_s = (self._deadline_ns - time.perf_counter_ns()) / 1e9
        if left_s <= 0:
            raise TimeoutError(f"no whole answer within {self._timeout_ns / 1e9:g} s")
        self._socket.settimeout(left_s)
        try:
            count = self._socket.recv_into(memoryview(self._data)[filled:])  # type: ignore[arg-type]
        finally:
            self._socket.settimeout(self._timeout_ns / 1e9)
        if count == 0:
            raise ConnectionResetError("the server closed the connection")
        self._state[redis_reply.FILLED] += count

    def _make_room(self, filled: int) -> None:
        if len(self._data) >= ANSWER_BYTES_MAX:
            raise LimitError(
                f"an answer of more than {ANSWER_BYTES_MAX} bytes",
                where="a read of the online store",
                remedy="Ask for fewer entities at a time",
            )
        larger = np.empty(2 * len(self._data), dtype=np.uint8)
        larger[:filled] = self._data[:filled]
        self._data = larger
