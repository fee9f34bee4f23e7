"""The whole chain on real parts: rows ingested, a view computed, a model registered, a running server asked, and back."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import polars as pl
import psycopg
import redis
from tapeline.core.settings import Settings
from tapeline.core.timestamps import from_us
from tapeline.ingestion import Instrument, Layout, Source, ingest
from tapeline.lineage import Key, find_node, read_lineage, used_rows
from tapeline.storage.reference import append_instruments
from tapeline_client import Client

from tests.serving import world

BARS = 60


def test_from_an_ingested_column_to_an_answer_and_back(settings: Settings, tmp_path: Path) -> None:
    history = world.bar_history(3, BARS)
    times = {"start_timestamp": history.start_us, "event_timestamp": history.event_us}
    frame = pl.DataFrame(
        {name: [from_us(int(us)) for us in column] for name, column in times.items()}
        | {name: history.columns[name] for name in world.BARS},
        schema_overrides=dict.fromkeys(times, pl.Datetime("us", "UTC")),
    )
    with psycopg.connect(settings.postgres_url, options="-c timezone=UTC") as connection:
        append_instruments(connection, [Instrument("AAA", "X", "XNYS", "equity", "USD", 0.01, 0, 0)])
        ingest(
            connection, frame, Source("test-bars", "bars", 0, "XNYS"), layout=Layout(symbol="AAA"), settings=settings
        )
    with redis.Redis.from_url(settings.redis_url) as store:
        world.compute(settings, store, [world.DAILY])
        world.materialize(settings, store, world.DAILY)
    world.register_model(settings, tmp_path)
    with world.running_server(settings, tmp_path) as server, Client(server.target) as client:
        (answer,) = client.predict(["AAA"])
    assert np.isfinite(answer.outputs["probability"])

    with psycopg.connect(settings.postgres_url) as connection:
        until = time.monotonic() + 10
        while connection.execute("SELECT count(*) FROM tapeline.served_vectors").fetchone() == (0,):
            connection.rollback()
            assert time.monotonic() < until
            time.sleep(0.05)
        prediction = find_node(connection, f"prediction:{answer.request_id}")
        up = read_lineage(connection, prediction, "up")
        place = f"{world.DAILY.name}@{world.DAILY.version}"
        assert {key.name for key in up.nodes if key.kind == "feature"} == {
            f"{place}:{name}" for name in world.DAILY.columns
        }
        assert {key.name for key in up.nodes if key.kind == "column"} == {
            "test-bars.close", "test-bars.volume", "corporate_actions.ratio",
        }  # fmt: skip
        assert Key("source", "test-bars") in up.ends("up")
        for column in ("test-bars.close", "test-bars.volume"):
            assert prediction in read_lineage(connection, find_node(connection, column), "down").nodes
        high = connection.execute(
            "SELECT count(*) FROM tapeline.lineage_nodes WHERE name = 'test-bars.high'"
        ).fetchone()
        assert high == (0,)  # nothing reads it
        (row,) = used_rows(connection, answer.request_id)
        assert (row["view"], row["origin"], row["event_us"]) == (world.DAILY.name, "store", int(history.event_us[-1]))
