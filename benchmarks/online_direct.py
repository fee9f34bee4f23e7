"""What does the direct reader cost over the round trip to Redis itself?

The peer asks for the same keys, made beforehand, with a client that does nothing but that: packs the command, sends it, waits
for the answer as our reader does, and lets hiredis cut it into values. What ours adds is making the keys, checking every
value, and one matrix of numbers with statuses and times.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import hiredis
import numpy as np
import redis
from tapeline.storage import Layout, OnlineReader, ReadPlan, entity_key
from tapeline.storage.keys import view_prefix
from tapeline.storage.online import write_many
from tapeline.storage.packed import encode_many

from benchmarks.harness import Result, awake, compare, interleave
from benchmarks.online_read import valkey

GROUP = "online"
ENTITIES = 500
PEER = "bare client, the same bytes"
OVER = 1.3
CASES = [
    # entities, views, features a view, calls a round, rounds
    (1, 1, 20, 50, 100),
    (1, 2, 100, 50, 100),
    (50, 2, 20, 20, 100),
    (50, 4, 100, 5, 100),
]
_POLL_NS = 100_000


def bare(port: int) -> Callable[[list[bytes]], list[bytes | None]]:
    """A function that asks ``MGET`` over a socket of its own."""
    socket = redis.Redis(port=port).connection_pool.make_connection()
    socket.connect()
    plain = socket._sock
    plain.settimeout(5.0)
    reader = hiredis.Reader()
    descriptor = plain.fileno()

    def ask(keys: list[bytes]) -> list[bytes | None]:
        plain.sendall(hiredis.pack_command((b"MGET", *keys)))
        while (reply := reader.gets()) is False:
            until = time.perf_counter_ns() + _POLL_NS
            data = b""
            while not data and time.perf_counter_ns() < until:
                try:
                    data = os.read(descriptor, 1 << 16)
                except BlockingIOError:
                    pass
            reader.feed(data or plain.recv(1 << 16))
        return reply

    ask.connection = socket  # type: ignore[attr-defined]  # which closes with the function
    return ask


def fill(client: redis.Redis, layouts: list[Layout], entities: list[bytes]) -> None:
    """A value of each view for each entity."""
    now_us = time.time_ns() // 1_000
    random = np.random.default_rng(1)
    for layout in layouts:
        times = np.tile(np.array([now_us, 0, now_us, now_us], dtype=np.int64), (len(entities), 1))
        values = encode_many(layout, times, random.standard_normal((len(entities), len(layout.columns))))
        prefix = view_prefix("bench", layout.view, layout.version)
        write_many(client, [(prefix + entity, value) for entity, value in zip(entities, values, strict=True)])


def run() -> Iterator[Result]:
    """Measure all cases."""
    entities = [entity_key({"symbol": f"SYM{i:04}"}) for i in range(ENTITIES)]
    with awake(), valkey() as port, redis.Redis(port=port) as client:
        for count, views, features, calls, rounds in CASES:
            layouts = [
                Layout.of_floats(f"view_{features}_{i}", 1, [f"feature_{j}" for j in range(features)])
                for i in range(views)
            ]
            fill(client, layouts, entities)
            plan = ReadPlan("bench", layouts, ttls_us=[86_400_000_000] * views)
            reader = OnlineReader(client, plan)
            ask = bare(port)
            requests = [[entities[(start * count + i) % ENTITIES] for i in range(count)] for start in range(97)]
            keys = [plan.keys(request) for request in requests]
            same = plan.decode(ask(keys[3]))
            if not np.array_equal(same.values, reader.read(requests[3]).values):
                raise AssertionError("the reader gives other values than Redis holds")

            def ours(number: int) -> None:
                for call in range(calls):  # noqa: B023
                    request = requests[(number * calls + call) % len(requests)]  # noqa: B023
                    reader.read(request, now_us=time.time_ns() // 1_000)  # noqa: B023

            def theirs(number: int) -> None:
                for call in range(calls):  # noqa: B023
                    ask(keys[(number * calls + call) % len(keys)])  # noqa: B023

            mine, other = interleave(ours, theirs, rounds=rounds, warm_up=5)
            yield compare(
                f"direct reader, {count} entities × {views} views × {features} features",
                ours=mine / calls * 1e6,
                theirs=other / calls * 1e6,
                peer=PEER,
                unit="µs",
                better="lower",
                goal_ratio=1 / OVER,
                sizes={"entities": count, "views": views, "features": features, "calls": calls * rounds},
                notes=f"goal: at most {OVER} times the raw round trip; TCP on loopback; TTL and availability judged; processors kept awake",
            )
