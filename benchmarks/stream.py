"""How soon is an event's feature in Redis, and how many events a second does one worker take? The full daily plan, from bars.

Latency is seen from outside: the process that sends the events also asks Redis for the values until they are there. The
worker is a process of its own; what it counts itself is told beside it. Throughput is compared with a bare client that reads the
same entries from the same server, writes as many values of the same length, and acknowledges; and with one that writes a value
for each event.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import redis
from tapeline.core.settings import Settings
from tapeline.kernels.packed_values import HEAD_BYTES_MAX
from tapeline.storage.keys import entity_key_sorted, view_prefix
from tapeline.storage.packed import row_times
from tapeline.streaming.codec import encode_block
from tapeline.streaming.plan import FIELD
from tapeline.streaming.producer import Producer
from tapeline.streaming.worker import Worker

from benchmarks.harness import Result, absolute, compare
from benchmarks.stored.streams import PLAN, SPEC, SYMBOLS, bars, client, servers, worker

GROUP = "stream"
PER_SECOND, TICK_S = 10_000, 0.001
ASK_S = 0.0001
PROBE_TICKS = 10
LAST_S = 20.0
SECONDS, WARM_S = 12, 4
ROUNDS, EVENTS = 7, 40_000
BLOCK = 512
PEER = "bare Redis client"


def run() -> Iterator[Result]:
    """Measure latency, then throughput."""
    for question in (_latency, _throughput):
        with servers() as settings:
            yield from question(settings)


def _latency(settings: Settings) -> Iterator[Result]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.stored.streams", str(settings.home_path), str(WARM_S * PER_SECOND)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError("the worker did not start")
        with client(settings) as connection:
            seen, pace = _paced(connection)
        process.terminate()
        told = json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()
    sizes: dict[str, int | float | str] = {
        "events_a_second": round(pace),
        "outputs": len(SPEC.columns),
        "symbols": len(SYMBOLS),
        "seen": len(seen),
    }
    own = told["latency"]
    yield absolute(
        f"event → feature visible in Redis, {PER_SECOND:,} events/s, {len(SPEC.columns)} outputs, p50",
        ours=seen * 1e3,
        unit="ms",
        at_most=1.0,
        sizes=sizes,
        if_missed="producer, Redis, worker and PostgreSQL share the machine's processors: see the pace that was reached",
        notes=f"{pace:,.0f} events/s were sent; asked for from outside; p99 {1e3 * np.percentile(seen, 99):.2f} ms; the worker itself counts p50"
        f" {1e3 * own['p50_s']:.2f} ms, p99 {1e3 * own['p99_s']:.2f} ms; PostgreSQL takes the rows meanwhile",
    )
    yield absolute(
        f"processing of an event, {PER_SECOND:,} events/s, p99",
        ours=[told["processing"]["p99_s"] * 1e6],
        unit="µs",
        at_most=100.0,
        sizes=sizes,
        if_missed="a read of a single event costs as much as one of ten",
        notes=f"a read's time shared out among its events; p50 {1e6 * told['processing']['p50_s']:.0f} µs",
    )


def _paced(connection: redis.Redis) -> tuple[np.ndarray, float]:
    """Send events at their pace; seconds after which some of their values were there, and the pace that was reached.

    Every ``PROBE_TICKS`` an event is looked for, whether or not the one before is there yet: a slow moment counts as long as it lasts.
    """
    producer = Producer(connection, PLAN, wait_s=60.0)
    prefix = view_prefix(PLAN.project, SPEC.name, SPEC.version)
    each = round(PER_SECOND * TICK_S)
    seen: list[float] = []
    probes: list[tuple[bytes, int, float]] = []
    ready = [bars(tick * each, each) for tick in range(round(SECONDS / TICK_S))]
    begun = time.perf_counter()
    for tick, events in enumerate(ready):
        while True:
            probes = _look(connection, probes, seen)
            left = begun + tick * TICK_S - time.perf_counter()
            if left <= 0:
                break
            # Asking without a pause would take a processor, and Redis' time, from what is measured.
            time.sleep(min(left, ASK_S) if probes else left)
        events.records["available_us"] = time.time_ns() // 1_000
        sent = time.perf_counter()
        producer.send(events)
        if tick % PROBE_TICKS == 0 and tick * TICK_S > WARM_S:
            record = events.records[each // 2]
            symbol = events.symbols[int(record["symbol"])]
            probes.append((prefix + entity_key_sorted([symbol]), int(record["event_us"]), sent))
    pace = producer.sent / (time.perf_counter() - begun)
    deadline = time.perf_counter() + LAST_S
    while probes := _look(connection, probes, seen):
        if time.perf_counter() > deadline:
            raise RuntimeError(f"{len(probes)} values did not come within {LAST_S:g} s")
        time.sleep(ASK_S)
    return np.array(seen), pace


def _look(
    connection: redis.Redis, probes: list[tuple[bytes, int, float]], seen: list[float]
) -> list[tuple[bytes, int, float]]:
    """Those of the probes whose value is not there yet; of the others, how long it took is added."""
    if not probes:
        return probes
    pipeline = connection.pipeline(transaction=False)
    for key, _, _ in probes:
        pipeline.getrange(key, 0, HEAD_BYTES_MAX - 1)
    heads = pipeline.execute()
    now = time.perf_counter()
    waiting = []
    for probe, head in zip(probes, heads, strict=True):
        if head and row_times(head).event_us >= probe[1]:
            seen.append(now - probe[2])
        else:
            waiting.append(probe)
    return waiting


def _throughput(settings: Settings) -> Iterator[Result]:
    with client(settings) as connection:
        for feature_rows in (True, False):
            yield from _rounds(settings, connection, feature_rows=feature_rows)


def _rounds(settings: Settings, connection: redis.Redis, *, feature_rows: bool) -> Iterator[Result]:
    running = worker(settings, feature_rows=feature_rows)
    while len(running.leases.owned) < PLAN.partitions:
        running.step(block_ms=1)
    producer = Producer(connection, PLAN, block_events=BLOCK, wait_s=60.0)
    first = 0 if feature_rows else (ROUNDS + 2) * EVENTS
    online, complete, bare, single, own, offered, events = [], [], [], [], [], [], EVENTS
    for number in range(ROUNDS + 2):
        producer.send(bars(first + number * EVENTS, EVENTS))
        before = running.counters.online
        begun, begun_own = time.perf_counter(), time.thread_time()
        _until(running, running.counters.taken + EVENTS)
        visible, own_s = time.perf_counter(), time.thread_time() - begun_own
        running.flush()
        stands = time.perf_counter()
        offered.append(running.counters.online - before)
        value_bytes = _value_bytes(connection)
        seconds = _bare(connection, first + number * EVENTS, offered[-1], value_bytes)
        single_s = _bare(connection, first + number * EVENTS, EVENTS, value_bytes)
        if number >= 2:
            single.append(events / single_s)
            own.append(1e6 * own_s / events)
            online.append(events / (visible - begun))
            complete.append(events / (stands - begun))
            bare.append(events / seconds)
    running.close()
    what = "raw and feature rows" if feature_rows else "raw rows, feature rows left to a back-fill"
    sizes: dict[str, int | float | str] = {
        "events": EVENTS, "symbols": len(SYMBOLS), "outputs": len(SPEC.columns), "block": BLOCK,
        "values_written": int(np.median(offered)), "value_bytes": value_bytes,
    }  # fmt: skip
    note = (
        f"{np.median(offered):,.0f} values written for {EVENTS:,} events: one of each symbol and batch; the worker's thread"
        f" itself takes {np.median(own):.1f} µs of a processor an event"
    )
    compute = (
        "a bare client reads blocks and writes one value a symbol and batch; every event's outputs are computed, which alone"
        " takes longer than that"
    )
    database = "the database's own time: rows of all outputs are about 1.7 KB each to parse, log and index"
    yield compare(
        f"stream → online, {len(SPEC.columns)} outputs, one worker, bursts of {EVENTS:,} ({what} written behind)",
        ours=online, theirs=bare, peer=PEER, unit="events/s", better="higher", goal_ratio=0.5, sizes=sizes, notes=note,
        if_missed=compute,
    )  # fmt: skip
    yield compare(
        f"the same, beside a bare client that writes one value an event ({what} written behind)",
        ours=online, theirs=single, peer=PEER, unit="events/s", better="higher", goal_ratio=0.5, sizes=sizes, notes=note,
        if_missed=compute,
    )  # fmt: skip
    yield absolute(
        f"the same, an event ({what} written behind); goal ≥ 50,000 events/s",
        ours=[1e6 / rate for rate in online], unit="µs", at_most=20.0, sizes=sizes, notes=note, if_missed=compute,
    )  # fmt: skip
    yield compare(
        f"stream → online and PostgreSQL, acknowledged ({what})",
        ours=complete, theirs=bare, peer=PEER, unit="events/s", better="higher", goal_ratio=0.5, sizes=sizes, notes=note,
        if_missed=database,
    )  # fmt: skip


def _until(running: Worker, taken: int) -> None:
    while running.counters.taken < taken:
        running.step(block_ms=1)


def _value_bytes(connection: redis.Redis) -> int:
    """Length of the values that the worker wrote."""
    prefix = view_prefix(PLAN.project, SPEC.name, SPEC.version)
    return round(np.median([connection.strlen(prefix + entity_key_sorted([symbol])) for symbol in SYMBOLS]))


def _bare(connection: redis.Redis, first: int, values: int, value_bytes: int) -> float:
    """Seconds of a client that reads the same entries, writes so many values, and acknowledges."""
    plan = replace(PLAN, name="bare")
    keys = [plan.events_key(partition) for partition in range(plan.partitions)]
    connection.delete(*keys)
    events = bars(first, EVENTS)
    home = np.array([plan.partition_of(symbol) for symbol in events.symbols])[events.records["symbol"]]
    for partition, key in enumerate(keys):
        connection.xgroup_create(key, "bare", id="0", mkstream=True)
        places = np.flatnonzero(home == partition)
        pipeline = connection.pipeline(transaction=False)
        for start in range(0, len(places), BLOCK):
            pipeline.xadd(key, {FIELD: encode_block(events.chosen(places[start : start + BLOCK]))})
        pipeline.execute()
    value = b"x" * value_bytes
    left = values
    begun = time.perf_counter()
    while reply := connection.xreadgroup("bare", "one", dict.fromkeys(keys, b">"), count=64):
        pipeline = connection.pipeline(transaction=False)
        for number in range(min(left, len(SYMBOLS))):
            pipeline.set(b"bare:%d" % number, value)
        left -= min(left, len(SYMBOLS))
        for key, entries in reply:
            pipeline.xack(key, "bare", *(entry_id for entry_id, _ in entries))
        pipeline.execute()
    while left:
        pipeline = connection.pipeline(transaction=False)
        for number in range(min(left, len(SYMBOLS))):
            pipeline.set(b"bare:%d" % number, value)
        left -= min(left, len(SYMBOLS))
        pipeline.execute()
    return time.perf_counter() - begun
