"""Measures on this machine what the simulation is driven by, with the program's own parts and servers of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import redis
from tapeline.core.settings import Settings
from tapeline.core.timestamps import DAY_US, MINUTE_US, to_us
from tapeline.features.catalogue import view
from tapeline.features.view import FeatureViewSpec
from tapeline.storage.feature_tables import append_rows, qualified_name, register_view
from tapeline.storage.keys import entity_key_sorted, view_prefix
from tapeline.storage.online import write_many
from tapeline.storage.packed import Layout, encode_many
from tapeline.storage.postgres import connect
from tapeline.storage.redis import redis_url
from tapeline.storage.state_codec import SavedState, encode_state
from tapeline.streaming.codec import EventKind, Events, decode_block, encode_block, make_events
from tapeline.streaming.plan import FIELD, GROUP, StreamPlan
from tapeline.streaming.producer import Producer
from tapeline.streaming.worker import Worker

from benchmarks.scaling.costs import Costs
from benchmarks.stored.streams import servers

SYMBOLS = [f"SYM{number:05}" for number in range(256)]
"""About what one of 40 workers holds of 10,000 symbols: their states do not fit a processor's cache."""
FIRST_US = to_us("1990-01-02T21:00:00+00:00")
BATCHES = (16, 64, 1_024, 4_096, 16_384)
"""Sizes of the batches that a worker's costs are found from."""
REPEATS = 5
WARM_EVENTS = 8_192
ROWS_WRITTEN = 4_096
VALUES_WRITTEN = 2_048

EVERY = view("daily_technical")
"""Each event is a bar, which makes a row of the full daily plan."""
MINUTES = view("intraday_technical")
"""Each event is a trade; at the end of a minute a symbol's trades make a row of about the same plan."""


def measure(spec: FeatureViewSpec) -> Costs:
    """All costs of a stream whose workers compute one view; takes some seconds."""
    with servers(spec) as settings:
        return _measure(settings, spec)


