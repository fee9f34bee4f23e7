"""Reads and writes packed values in Redis or Valkey: one ``MGET`` to read, compare-and-set scripts to write.

The ranking of ``packed.RowTimes`` decides every write inside the server, so that any number of writers may deliver
rows in any order, twice or late, and each key ends at the greatest row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import NoScriptError, RedisError

from tapeline.core.errors import IntegrityError, ParameterError, UnavailableError
from tapeline.core.hashing import canonical_json
from tapeline.storage.keys import glob, layout_key, view_prefix
from tapeline.storage.packed import MAGIC, UNKNOWN, Column, Layout, PackedRows, decode_many

# Compares the four int64 of the header (bytes 17 to 48) from the first down, each from its most significant byte. The
# top byte of a signed number is shifted by 128. Lua's own string comparison would follow the server's locale, and its
# numbers are doubles, which cannot tell two sequences above 2^53 apart. A key that holds something else than a packed
# value of this codec version is an error and is left as it is.
COMPARE_AND_SET = """
local written = 0
for k = 1, #KEYS do
  local new = ARGV[k]
  local old = redis.call('GETRANGE', KEYS[k], 0, 47)
  local greater = false
  if old == '' then
    greater = true
  elseif #old < 48 or string.sub(old, 1, 4) ~= string.sub(new, 1, 4) then
    return redis.error_reply('FOREIGN ' .. KEYS[k])
  else
    for field = 16, 40, 8 do
      for position = field + 8, field + 1, -1 do
        local a, b = string.byte(old, position), string.byte(new, position)
        if a ~= b then
          if position == field + 8 then a, b = (a + 128) % 256, (b + 128) % 256 end
          greater = b > a
          field = 99
          break
        end
      end
      if field == 99 then break end
    end
  end
  if greater then
    redis.call('SET', KEYS[k], new)
    written = written + 1
  end
end
return written
"""
COMPARE_AND_SET_SHA = hashlib.sha1(COMPARE_AND_SET.encode(), usedforsecurity=False).hexdigest()

KEYS_PER_SCRIPT = 64
"""Keys of one script call: the server answers nobody else while a script runs."""

CALLS_PER_PIPELINE = 64
SCAN_COUNT = 1_000


class FieldStatus(IntEnum):
    """What is to be said about one value of a read; the numbers are those of Feast's ``FieldStatus``."""

    PRESENT = 1
    NULL_VALUE = 2
    NOT_FOUND = 3
    OUTSIDE_MAX_AGE = 4


_PRESENT = bytes([FieldStatus.PRESENT])


@dataclass(frozen=True)
class ViewRead:
    """What one view gave for N entities.

    Attributes
    ----------
    rows
        The decoded rows; their times tell event and available time of each entity.
    values
        float64 (N, numeric columns): NaN unless ``PRESENT``.
    statuses
        uint8 (N, columns): a ``FieldStatus`` each.
    """

    rows: PackedRows
    values: NDArray[np.float64]
    statuses: NDArray[np.uint8]


def row_statuses(
    rows: PackedRows, *, now_us: int | None = None, ttl_us: int = 0, hide_future: bool = False
) -> NDArray[np.uint8]:
    """One ``FieldStatus`` for each row, nulls of single columns apart.

    Parameters
    ----------
    now_us
        The injected clock's moment; none: age is not looked at.
    ttl_us
        Rows whose event is more than this before ``now_us`` are ``OUTSIDE_MAX_AGE``; 0: no limit.
    hide_future
        On a replayed clock, treat rows with an event time after ``now_us`` as ``NOT_FOUND``: at that moment they were
        not known. A row that becomes available only after ``now_us``, and after its event, is so on any clock: by the
        point-in-time rule no training row of this moment holds it.

    Returns
    -------
    uint8 (N,)
    """
    statuses = np.frombuffer(bytearray(_PRESENT * len(rows.found)), dtype=np.uint8)
    if now_us is not None:
        event_us, available_us = rows.times[:, 0], rows.times[:, 2]
        if ttl_us:
            statuses[event_us < now_us - ttl_us] = FieldStatus.OUTSIDE_MAX_AGE
        early = available_us > now_us
        if early.any():
            statuses[early & (available_us > event_us)] = FieldStatus.NOT_FOUND
        if hide_future:
            statuses[early | (event_us > now_us)] = FieldStatus.NOT_FOUND
    if rows.any_null:
        statuses[~rows.found] = FieldStatus.NOT_FOUND
    return statuses


