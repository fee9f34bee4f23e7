"""The three processes of a trial. Each notes in a file what is done, and that note is on the disk before it goes on."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psycopg
import pyarrow as pa
from feast import Entity, FeatureView, Field, PushSource, RepoConfig
from feast.types import Float64, String
from feast.value_type import ValueType
from tapeline.compute import backfill
from tapeline.core.errors import UnavailableError
from tapeline.core.timestamps import DAY_US, HOUR_US, MINUTE_US, from_us
from tapeline.datasets import export
from tapeline.datasets.plan import RetrievalPlan, ViewSelection
from tapeline.feast_ext import TimescaleSource
from tapeline.feast_ext.offline_store import TimescaleOfflineStore
from tapeline.features.request import FeatureRequest
from tapeline.features.view import FeatureViewSpec, SessionBars
from tapeline.storage.feature_values import append_feature_values
from tapeline.storage.raw import append_bars

from tests.crash.batches import DAYS_A_BATCH, FIRST_US, SYMBOLS, Batch, batches

SOURCE = "bars-source"
NAMESPACE = "written"
SLICE_ROWS = 20
UNAVAILABLE = 3
"""Exit code of a process whose database went away: an error that says so, and no other."""
_PATIENCE_S = 600.0
UTC = pa.timestamp("us", tz="UTC")

SPEC = FeatureViewSpec(
    name="killed",
    version=1,
    rows=SessionBars(source=SOURCE, calendar="XNYS"),
    features=(
        FeatureRequest.of("EMA", timeperiod=2),
        FeatureRequest.of("OBV"),
        FeatureRequest.of("RETURN", timeperiod=1),
    ),
    ttl_us=0,
)
PLAN = RetrievalPlan(
    service="killed_model",
    views=(
        ViewSelection(
            "killed", 1, "features.killed__v1", ("symbol",), ("symbol",), SPEC.columns, SPEC.columns, ttl_us=0
        ),
        ViewSelection(
            "rates", 1, "public.rates", ("symbol",), ("symbol",), ("rate",), ("rate",), ttl_us=30 * DAY_US
        ),
    ),
)  # fmt: skip
RATES = """
    CREATE TABLE public.rates (symbol text NOT NULL, event_timestamp timestamptz NOT NULL,
        available_timestamp timestamptz NOT NULL, created_timestamp timestamptz NOT NULL DEFAULT now(),
        sequence bigint NOT NULL, rate float8, CHECK (available_timestamp >= event_timestamp));
    CREATE INDEX ON public.rates (symbol, event_timestamp DESC, sequence DESC, available_timestamp DESC, created_timestamp DESC);
