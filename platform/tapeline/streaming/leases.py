"""Which worker owns which partition: leases in Redis, each held by one worker, shared out evenly, renewed by a thread."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from tapeline.core.errors import FencedError, UnavailableError
from tapeline.storage.online import unavailable
from tapeline.streaming.plan import GROUP, StreamPlan

_BEAT_S = 1.0
_END_S = 2.0
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
# While the lease is held, nobody after its holder can have made a group. What an earlier owner reads from now on it reads
# from a group that is no more; what it read just before comes from `last` on again.
_ADOPT = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
for k = 5, #ARGV do redis.call('XGROUP', 'DESTROY', KEYS[2], ARGV[k]) end
redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[2], ARGV[3], 'MKSTREAM', 'ENTRIESREAD', ARGV[4])
for k = 3, #KEYS do redis.call('DEL', KEYS[k]) end
return 1
"""
_KEEP = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
for k = 3, #KEYS do
    redis.call('HSET', KEYS[k], ARGV[2 * k - 3], ARGV[2 * k - 2])
end
if ARGV[2] ~= '' then redis.call('SET', KEYS[2], ARGV[2]) end
return 1
"""


class Leases:
    """The partitions of one worker.

    Parameters
    ----------
    redis
        A client that returns bytes.
    plan
        The stream.
    worker
        The worker's name; a name of its own for each process if not given.
    ttl_ms
        How long a lease lives that nobody renews: so long a partition stands still when its worker is killed.

    Attributes
    ----------
    owned
        The partitions held, as far as this worker knows.
    group
        The consumer group of this worker alone, in each of its partitions.
    """

    def __init__(self, redis: Redis, plan: StreamPlan, *, worker: str | None = None, ttl_ms: int = 5_000) -> None:
        self._redis = redis
        self._plan = plan
        self.worker = worker or secrets.token_hex(8)
        self.ttl_ms = ttl_ms
        self.owned: set[int] = set()
        token = secrets.token_hex(8)
        self.group = f"{GROUP}-{token}"
        self._token = f"{self.worker}:{token}".encode()
        self._lock = threading.Lock()
        self._renew = redis.register_script(_RENEW)
        self._release = redis.register_script(_RELEASE)
        self._keep = redis.register_script(_KEEP)
        self._adopt = redis.register_script(_ADOPT)

    def key(self, partition: int) -> bytes:
        """The lease of a partition."""
        return self._plan.key(partition, "lease")

    def beat(self, told: Mapping[str, Any] | None = None) -> int:
        """Say that this worker lives, and what it has to tell; returns how many do.

        Raises
        ------
        UnavailableError
            If Redis is away.
        """
        key = self._plan.shared_key("workers")
        try:
            seconds, micro = self._redis.time()
            now_ms = seconds * 1_000 + micro // 1_000
            self._redis.hset(key, self.worker, json.dumps({"ms": now_ms, "ttl_ms": self.ttl_ms, **(told or {})}))
            beats = cast("Mapping[bytes, bytes]", self._redis.hgetall(key))
            gone = [worker for worker, beat in beats.items() if _is_over(beat, now_ms)]
            if gone:
                self._redis.hdel(key, *gone)
        except RedisError as error:
            raise unavailable(error) from error
        return len(beats) - len(gone)

    def leave(self) -> None:
        """Say that this worker ends."""
        try:
            self._redis.hdel(self._plan.shared_key("workers"), self.worker)
        except RedisError as error:
            raise unavailable(error) from error

    def share(self, workers: int) -> int:
        """Most partitions that one of so many workers holds."""
        return -(-self._plan.partitions // max(1, workers))

    def try_acquire(self, partition: int) -> bool:
        """Take a partition that nobody holds."""
        try:
            with self._lock:
                taken = bool(self._redis.set(self.key(partition), self._token, nx=True, px=self.ttl_ms))
                if taken:
                    self.owned.add(partition)
        except RedisError as error:
            raise unavailable(error) from error
        return taken

    def renew(self) -> set[int]:
        """Renew all leases; returns those that were lost."""
        try:
            with self._lock:
                partitions = sorted(self.owned)
                pipeline = self._redis.pipeline(transaction=False)
                for partition in partitions:
                    self._renew(keys=[self.key(partition)], args=[self._token, self.ttl_ms], client=pipeline)
                replies = pipeline.execute()
                lost = {partition for partition, held in zip(partitions, replies, strict=True) if not held}
                self.owned -= lost
        except RedisError as error:
            raise unavailable(error) from error
        return lost

    def release(self, partition: int) -> None:
        """Give a partition back."""
        try:
            with self._lock:
                self.owned.discard(partition)
                self._release(keys=[self.key(partition)], args=[self._token])
        except RedisError as error:
            raise unavailable(error) from error

    def adopt(self, partition: int, *, forget: Sequence[bytes] = ()) -> bytes:
        """Begin to read a partition where the last owner was; who still reads it under its group gets an error.

        Parameters
        ----------
        partition
            Which.
        forget
            Keys of the partition to be deleted.

        Returns
        -------
        bytes
            The last id that was delivered before: what comes up to it is to be read again from the floor.

        Raises
        ------
        FencedError
            If another worker holds the lease.
        UnavailableError
            If Redis is away.
        """
        key = self._plan.events_key(partition)
        try:
            groups = groups_of(self._redis, key)
            newest = max(groups, key=lambda group: id_of(group["last-delivered-id"]), default=None)
            last: bytes = b"0-0" if newest is None else newest["last-delivered-id"]
            read = 0 if newest is None else newest.get("entries-read")
            names = [group["name"] for group in groups]
            arguments = [self._token, self.group, last, -1 if read is None else read, *names]
            adopted = self._adopt(keys=[self.key(partition), key, *forget], args=arguments)
        except RedisError as error:
            raise unavailable(error) from error
        if not adopted:
            raise self._fenced(partition)
        return last

    def keep(self, partition: int, fields: list[tuple[bytes, bytes, bytes]], floor: bytes) -> None:
        """Write states of a partition and its floor, at once and only while its lease is held.

        Parameters
        ----------
        partition
            Which.
        fields
            Key of a hash, field and value.
        floor
            The new floor; empty: as it is.

        Raises
        ------
        FencedError
            If another worker holds the lease; nothing is written.
        UnavailableError
            If Redis is away.
        """
        keys = [self.key(partition), self._plan.key(partition, "floor")]
        arguments: list[bytes] = [self._token, floor]
        for key, name, value in fields:
            keys.append(key)
            arguments += [name, value]
        try:
            kept = self._keep(keys=keys, args=arguments)
        except RedisError as error:
            raise unavailable(error) from error
        if not kept:
            raise self._fenced(partition)

    def _fenced(self, partition: int) -> FencedError:
        self.owned.discard(partition)
        return FencedError(
            f"partition {partition} has another owner",
            where=f"stream {self._plan.name}, worker {self.worker}",
            remedy="Nothing is lost: the new owner goes on where this one was",
        )


def groups_of(redis: Redis, key: bytes) -> list[dict[str, Any]]:
    """The consumer groups of a stream; none where there is no stream.

    Raises
    ------
    redis.RedisError
        If Redis is away.
    """
    try:
        groups: list[dict[str, Any]] = redis.xinfo_groups(key)
    except ResponseError as error:
        if "no such key" in str(error):
            return []
        raise
    return [group for group in groups if group["name"].startswith(GROUP.encode())]


def id_of(entry_id: bytes) -> tuple[int, int]:
    """An entry's id as two numbers."""
    ms, _, number = entry_id.partition(b"-")
    return int(ms), int(number)


