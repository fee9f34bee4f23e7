"""Writes packed values to Redis or Valkey by compare-and-set scripts, and keeps their layouts beside them.

The ranking of ``packed.RowTimes`` decides every write inside the server, so that any number of writers may deliver
rows in any order, twice or late, and each key ends at the greatest row. Reading is in ``online_reader``.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisClusterException, RedisError

from tapeline.core.errors import IntegrityError, ParameterError, UnavailableError
from tapeline.core.hashing import canonical_json
from tapeline.kernels import packed_values as loops
from tapeline.storage.keys import glob, layout_key, materialized_key, view_prefix
from tapeline.storage.packed import CODEC_VERSION, UNKNOWN, Column, Layout, row_times
from tapeline.storage.scripts import Call, Script, by_slot

# Compares the times of two heads byte by byte, which is how they rank: Lua's own string comparison would follow the server's
# locale, and its numbers are doubles, which cannot tell two sequences above 2^53 apart. The times take five bytes at least, so only
# where these are equal it matters where they end. What codec version 1 wrote nobody reads, so it gives way. A key that holds
# anything else is an error and is left as it is. Where keys expire, their moments come after the values; the same row written
# again moves its key's moment, or takes it away.
COMPARE_AND_SET = Script(
    f"""
local first, last, bare = {1 + loops.ID_BYTES + 1}, {loops.HEAD_BYTES_MAX}, {loops.CODEC}
"""
    r"""
local function past(value, at)
  local begins = string.byte(value, at)
  if begins >= 248 then return at + begins - 244 end
  if begins >= 224 then return at + 3 end
  if begins >= 160 then return at + 2 end
  if begins >= 9 or begins == 0 then return at + 1 end
  return at + 10 - begins
end
local function ranked(old, new)
  local at = first
  while at <= last and string.byte(old, at) == string.byte(new, at) do at = at + 1 end
  if at >= first + 5 then
    local ends = first
    for _ = 1, 5 do ends = past(new, ends) end
    if at >= ends then return 0 end
  end
  return (string.byte(new, at) or -1) > (string.byte(old, at) or -1) and 1 or -1