"""


def note(file: Path, text: str) -> None:
    """Add a line that outlives whatever happens next."""
    line = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(line, f"{text}\n".encode())
    os.fsync(line)
    os.close(line)


def notes(file: Path) -> list[str]:
    """The lines so far."""
    return file.read_text().splitlines() if file.exists() else []


def work(role: Callable[..., None], folder: Path, name: str, *arguments: Any) -> None:
    """Body of a process: 0 if it is done, `UNAVAILABLE` if the database went away; anything else is written down."""
    try:
        role(folder, *arguments)
    except UnavailableError:
        os._exit(UNAVAILABLE)
    except BaseException:  # noqa: BLE001 - the process that compares reads it
        (folder / f"{name}.error").write_text(traceback.format_exc())
        os._exit(1)


def _connected(url: str) -> psycopg.Connection[Any]:
    try:
        return psycopg.connect(url, connect_timeout=5)
    except psycopg.OperationalError as error:
        raise UnavailableError(str(error)) from error


def write(folder: Path, url: str, seed: int, upto: int) -> None:
    """Send every batch that is not acknowledged yet, and note each acknowledgement."""
    done = len(notes(folder / "acknowledged"))
    for batch in batches(seed, upto)[done:]:
        with _connected(url) as connection:
            send(connection, url, batch)
        note(folder / "acknowledged", str(batch.number))


def compute(folder: Path, url: str, upto: int) -> None:
    """Back-fill again and again until everything that was sent has been computed."""
    deadline = time.monotonic() + _PATIENCE_S
    with _connected(url) as connection:
        while True:
            last = len(notes(folder / "acknowledged")) >= upto
            backfill(connection, SPEC)
            note(folder / "computed", "")
            if last:
                return
            if time.monotonic() > deadline:
                raise TimeoutError("the writer does not come to its end")


def take_out(folder: Path, url: str, name: str, notes_file: str, days: int) -> None:
    """Export to a folder, unless it is there already and so is finished."""
    if (folder / "sets" / name).exists():
        return
    with _connected(url) as connection:
        export(
            connection,
            PLAN,
            entity_rows(days),
            folder / "sets" / name,
            slice_rows=SLICE_ROWS,
            notify=lambda step: note(folder / notes_file, f"{step.stage} {step.done}"),
        )


def entity_rows(days: int) -> pl.DataFrame:
    """What a data set is asked for: every symbol at moments between and on those at which something became known."""
    moments = FIRST_US + np.arange(0, days * DAY_US, 17 * HOUR_US) + MINUTE_US
    rows = [(symbol, from_us(int(moment))) for moment in moments for symbol in SYMBOLS]
    return pl.DataFrame(rows, schema={"symbol": pl.String, "event_timestamp": pl.Datetime("us", "UTC")}, orient="row")


def days_of(upto: int) -> int:
    """Days that the first batches can reach."""
    return DAYS_A_BATCH * upto


def send(connection: psycopg.Connection[Any], url: str, batch: Batch) -> None:
    """One batch by the way of its kind; when this returns it is acknowledged."""
    symbols, events, sequences = (list(column) for column in zip(*(row.key for row in batch.rows), strict=True))
    content = list(zip(*(row.content for row in batch.rows), strict=True))
    published = pa.array([row.published_us for row in batch.rows]).cast(UTC)
    shared = {
        "symbol": pa.array(symbols),
        "event_timestamp": pa.array(events).cast(UTC),
        "sequence": pa.array(sequences),
    }
    if batch.kind == "bars":
        names = ("open", "high", "low", "close", "volume")
        rows = pa.table(
            shared
            | {"start_timestamp": pa.array([event - HOUR_US for event in events]).cast(UTC)}
            | {name: pa.array(column) for name, column in zip(names, content, strict=True)}
            | {"published_timestamp": published, "deleted": pa.array([row.deleted for row in batch.rows])}
        )
        append_bars(connection, rows, SOURCE)
    elif batch.kind == "push":
        rows = pa.table(shared | {"available_timestamp": published, "rate": pa.array(content[0], pa.float64())})
        TimescaleOfflineStore.offline_write_batch(_repository(url), _view(), rows, None)
    else:
        rows = pa.table(shared | {"available_timestamp": published, "rate": pa.array(content[0], pa.float64())})
        append_feature_values(connection, NAMESPACE, rows)


def _repository(url: str) -> RepoConfig:
    return RepoConfig(
        project="crash",
        provider="local",
        registry="registry.db",
        offline_store={"type": "tapeline.feast_ext.offline_store.TimescaleOfflineStore", "url": url},
        entity_key_serialization_version=3,
    )


def _view() -> FeatureView:
    source = TimescaleSource(
        name="rates",
        table="public.rates",
        available_timestamp_column="available_timestamp",
        created_timestamp_column="created_timestamp",
        sequence_column="sequence",
    )
    return FeatureView(
        name="rates",
        entities=[Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)],
        ttl=timedelta(days=30),
        schema=[Field(name="symbol", dtype=String), Field(name="rate", dtype=Float64)],
        source=PushSource(name="rates_push", batch_source=source),
    )