def _is_over(beat: bytes, now_ms: int) -> bool:
    """Whether a worker has been silent for three times as long as a lease lives."""
    try:
        told = json.loads(beat)
        return bool(told["ms"] + 3 * told["ttl_ms"] < now_ms)
    except (ValueError, TypeError, KeyError):
        return True


def live_workers(redis: Redis, plan: StreamPlan) -> dict[str, dict[str, Any]]:
    """What each live worker of a stream told last, by name; ``ms`` is when.

    Raises
    ------
    UnavailableError
        If Redis is away.
    """
    try:
        seconds, micro = redis.time()
        beats = cast("Mapping[bytes, bytes]", redis.hgetall(plan.shared_key("workers")))
    except RedisError as error:
        raise unavailable(error) from error
    now_ms = seconds * 1_000 + micro // 1_000
    return {worker.decode(): json.loads(beat) for worker, beat in beats.items() if not _is_over(beat, now_ms)}


class Heart(threading.Thread):
    """Renews leases and says that the worker lives, whatever the worker is busy with.

    Parameters
    ----------
    leases
        The worker's.
    tell
        Gives what others are to know of the worker, as JSON data.
    watch
        Called at each beat.

    Attributes
    ----------
    workers
        How many live.
    lost
        Partitions that somebody else has now.
    """

    def __init__(self, leases: Leases, tell: Callable[[], Mapping[str, Any]], watch: Callable[[], None]) -> None:
        super().__init__(name="stream-heart", daemon=True)
        self._leases = leases
        self._tell = tell
        self._watch = watch
        self._ending = threading.Event()
        self.workers = leases.beat()
        self.lost: set[int] = set()

    def run(self) -> None:
        """Beat until told to end; a Redis that is away is asked again."""
        while not self._ending.wait(min(_BEAT_S, self._leases.ttl_ms / 4_000)):
            self._watch()
            with suppress(UnavailableError):
                self.lost |= self._leases.renew()
                self.workers = self._leases.beat(self._tell())

    def stop(self) -> None:
        """End; a beat that a silent Redis holds up ends by itself."""
        self._ending.set()
        if self.is_alive():
            self.join(timeout=_END_S)
