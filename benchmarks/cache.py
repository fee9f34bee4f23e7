"""How long does a lookup in the inference server's caches take, and how many lookups find something?

No log of real requests comes with the project, so the workload is made from what does: the last trades of the packaged tape
(E-mini S&P 500, regular hours of 3 September 2013) give the moments, bursts and lulls as they were: each trade is one request, as of a
program that asks whenever the market moves. A request names ``PER_REQUEST`` different ones of ``ENTITIES`` entities, drawn by a Zipf law (the
weight of rank r is 1/r); every ten minutes a tenth of the ranks change places, so that popularity drifts. Two servers, which share
one Valkey and have a first level too small for everything, answer in turn, on a clock that stands at the trade's time: entries end after
their five minutes of that time. Keys hold the position of the features, as predictions' keys do, in two ways: features of the
session before, which is what the packaged daily model reads, and features that are written anew for every entity each minute.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import uvloop
from numpy.typing import NDArray
from tapeline.core.clock import ReplayClock
from tapeline.core.settings import get_settings
from tapeline.core.timestamps import MINUTE_US, SECOND_US
from tapeline.ingestion.packaged import open_trades_file
from tapeline.storage.caches import CachePolicy, MemoryCache, SharedLevel, TwoLevelCache, Value
from tapeline_serving.store.address import RedisAddress
from tapeline_serving.store.connection import RedisConnection

from benchmarks.harness import Result, absolute
from tests.support.session import SessionServers

GROUP = "online"
TRADES = 40_000
ENTITIES = 500
PER_REQUEST = 5
SERVERS = 2
FIRST_LEVEL_BYTES = 256 << 10
ANSWER_BYTES = 700
"""Of a prediction over 61 features."""
TTL_US = 300 * SECOND_US
DRIFT_EVERY_US = 10 * MINUTE_US
SLICE = 2_000
BARE_EVERY = 4
"""Requests between two bare readings of as many keys over the same connection: what the machine itself takes."""


@dataclass(frozen=True)
class Workload:
    """Moments (requests,) in µs; ranks of entities (requests, PER_REQUEST)."""

    at_us: NDArray[np.int64]
    entities: NDArray[np.int64]


def moments() -> NDArray[np.int64]:
    """Times of the last trades, µs, as written: in Chicago's time, whose offset does not matter here."""
    with open_trades_file(get_settings().home_path / "downloads") as file:
        lines = file.read().split(b"\n")
    rows = [line.split(b",", 1)[0] for line in lines if line[:2] == b"20"][-TRADES:]
    return np.array([row.decode().replace("/", "-") for row in rows], dtype="datetime64[us]").astype(np.int64)


