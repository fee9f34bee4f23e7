"""How many bytes does an entity take in Redis, in our online store and in Feast's?

What ``MEMORY USAGE`` says of every key that the same values are written under, divided by the entities: key, value and Redis' own
overhead of both. Of 20 and of 100 features, by Feast's ``write_to_online_store`` on both.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import redis

from benchmarks.harness import Result, compare
from benchmarks.online_read import PEER, store, valkey

GROUP = "online"
ENTITIES = 4_000
CASES = [(20, 0.6), (100, 0.55)]


def bytes_each(port: int, database: int, folder: Path, online: dict[str, str], values: pd.DataFrame) -> float:
    """Bytes that the server needs for an entity; what is kept once for all, such as the layout, counts too."""
    with redis.Redis(port=port, db=database) as client:
        store(folder, f"p{database}", online, values, features=values.shape[1] - 2)
        keys = list(client.scan_iter(count=1_000))
        if len(keys) < ENTITIES:
            raise AssertionError(f"only {len(keys)} keys were written")
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.memory_usage(key, samples=0)
        return float(sum(pipeline.execute())) / ENTITIES


def run() -> Iterator[Result]:
    """Measure both sizes."""
    random = np.random.default_rng(1)
    for features, goal in CASES:
        values = pd.DataFrame(
            random.standard_normal((ENTITIES, features)), columns=[f"feature_{i}" for i in range(features)]
        )
        values.insert(0, "symbol", [f"SYM{i:05}" for i in range(ENTITIES)])
        values.insert(1, "event_timestamp", datetime.now(UTC).replace(microsecond=0))
        with valkey() as port, tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            values.to_parquet(folder / "values.parquet")
            ours = bytes_each(
                port, 0, folder,
                {"type": "tapeline.feast_ext.PackedRedisOnlineStore", "connection_string": f"redis://127.0.0.1:{port}/0", "clock": "live"},
                values,
            )  # fmt: skip
            theirs = bytes_each(
                port, 1, folder, {"type": "redis", "connection_string": f"127.0.0.1:{port},db=1"}, values
            )
        yield compare(
            f"bytes in Redis per entity, {features} features",
            ours=[ours],
            theirs=[theirs],
            peer=PEER,
            unit="B",
            better="lower",
            goal_ratio=1 / goal,
            sizes={"entities": ENTITIES, "features": features},
            notes=f"goal: at most {goal} of Feast's; MEMORY USAGE of all keys, Redis' overhead included",
        )