end
local written = 0
local expire = #ARGV > #KEYS
for k = 1, #KEYS do
  local new = ARGV[k]
  local old = redis.call('GETRANGE', KEYS[k], 0, last - 1)
  local order = 1
  if old ~= '' and string.sub(old, 1, 4) ~= 'TLP\001' then
    local begins = string.byte(old)
    if #old < first + 4 or (begins ~= bare and begins ~= bare + 1) then
      return redis.error_reply('FOREIGN ' .. KEYS[k])
    end
    order = ranked(old, new)
  end
  if order == 1 then
    if expire then
      redis.call('SET', KEYS[k], new, 'PXAT', ARGV[#KEYS + k])
    else
      redis.call('SET', KEYS[k], new)
    end
    written = written + 1
  elseif order == 0 then
    if expire then redis.call('PEXPIREAT', KEYS[k], ARGV[#KEYS + k]) else redis.call('PERSIST', KEYS[k]) end
  end
end
return written
"""
)

KEYS_PER_SCRIPT = 64
"""Keys of one script call: the server answers nobody else while a script runs."""

SCAN_COUNT = 1_000

FAILURES = (RedisError, RedisClusterException, OSError)
"""What redis-py raises: a cluster's errors are not all among its own."""

_EXPIRY_MS_MAX = 1 << 52


def write_many(redis: Redis, items: Sequence[tuple[bytes, bytes]], *, keep_us: int | None = None) -> int:
    """Write packed values under their keys, each only if it ranks above what the key holds.

    Calls are pipelined without a transaction; a run that is cut off half-way leaves whole values and may be repeated.

    Parameters
    ----------
    redis
        A client that returns bytes.
    items
        Pairs of key and packed value. A key may occur several times.
    keep_us
        Let keys expire when a value's event, and its writing, are both this long ago: the view's TTL or more, or readers
        would miss what they may use. None: they stay.

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
    try:
        return count_written(list(COMPARE_AND_SET.run(redis, script_calls(redis, items, keep_us=keep_us))))
    except FAILURES as error:
        raise unavailable(error) from error


async def write_many_async(
    redis: AsyncRedis, items: Sequence[tuple[bytes, bytes]], *, keep_us: int | None = None
) -> int:
    """``write_many`` on an event loop."""
    try:
        return count_written(await COMPARE_AND_SET.run_async(redis, script_calls(redis, items, keep_us=keep_us)))
    except FAILURES as error:
        raise unavailable(error) from error


def script_calls(redis: object, items: Sequence[tuple[bytes, bytes]], *, keep_us: int | None = None) -> list[Call]:
    """The calls of ``COMPARE_AND_SET`` that write some items, in their order as far as they share a key."""
    calls = []
    now_us = time.time_ns() // 1_000
    for places in by_slot(redis, [key for key, _ in items]):
        for start in range(0, len(places), KEYS_PER_SCRIPT):
            piece = [items[place] for place in places[start : start + KEYS_PER_SCRIPT]]
            arguments = [value for _, value in piece]
            if keep_us is not None:
                arguments += [b"%d" % _expiry_ms(value, now_us, keep_us) for _, value in piece]
            calls.append(Call([key for key, _ in piece], arguments))
    return calls


def _expiry_ms(value: bytes, now_us: int, keep_us: int) -> int:
    return min((max(row_times(value).event_us, now_us) + keep_us) // 1_000 + 1, _EXPIRY_MS_MAX)


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
            if "FOREIGN" in text or "WRONGTYPE" in text:
                raise IntegrityError(
                    f"a key holds no packed value of codec version {CODEC_VERSION}",
                    where=text,
                    remedy="Another program writes under this project's keys: give the project another name",
                )
            raise reply
    return sum(int(reply) for reply in replies)


def delete_view(redis: Redis, project: str, view: str, version: int | None = None) -> int:
    """Delete every value of a view (of one version, or of all), found by its own prefix; returns how many.

    What is known of how far they had been brought goes first.
    """
    prefix, record = view_prefix(project, view, version or 0), materialized_key(project, view, version or 0)
    if version is None:
        prefix, record = prefix[: prefix.rindex(b"@") + 1], record[: record.rindex(b"@") + 1]
    _delete(redis, glob(record))
    return _delete(redis, glob(prefix))


def delete_layouts(redis: Redis, project: str) -> int:
    """Delete the published layouts of a project; returns how many."""
    return _delete(redis, glob(layout_key(project, b"")))


def delete_untagged(redis: Redis, project: str) -> int:
    """Delete a project's values, states and actions under keys without a hash tag, as they once were; returns how many."""
    view_prefix(project, "view", 0)  # refuses a name that would make keys ambiguous
    project_prefix = f"tl:{project}:".encode()
    untagged = re.compile(re.escape(project_prefix) + rb"(?:(?:state:)?[^:@]+@[0-9]+|actions):[^{]")
    return _delete(redis, glob(project_prefix), untagged)


def _delete(redis: Redis, pattern: bytes, only: re.Pattern[bytes] | None = None) -> int:
    deleted = 0
    batch: list[bytes] = []
    try:
        for key in redis.scan_iter(match=pattern, count=SCAN_COUNT):
            if only is not None and only.match(key) is None:
                continue
            batch.append(key)
            if len(batch) == SCAN_COUNT:
                deleted += int(redis.unlink(*batch))
                batch.clear()
        if batch:
            deleted += int(redis.unlink(*batch))
    except FAILURES as error:
        raise unavailable(error) from error
    return deleted


def publish_layout(redis: Redis, project: str, layout: Layout) -> None:
    """Keep a layout's columns beside its values, so that they can be read after the view has changed.

    Raises
    ------
    IntegrityError
        If other columns stand there under its id.
    UnavailableError
        If the server cannot be reached.
    """
    content = _layout_content(layout)
    try:
        before = redis.set(layout_key(project, layout.id), content, nx=True, get=True)
    except FAILURES as error:
        raise unavailable(error) from error
    _check_published(layout, before, content)


async def publish_layout_async(redis: AsyncRedis, project: str, layout: Layout) -> None:
    """``publish_layout`` on an event loop."""
    content = _layout_content(layout)
    try:
        before = await redis.set(layout_key(project, layout.id), content, nx=True, get=True)
    except FAILURES as error:
        raise unavailable(error) from error
    _check_published(layout, before, content)


def _check_published(layout: Layout, before: object, content: bytes) -> None:
    if before is not None and before != content:
        raise IntegrityError(
            f"other columns are published as layout {layout.id.hex()}",
            where=layout.label,
            remedy="Delete the key if it is damaged; two sets of columns with one id: rename a feature, or use another project",
        )


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
    except FAILURES as error:
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


def known_us(time_us: int) -> int | None:
    """A time of ``RowTimes``, or none where the writer was not told."""
    return None if time_us == UNKNOWN else time_us


def unavailable(error: Exception) -> UnavailableError:
    """The error a caller can act on."""
    return UnavailableError(f"the online store cannot be used: {error}", remedy="Check it with: tapeline status")