def workload() -> Workload:
    """The requests described above, the same every time."""
    chance = np.random.default_rng(7)
    at_us = np.maximum.accumulate(moments())
    weights = 1.0 / np.arange(1, ENTITIES + 1)
    # The greatest of log-weight plus Gumbel noise: drawing without replacement by weight.
    noise = chance.gumbel(size=(len(at_us), ENTITIES)).astype(np.float32)
    ranks = np.argpartition(-(np.log(weights).astype(np.float32) + noise), PER_REQUEST, axis=1)[:, :PER_REQUEST]
    of_rank = np.arange(ENTITIES)
    entities = np.empty_like(ranks)
    period = (at_us - at_us[0]) // DRIFT_EVERY_US
    for each in np.unique(period):
        if each:
            moved = chance.choice(ENTITIES, ENTITIES // 10, replace=False)
            of_rank[moved] = of_rank[chance.permutation(moved)]
        entities[period == each] = of_rank[ranks[period == each]]
    return Workload(at_us, entities)


@dataclass(frozen=True)
class Replayed:
    """What a replay gave: seconds of each request's lookup and of some bare readings beside, and the servers' own counts."""

    seconds: NDArray[np.float64]
    in_memory: NDArray[np.bool_]
    bare_seconds: NDArray[np.float64]
    computed: int
    from_memory: int
    from_shared: int


async def replay(url: str, name: str, requests: Workload, rewritten_every_us: int | None) -> Replayed:
    """Let two servers answer all requests."""
    connections = [RedisConnection(RedisAddress.parse(url)) for _ in range(SERVERS)]
    caches = []
    for connection in connections:
        await connection.start()
        cache = TwoLevelCache(
            CachePolicy(name, TTL_US), MemoryCache(FIRST_LEVEL_BYTES), SharedLevel(connection.execute), project="bench"
        )
        cache.use_version("0" * 64)
        caches.append(cache)
    clock = ReplayClock(0)
    seconds = np.empty(len(requests.at_us))
    in_memory = np.empty(len(seconds), dtype=np.bool_)
    bare_seconds = []

    async def compute(positions: list[int]) -> Sequence[Value]:
        return [Value(bytes(ANSWER_BYTES)) for _ in positions]

    for number, (at_us, entities) in enumerate(zip(requests.at_us.tolist(), requests.entities.tolist(), strict=True)):
        clock.move_to(at_us)
        position = at_us // rewritten_every_us if rewritten_every_us else 0
        keys = [b"s6:SYM%03d:%016d" % (entity, position) for entity in entities]
        cache = caches[number % SERVERS]
        before = cache.statistics.hits_memory
        begin = time.perf_counter()
        await cache.get_or_compute_many(keys, clock.now_us(), compute)
        seconds[number] = time.perf_counter() - begin
        in_memory[number] = cache.statistics.hits_memory == before + len(keys)
        if number % BARE_EVERY == 0:
            begin = time.perf_counter()
            await connections[0].mget(keys)
            bare_seconds.append(time.perf_counter() - begin)
    for cache, connection in zip(caches, connections, strict=True):
        await cache.drain()
        await connection.close()
    counted = [cache.statistics for cache in caches]
    return Replayed(
        seconds,
        in_memory,
        np.array(bare_seconds),
        sum(each.computed for each in counted),
        sum(each.hits_memory for each in counted),
        sum(each.hits_shared for each in counted),
    )


def run() -> Iterator[Result]:
    """Replay both ways."""
    requests = workload()
    lookups = requests.entities.size
    sizes: dict[str, int | float | str] = {
        "requests": len(requests.at_us), "entities": ENTITIES, "per_request": PER_REQUEST, "servers": SERVERS,
        "first_level_bytes": FIRST_LEVEL_BYTES, "minutes": round(float(np.ptp(requests.at_us)) / MINUTE_US),
    }  # fmt: skip
    servers = SessionServers({"valkey": True})
    try:
        for name, words, every_us in (
            ("session", "features of the session before", None),
            ("minute", "features written anew every minute", MINUTE_US),
        ):
            done = uvloop.run(replay(servers.redis_url(0), name, requests, every_us))
            if done.computed + done.from_memory + done.from_shared != lookups:
                raise AssertionError("a lookup was not counted, or twice")
            slices = done.seconds[: len(done.seconds) // SLICE * SLICE].reshape(-1, SLICE) * 1e3
            p50, p99, worst = np.percentile(done.seconds * 1e3, [50, 99, 100])
            bare50, bare99, bare_worst = np.percentile(done.bare_seconds * 1e3, [50, 99, 100])
            bare = f"a bare MGET beside it: p50 {bare50:.3f} ms, p99 {bare99:.3f}, worst {bare_worst:.1f}"
            yield absolute(
                f"cache lookup of {PER_REQUEST} entities, both levels, p99; {words}",
                ours=np.percentile(slices, 99, axis=1),
                unit="ms",
                at_most=1.0,
                sizes=sizes,
                notes=f"of each {SLICE} requests; over all: p50 {p50:.3f} ms, p99 {p99:.3f}, worst {worst:.1f}; {bare}",
                if_missed=f"the machine was busy: {bare}" if bare99 > 0.5 else "",
            )
            found = done.seconds[done.in_memory] * 1e3
            yield absolute(
                f"cache lookup of {PER_REQUEST} entities, all in the server's memory, p99; {words}",
                ours=[float(np.percentile(part, 99)) for part in np.array_split(found, len(slices))],
                unit="ms",
                at_most=1.0,
                sizes=sizes,
                notes=f"{len(found)} requests; p50 {np.percentile(found, 50):.4f} ms",
            )
            misses = done.computed / lookups * 100
            yield absolute(
                f"lookups that find nothing in the replayed workload; {words}",
                ours=[misses],
                unit="%",
                at_most=10.0,
                sizes=sizes,
                notes=f"hit rate {100 - misses:.1f} %: {done.from_memory / lookups:.1%} in the server's memory, "
                f"{done.from_shared / lookups:.1%} in Valkey",
            )
    finally:
        servers.close()
