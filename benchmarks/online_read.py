"""How long does ``FeatureStore.get_online_features`` take on our online store and on Feast's own Redis store?

The same call on two feature stores with the same views and values in one Valkey, in turn, for entities that rotate.
Both answers are compared before anything is measured.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import redis
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Float64
from feast.value_type import ValueType
from tapeline.storage.servers.binaries import valkey_program

from benchmarks.harness import Result, awake, compare, interleave

GROUP = ("walk", "online")
ENTITIES = 500
FEATURES = 100
PEER = "feast RedisOnlineStore"
CASES = [
    # entities, features, rounds, goal, with to_dict
    (1, 20, 150, 4.0, False),
    (1, 100, 60, 8.0, False),
    (10, 20, 60, 10.0, False),
    (10, 100, 60, 10.0, False),
    (50, 20, 60, 25.0, False),
    (50, 100, 40, 60.0, False),
    (1, 20, 150, 1.0, True),
    (50, 100, 40, 1.0, True),
]
CALLS = 20
"""Calls in a row of one side before it is the other's turn, each for other entities."""


@contextmanager
def valkey() -> Iterator[int]:
    """The port of a server of this benchmark's own, since Feast's store knows no sockets."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [str(valkey_program()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 10
            while True:
                try:
                    redis.Redis(port=port).ping()
                    break
                except redis.ConnectionError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)
            yield port
        finally:
            server.terminate()
            server.wait()


def store(
    folder: Path, name: str, online: dict[str, str], values: pd.DataFrame, *, features: int = FEATURES
) -> FeatureStore:
    """A feature store with one view of all features, filled."""
    config = RepoConfig(
        project=name,
        provider="local",
        registry=str(folder / f"{name}.db"),
        online_store=online,
        entity_key_serialization_version=3,
    )
    feature_store = FeatureStore(config=config)
    entity = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
    view = FeatureView(
        name="view",
        entities=[entity],
        ttl=timedelta(days=7),
        schema=[Field(name=f"feature_{i}", dtype=Float64) for i in range(features)],
        source=FileSource(name="values", path=str(folder / "values.parquet"), timestamp_field="event_timestamp"),
    )
    feature_store.apply([entity, view])
    feature_store.write_to_online_store("view", df=values)
    return feature_store


def run() -> Iterator[Result]:
    """Measure all cases."""
    random = np.random.default_rng(1)
    symbols = [f"SYM{i:04}" for i in range(ENTITIES)]
    values = pd.DataFrame(
        random.standard_normal((ENTITIES, FEATURES)), columns=[f"feature_{i}" for i in range(FEATURES)]
    )
    values.insert(0, "symbol", symbols)
    values.insert(1, "event_timestamp", datetime.now(UTC).replace(microsecond=0))
    with awake(), valkey() as port, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        values.to_parquet(folder / "values.parquet")
        ours = store(
            folder,
            "ours",
            {
                "type": "tapeline.feast_ext.PackedRedisOnlineStore",
                "connection_string": f"redis://127.0.0.1:{port}/0",
                "clock": "live",
            },
            values,
        )
        theirs = store(folder, "theirs", {"type": "redis", "connection_string": f"127.0.0.1:{port},db=1"}, values)
        for entities, features, rounds, goal, to_dict in CASES:
            references = [f"view:feature_{i}" for i in range(features)]
            requests = [
                [{"symbol": symbols[(start * entities + i) % ENTITIES]} for i in range(entities)] for start in range(97)
            ]
            for rows in requests[:10]:
                same = [s.get_online_features(features=references, entity_rows=rows).to_dict() for s in (ours, theirs)]
                if same[0] != same[1]:
                    raise AssertionError("the two stores do not answer alike")

            def measured(feature_store: FeatureStore, number: int) -> None:
                for call in range(CALLS):
                    rows = requests[(number * CALLS + call) % len(requests)]  # noqa: B023
                    response = feature_store.get_online_features(features=references, entity_rows=rows)  # noqa: B023
                    if to_dict:  # noqa: B023
                        response.to_dict()

            mine, other = interleave(
                lambda number: measured(ours, number), lambda number: measured(theirs, number), rounds=rounds, warm_up=5
            )
            yield compare(
                f"online read, {entities} × {features}" + (", to_dict included" if to_dict else ""),
                ours=mine / CALLS * 1e6,
                theirs=other / CALLS * 1e6,
                peer=PEER,
                unit="µs",
                better="lower",
                goal_ratio=goal,
                sizes={
                    "entities": entities,
                    "features": features,
                    "stored_entities": ENTITIES,
                    "calls": CALLS * rounds,
                },
                notes="results equal; TCP on loopback, one Valkey for both; processors kept awake",
            )