def events_of(spec: FeatureViewSpec, first: int, count: int) -> Events:
    """Events ``first`` and following of a stream that goes round the symbols."""
    numbers = np.arange(first, first + count)
    turn, symbol = numbers // len(SYMBOLS), numbers % len(SYMBOLS)
    rng = np.random.default_rng(first)
    price = 100.0 + 5 * np.sin(turn / 9.0 + symbol) + rng.normal(0, 0.5, count)
    if spec.rows.raw == "trades":
        # A thousand trades of a symbol make a minute.
        kind, event_us = EventKind.trades, FIRST_US + turn * (MINUTE_US // 1_000)
        values = np.column_stack([price, rng.integers(1, 900, count)])
    else:
        kind, event_us = EventKind.bars, FIRST_US + turn * DAY_US
        high, low = price + rng.random(count), price - rng.random(count)
        values = np.column_stack(
            [event_us - 6 * 60 * MINUTE_US, price, high, low, price, rng.integers(1, 9_000, count)]
        )
    names = [SYMBOLS[number] for number in symbol.tolist()]
    return make_events(kind, names, event_us, numbers.astype(np.int64), event_us, values)


def _measure(settings: Settings, spec: FeatureViewSpec) -> Costs:
    client = redis.Redis.from_url(redis_url(settings))
    with client, connect(settings) as connection:
        server, codec, kernel_s = _server_costs(client, spec), _codec_costs(spec), _kernel_s(spec)
        batch_s, event_s, rows = _worker_costs(settings, client, spec)
        return Costs(
            **server,
            **codec,
            batch_s=batch_s,
            # A long batch has many rows of each symbol, whose state stays near; a live one has few, as the kernels here.
            event_s=max(event_s, codec["decode_event_s"] + rows * kernel_s),
            rows_per_event=rows,
            kernel_event_s=kernel_s,
            **_disk_costs(connection, spec),
            state_bytes=_state_bytes(spec),
        )


def _best(call: Callable[[], object], calls: int, rounds: int = REPEATS) -> float:
    """Seconds of a call: of the quickest round, since on a shared machine what disturbs only adds."""
    call()
    found = []
    for _ in range(rounds):
        begun = time.perf_counter()
        for _ in range(calls):
            call()
        found.append((time.perf_counter() - begun) / calls)
    return min(found)


# Redis ----------------------------------------------------------------------------------------------------------------


def _server_s(client: redis.Redis) -> float:
    """Processor seconds of the server so far, its input and output included."""
    found = client.info("cpu")
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


def _cpu_of(client: redis.Redis, work: Callable[[], object], rounds: int = REPEATS) -> float:
    """Least processor seconds that the server spent on something."""
    found = []
    for _ in range(rounds):
        before = _server_s(client)
        work()
        found.append(_server_s(client) - before)
    return min(found)


def _server_costs(client: redis.Redis, spec: FeatureViewSpec) -> dict[str, float]:
    small, large = (encode_block(events_of(spec, 0, count)) for count in (4, 512))
    count = 2_000

    def add(block: bytes) -> None:
        pipeline = client.pipeline(transaction=False)
        for _ in range(count):
            pipeline.xadd("scale", {FIELD: block})
        pipeline.execute()

    def fresh(block: bytes) -> float:
        client.delete("scale")
        client.xgroup_create("scale", GROUP, id="0", mkstream=True)
        before = _server_s(client)
        add(block)
        return _server_s(client) - before

    def drained() -> tuple[float, float]:
        before = _server_s(client)
        ids: list[bytes] = []
        while reply := client.xreadgroup(GROUP, "one", {"scale": ">"}, count=64):
            ids += [entry_id for entry_id, _ in reply[0][1]]
        read = _server_s(client) - before
        before = _server_s(client)
        pipeline = client.pipeline(transaction=False)
        for start in range(0, len(ids), 64):
            pipeline.xack("scale", GROUP, *ids[start : start + 64])
        pipeline.execute()
        return read, _server_s(client) - before

    adds, reads, memory, acknowledged = [], [], [], []
    for block in (small, large):
        found = [(fresh(block), client.memory_usage("scale", samples=0), *drained()) for _ in range(3)]
        adds.append(min(one[0] for one in found) / count)
        memory.append(found[0][1] / count)
        reads.append(min(one[2] for one in found) / count)
        acknowledged.append(min(one[3] for one in found) / count)
    client.delete("scale")
    more = len(large) - len(small)
    add_byte, read_byte = (max(0.0, (costs[1] - costs[0]) / more) for costs in (adds, reads))
    value_s, value_bytes = _value_costs(client, spec)
    return {
        "add_entry_s": max(1e-7, adds[0] - add_byte * len(small)),
        "add_byte_s": add_byte,
        # Of a read of 64 small blocks what is not for their bytes.
        "read_call_s": max(1e-7, 64 * (reads[0] - read_byte * len(small))),
        "read_byte_s": read_byte,
        "acknowledge_entry_s": min(acknowledged),
        "write_value_s": value_s,
        "value_bytes": value_bytes,
        "entry_bytes": max(0.0, memory[0] - len(small)),
        "round_trip_s": _best(client.ping, 500),
    }


def _value_costs(client: redis.Redis, spec: FeatureViewSpec) -> tuple[float, float]:
    """The server's seconds for an online value, and its bytes in memory."""
    layout = Layout.of_floats(spec.name, spec.version, spec.columns)
    prefix = view_prefix("scale", spec.name, spec.version)
    keys = [prefix + entity_key_sorted([f"VALUE{number:05}"]) for number in range(VALUES_WRITTEN)]
    values = np.random.default_rng(1).normal(size=(VALUES_WRITTEN, len(spec.columns)))
    sequence = [0]

    def write() -> None:
        sequence[0] += 1
        times = np.full((VALUES_WRITTEN, 4), sequence[0], dtype=np.int64)
        write_many(client, list(zip(keys, encode_many(layout, times, values), strict=True)))

    write()
    seconds = _cpu_of(client, write) / VALUES_WRITTEN
    return seconds, float(client.memory_usage(keys[0]))


# The worker -----------------------------------------------------------------------------------------------------------


def _worker_costs(settings: Settings, client: redis.Redis, spec: FeatureViewSpec) -> tuple[float, float, float]:
    """Seconds for each batch and each event of a worker, and feature rows per event.

    Processor seconds of the worker's own thread: what waits for servers, or for other programs of this machine, is not in
    them, and neither is its writer's thread, which works beside it.
    """
    plan = StreamPlan("scale", spec.rows.source, partitions=4, project="scale")
    producer = Producer(client, plan, wait_s=60.0)
    worker = Worker(plan, [spec], redis=client, connect=lambda: connect(settings), lease_ms=60_000)
    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        producer.send(events_of(spec, sent, count))
        sent += count

    def work() -> int:
        batches = 0
        while worker.counters.taken < sent:
            worker.step(block_ms=1)
            batches += 1
        return batches

    try:
        send(WARM_EVENTS)
        work()
        worker.flush()
        samples = []
        for size in BATCHES:
            found = []
            for _ in range(REPEATS):
                send(size)
                begun = time.thread_time()
                batches = work()
                found.append((time.thread_time() - begun, batches))
                worker.flush()
            samples.append((size, *min(found)))
        rows = worker.counters.feature_rows / max(1, worker.counters.taken)
    finally:
        worker.close()
    return *fitted(*(np.array(column, dtype=np.float64) for column in zip(*samples, strict=True))), rows


def fitted(events: np.ndarray, seconds: np.ndarray, batches: np.ndarray) -> tuple[float, float]:
    """Seconds of a batch and of an event, from how long so many events took in so many batches.

    An event's are the slope over the larger half, where what a batch costs is lost in the noise; a batch's are what the
    smaller half has left.
    """
    half = len(events) // 2
    event_s = max(1e-8, float(np.polyfit(events[half:], seconds[half:], 1)[0]))
    left = (seconds[:half] - event_s * events[:half]) / batches[:half]
    return max(1e-6, float(np.median(left))), event_s


def _codec_costs(spec: FeatureViewSpec) -> dict[str, float]:
    events = events_of(spec, 0, 256)
    block = encode_block(events)
    one = len(encode_block(events_of(spec, 0, 1)))
    return {
        "encode_event_s": _best(lambda: encode_block(events), 50) / len(events),
        "decode_event_s": _best(lambda: decode_block(block), 50) / len(events),
        # The symbols' names are of the block, and there are as many as events here: the most that there may be.
        "event_bytes": (len(block) - one) / (len(events) - 1),
        "block_bytes": one - (len(block) - one) / (len(events) - 1),
    }


def _kernel_s(spec: FeatureViewSpec) -> float:
    """Seconds of the plan for one row of each of many symbols, as a batch of a stream has them."""
    plan = spec.plan.compile()
    count = len(SYMBOLS)
    states = np.tile(plan.new_state(), (count, 1))
    rng = np.random.default_rng(3)
    out = np.empty((count, len(plan.outputs)))
    day = [0]

    def update() -> None:
        day[0] += 1
        rows = _plan_rows(plan.inputs, rng, count, day[0])
        event = np.full(count, day[0] * DAY_US)
        begun = time.thread_time()
        plan.update_many(states, event, np.zeros(count, dtype=np.int64), event, rows, out)
        spent.append(time.thread_time() - begun)

    spent: list[float] = []
    for _ in range(300):
        update()
    return float(np.percentile(spent[200:], 10)) / count


def _plan_rows(inputs: tuple[str, ...], rng: np.random.Generator, count: int, day: int) -> np.ndarray:
    close = 100.0 + rng.normal(0, 1, count)
    known = {
        "open": close, "close": close, "high": close + 1, "low": close - 1, "volume": np.full(count, 1e4),
        "session": np.full(count, float(day)), "split_ratio": np.ones(count), "dividend_ratio": np.ones(count),
    }  # fmt: skip
    return np.column_stack([known.get(name, np.ones(count)) for name in inputs])


def _state_bytes(spec: FeatureViewSpec) -> float:
    """A symbol's state as it is kept in Redis."""
    plan = spec.plan
    saved = SavedState(plan.hash, 1, 0, 1, 1, 1, plan.save(plan.new_state()), np.zeros(16), np.zeros(len(spec.columns)))
    return float(len(encode_state(saved)))


# PostgreSQL -----------------------------------------------------------------------------------------------------------


def _disk_costs(connection: psycopg.Connection[Any], spec: FeatureViewSpec) -> dict[str, float]:
    """Seconds and bytes of raw and feature rows, one connection writing."""
    other = replace(spec, name="scale_rows")
    with connection.transaction():
        register_view(connection, other)
    count = ROWS_WRITTEN
    rng = np.random.default_rng(5)
    outputs = rng.normal(size=(count, len(spec.columns)))
    symbols = pa.array([SYMBOLS[number % len(SYMBOLS)] for number in range(count)], pa.string())
    times = [0]

    def features() -> None:
        event = FIRST_US + (times[0] + np.arange(count)) * MINUTE_US
        times[0] += count
        with connection.transaction(), connection.cursor() as cursor:
            append_rows(
                cursor,
                other,
                symbols,
                event,
                np.zeros(count, dtype=np.int64),
                event,
                np.zeros(count, dtype=np.bool_),
                outputs,
            )

    feature_s = _best(features, 1) / count
    raw = f"tapeline.{spec.rows.raw}"
    sizes = {}
    for table in (raw, qualified_name(other)):
        with connection.transaction():
            found = connection.execute(
                f"SELECT pg_total_relation_size(%s::regclass)::float8 / greatest(1, (SELECT count(*) FROM {table}))",
                (table,),
            ).fetchone()
        assert found is not None
        sizes[table] = float(found[0])
    return {
        "raw_row_s": _raw_s(connection, spec),
        "feature_row_s": feature_s,
        "raw_row_bytes": sizes[raw],
        "feature_row_bytes": sizes[qualified_name(other)],
    }


def _raw_s(connection: psycopg.Connection[Any], spec: FeatureViewSpec) -> float:
    """Seconds of a raw row by the stream's own append: a fresh key each."""
    from tapeline.storage.raw import append_rows as append_raw

    count, first = ROWS_WRITTEN, [1 << 24]

    def append() -> None:
        events = events_of(spec, first[0], count)
        first[0] += count
        records = events.records
        names = ("price", "size") if spec.rows.raw == "trades" else ("start", "open", "high", "low", "close", "volume")
        columns = {name: pa.array(np.ascontiguousarray(records["values"][:, at])) for at, name in enumerate(names)}
        if "start" in columns:
            columns["start_timestamp"] = pa.array(records["values"][:, 0].astype(np.int64)).cast(
                pa.timestamp("us", "UTC")
            )
            del columns["start"]
        symbols = pa.array(events.symbols, pa.string()).take(pa.array(records["symbol"].astype(np.int64)))
        event = pa.array(np.ascontiguousarray(records["event_us"])).cast(pa.timestamp("us", "UTC"))
        sequence = pa.array(np.ascontiguousarray(records["sequence"]))
        table = pa.table({"symbol": symbols, "event_timestamp": event, "sequence": sequence, **columns})
        append_raw(connection, spec.rows.raw, table, spec.rows.source)

    return _best(append, 1) / count