def field_statuses(rows: PackedRows, of_rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (N, columns): the row's status, or ``NULL_VALUE`` where a row that is present has a null."""
    statuses = np.repeat(of_rows[:, None], len(rows.layout.columns), axis=1)
    if rows.any_null:
        statuses[rows.nulls & (of_rows == FieldStatus.PRESENT)[:, None]] = FieldStatus.NULL_VALUE
    return statuses


class OnlineReader:
    """Reads some views for some entities in one round trip.

    Safe to share between threads as far as the Redis client is.

    Parameters
    ----------
    redis
        A client that returns bytes.
    project
        The project whose keys are read.
    layouts
        One layout a view; values of any other layout are refused.
    ttls_us
        One TTL a view, microseconds, 0 for none; left out: none has any.
    """

    def __init__(
        self, redis: Redis, project: str, layouts: Sequence[Layout], ttls_us: Sequence[int] | None = None
    ) -> None:
        self._redis = redis
        self._layouts = tuple(layouts)
        self._ttls_us = tuple(ttls_us) if ttls_us is not None else (0,) * len(self._layouts)
        if len(self._ttls_us) != len(self._layouts):
            raise ParameterError(f"{len(self._ttls_us)} TTLs do not fit {len(self._layouts)} layouts")
        self._prefixes = tuple(view_prefix(project, layout.view, layout.version) for layout in self._layouts)

    def keys(self, entities: Sequence[bytes]) -> list[bytes]:
        """The keys to fetch, view by view, entities in the given order (see ``storage.keys.entity_key``)."""
        return [prefix + entity for prefix in self._prefixes for entity in entities]

    def decode(
        self, values: Sequence[bytes | None], *, now_us: int | None = None, hide_future: bool = False
    ) -> list[ViewRead]:
        """Decode what ``MGET`` of ``keys`` returned: for a caller with a connection of its own.

        Raises
        ------
        IntegrityError
            If a value is damaged or of another layout.
        """
        if not self._layouts:
            return []
        count = len(values) // len(self._layouts)
        reads = []
        for position, (layout, ttl_us) in enumerate(zip(self._layouts, self._ttls_us, strict=True)):
            rows = decode_many(layout, values[position * count : (position + 1) * count])
            of_rows = row_statuses(rows, now_us=now_us, ttl_us=ttl_us, hide_future=hide_future)
            numbers = rows.numbers()
            absent = of_rows != FieldStatus.PRESENT
            if absent.any():
                numbers[absent] = np.nan
            reads.append(ViewRead(rows, numbers, field_statuses(rows, of_rows)))
        return reads

    def read(
        self, entities: Sequence[bytes], *, now_us: int | None = None, hide_future: bool = False
    ) -> list[ViewRead]:
        """Fetch and decode, one ``ViewRead`` a view, with a single ``MGET``.

        Raises
        ------
        UnavailableError
            If the server cannot be reached.
        IntegrityError
            If a value is damaged or of another layout.
        """
        keys = self.keys(entities)
        if not keys:
            return self.decode([], now_us=now_us, hide_future=hide_future)
        try:
            values = cast("list[bytes | None]", self._redis.mget(keys))
        except RedisError as error:
            raise unavailable(error) from error
        return self.decode(values, now_us=now_us, hide_future=hide_future)


def write_many(redis: Redis, items: Sequence[tuple[bytes, bytes]]) -> int:
    """Write packed values under their keys, each only if it ranks above what the key holds.

    Calls are pipelined without a transaction; a run that is cut off half-way leaves whole values and may be repeated.

    Parameters
    ----------
    redis
        A client that returns bytes.
    items
        Pairs of key and packed value. A key may occur several times.

    Returns
    -------
    int
        How many values were written.

    Raises
    ------
    IntegrityError
        If a key holds something that is no packed value of this codec's version.
    UnavailableError
        If the server cannot be reached.
    """
    written = 0
    try:
        for calls in _pipelines(items):
            replies = _send(redis, calls)
            if any(isinstance(reply, NoScriptError) for reply in replies):
                redis.script_load(COMPARE_AND_SET)
                replies = _send(redis, calls)  # a value that was written the first time is now equal: nothing happens
            written += count_written(replies)
    except RedisError as error:
        raise unavailable(error) from error
    return written


def script_calls(items: Sequence[tuple[bytes, bytes]]) -> Iterator[tuple[int, list[bytes]]]:
    """Number of keys, then keys and values, of one ``EVALSHA`` after the other."""
    for start in range(0, len(items), KEYS_PER_SCRIPT):
        piece = items[start : start + KEYS_PER_SCRIPT]
        yield len(piece), [key for key, _ in piece] + [value for _, value in piece]


def count_written(replies: Sequence[Any]) -> int:
    """The sum of the script's replies.

    Raises
    ------
    IntegrityError
        If the script refused a key.
    """
    for reply in replies:
        if isinstance(reply, Exception):
            text = str(reply)
            if "FOREIGN" in text:
                raise IntegrityError(
                    f"a key holds no packed value of codec version {MAGIC[3]}",
                    where=text,
                    remedy="Another program writes under this project's keys: give the project another name",
                )
            raise reply
    return sum(int(reply) for reply in replies)


async def write_many_async(redis: AsyncRedis, items: Sequence[tuple[bytes, bytes]]) -> int:
    """``write_many`` on an event loop."""
    written = 0
    try:
        for calls in _pipelines(items):
            replies = await _fill(redis.pipeline(transaction=False), calls).execute(raise_on_error=False)
            if any(isinstance(reply, NoScriptError) for reply in replies):
                await redis.script_load(COMPARE_AND_SET)
                replies = await _fill(redis.pipeline(transaction=False), calls).execute(raise_on_error=False)
            written += count_written(replies)
    except RedisError as error:
        raise unavailable(error) from error
    return written


def delete_view(redis: Redis, project: str, view: str, version: int | None = None) -> int:
    """Delete every value of a view (of one version, or of all), found by its own prefix; returns how many."""
    prefix = view_prefix(project, view, version or 0)
    if version is None:
        prefix = prefix[: prefix.rindex(b"@") + 1]
    return _delete(redis, prefix)


def delete_layouts(redis: Redis, project: str) -> int:
    """Delete the published layouts of a project; returns how many."""
    return _delete(redis, layout_key(project, b""))


def _delete(redis: Redis, prefix: bytes) -> int:
    deleted = 0
    batch: list[bytes] = []
    try:
        for key in redis.scan_iter(match=glob(prefix), count=SCAN_COUNT):
            batch.append(key)
            if len(batch) == SCAN_COUNT:
                deleted += int(redis.unlink(*batch))
                batch.clear()
        if batch:
            deleted += int(redis.unlink(*batch))
    except RedisError as error:
        raise unavailable(error) from error
    return deleted


def publish_layout(redis: Redis, project: str, layout: Layout) -> None:
    """Keep a layout's columns beside its values, so that they can be read after the view has changed."""
    try:
        redis.set(layout_key(project, layout.id), _layout_content(layout), nx=True)
    except RedisError as error:
        raise unavailable(error) from error


async def publish_layout_async(redis: AsyncRedis, project: str, layout: Layout) -> None:
    """``publish_layout`` on an event loop."""
    try:
        await redis.set(layout_key(project, layout.id), _layout_content(layout), nx=True)
    except RedisError as error:
        raise unavailable(error) from error


def _layout_content(layout: Layout) -> bytes:
    return canonical_json({"columns": [list(column) for column in layout.columns]})


def find_layout(redis: Redis, project: str, view: str, version: int, layout_id: bytes) -> Layout:
    """The layout that was published under an id.

    Raises
    ------
    IntegrityError
        If none was, or its columns do not give that id.
    """
    try:
        content = redis.get(layout_key(project, layout_id))
    except RedisError as error:
        raise unavailable(error) from error
    where = f"{view}@v{version}"
    remedy = "Materialize the view again"
    if content is None:
        raise IntegrityError(f"unknown layout {layout_id.hex()}", where=where, remedy=remedy)
    try:
        parsed: Mapping[str, Any] = json.loads(content)
        columns = tuple(Column(str(name), str(kind)) for name, kind in parsed["columns"])
        layout = Layout(view, version, columns)
    except (ValueError, KeyError, TypeError, ParameterError):
        raise IntegrityError(f"layout {layout_id.hex()} is unreadable", where=where, remedy=remedy) from None
    if layout.id != layout_id:
        raise IntegrityError(f"layout {layout_id.hex()} has other columns than its id says", where=where, remedy=remedy)
    return layout


def unavailable(error: RedisError | OSError) -> UnavailableError:
    """The error a caller can act on."""
    return UnavailableError(f"the online store cannot be used: {error}", remedy="Check it with: tapeline status")


def known_us(time_us: int) -> int | None:
    """A time of ``RowTimes``, or none where the writer was not told."""
    return None if time_us == UNKNOWN else time_us


def _pipelines(items: Sequence[tuple[bytes, bytes]]) -> Iterator[list[tuple[int, list[bytes]]]]:
    calls = []
    for call in script_calls(items):
        calls.append(call)
        if len(calls) == CALLS_PER_PIPELINE:
            yield calls
            calls = []
    if calls:
        yield calls


def _send(redis: Redis, calls: Sequence[tuple[int, list[bytes]]]) -> list[Any]:
    replies: list[Any] = _fill(redis.pipeline(transaction=False), calls).execute(raise_on_error=False)
    return replies


def _fill(pipeline: Any, calls: Sequence[tuple[int, list[bytes]]]) -> Any:
    for count, arguments in calls:
        pipeline.evalsha(COMPARE_AND_SET_SHA, count, *arguments)
    return pipeline
