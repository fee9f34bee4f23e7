"""A small world to serve: two views with real kernels, a registered ONNX model, a filled online store, a running server.

The online store is filled by the views' own plans over a random walk, so every expected value here is what batch gives.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import redis
from psycopg import sql
from psycopg.types.json import Jsonb
from tapeline.compute.sessions import SessionTimes, session_times
from tapeline.core.settings import Settings
from tapeline.core.timestamps import DAY_US, MINUTE_US, SECOND_US, format_us, from_us, to_us
from tapeline.features.request import FeatureRequest
from tapeline.features.versions import ActionVersions
from tapeline.features.view import FeatureViewSpec, SessionBars, TradeBars
from tapeline.kernels import cache_folder
from tapeline.kernels.bars import BAR_COLUMNS, BAR_STATE_SIZE, time_bars_batch
from tapeline.registry import BundleManifest, FeatureReference, Registry, Sessions, ViewReference, write_bundle
from tapeline.storage.actions import publish_actions
from tapeline.storage.keys import entity_key_sorted, view_prefix
from tapeline.storage.packed import Layout, encode_many
from tapeline.storage.state_codec import SavedState, encode_state, state_key

from tests.registry.bundles import linear_model, make_sample

_of = FeatureRequest.of

DAILY = FeatureViewSpec(
    name="daily_small",
    version=1,
    rows=SessionBars("test-bars", "XNYS"),
    features=(_of("SMA", timeperiod=5), _of("RSI", timeperiod=14), _of("OBV")),
    ttl_us=7 * DAY_US,
)
INTRADAY = FeatureViewSpec(
    name="intraday_small",
    version=1,
    rows=TradeBars("test-trades", "CMES", MINUTE_US),
    features=(_of("EMA", timeperiod=5), _of("VWAP_SESSION")),
    ttl_us=3600 * SECOND_US,
)
BARS = ("open", "high", "low", "close", "volume")
NOW_US = to_us("2013-03-01T21:30:00+00:00")
"""Half an hour after the last stored session bar."""


@cache
def sessions(calendar: str) -> SessionTimes:
    return session_times(calendar)


@dataclass(frozen=True)
class BarHistory:
    """Session bars of one symbol; the last `live` of them are not in the store."""

    event_us: np.ndarray
    start_us: np.ndarray
    session: np.ndarray
    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.event_us)

    def rows(self, spec: FeatureViewSpec) -> np.ndarray:
        columns = self.columns | {"session": self.session.astype(np.float64)}
        return np.column_stack([columns[name] for name in spec.plan.inputs])

    def batch(self, spec: FeatureViewSpec, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Features of every row up to `stop`, and the state there."""
        features, states = spec.plan.batch(
            self.event_us[:stop],
            np.zeros(stop, dtype=np.int64),
            self.event_us[:stop],
            self.rows(spec)[:stop],
            np.array([0, stop]),
        )
        return features, states[0]


def bar_history(seed: int, count: int, *, last_us: int = NOW_US, split_at: int | None = None) -> BarHistory:
    """The `count` sessions before `last_us`."""
    calendar = sessions("XNYS")
    end = int(np.searchsorted(calendar.close_us, last_us, side="right"))
    pick = np.arange(end - count, end)
    random = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(random.normal(0, 0.02, count)))
    open_ = close * np.exp(random.normal(0, 0.005, count))
    columns = {
        "open": open_,
        "high": np.maximum(open_, close) * 1.01,
        "low": np.minimum(open_, close) * 0.99,
        "close": close,
        "volume": random.integers(1_000, 9_000, count).astype(np.float64),
        "split_ratio": np.ones(count),
    }
    if split_at is not None:
        columns["split_ratio"][split_at] = 2.0
        for name in ("open", "high", "low", "close"):
            columns[name][split_at:] /= 2.0
    return BarHistory(calendar.close_us[pick], calendar.open_us[pick], pick, columns)


@dataclass(frozen=True)
class TradeHistory:
    event_us: np.ndarray
    sequence: np.ndarray
    price: np.ndarray
    size: np.ndarray
    split: tuple[int, float] | None = None

    def bars(self, stop: int, *, flush: bool) -> tuple[np.ndarray, np.ndarray]:
        made, _, states = time_bars_batch(
            MINUTE_US,
            self.event_us[:stop],
            self.event_us[:stop],
            self.sequence[:stop],
            self.price[:stop],
            self.size[:stop],
            np.array([0, stop]),
            flush=flush,
        )
        return made, states[0]

    def batch(self, spec: FeatureViewSpec, stop: int, *, flush: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
        """Features of every bar, the plan's state, the builder's state and the bars."""
        made, builder = self.bars(stop, flush=flush)
        times = {
            name: made[:, BAR_COLUMNS.index(name)].astype(np.int64) for name in ("end_us", "last_sequence", "start_us")
        }
        columns = {name: made[:, BAR_COLUMNS.index(name)] for name in BARS}
        columns["session"] = sessions("CMES").number_of(times["start_us"]).astype(np.float64)
        columns["split_ratio"] = np.ones(len(made))
        if self.split is not None:
            columns["split_ratio"][np.searchsorted(times["end_us"], self.split[0], side="right")] = self.split[1]
        features, states = spec.plan.batch(
            times["end_us"],
            times["last_sequence"],
            times["end_us"],
            np.column_stack([columns[name] for name in spec.plan.inputs]),
            np.array([0, len(made)]),
        )
        return features, states[0], builder, made


def put_split(client: redis.Redis, project: str, symbol: str, event_us: int, ratio: float, *, known_us: int) -> None:
    """Publish one split, as a back-fill would."""
    put_actions(client, project, symbol, [(event_us, 0, known_us, ratio, 0.0)])


def put_actions(
    client: redis.Redis, project: str, symbol: str, rows: Sequence[tuple[int, int, int, float, float]]
) -> None:
    """Publish event, sequence, available time, ratio and dividend of some actions, as a back-fill would."""
    event, sequence, known, ratio, dividend = (np.array(column) for column in zip(*rows, strict=True))
    versions = ActionVersions(event, sequence, known, known, np.zeros(len(rows), dtype=np.bool_), ratio, dividend)
    publish_actions(client, project, {symbol: versions}, int(known.max()))


def trade_history(seed: int, count: int, *, last_us: int = NOW_US - 60 * SECOND_US) -> TradeHistory:
    """Trades of the two hours before `last_us`, about twenty a minute."""
    random = np.random.default_rng(seed)
    event_us = last_us - np.sort(random.integers(0, 3 * SECOND_US * count, count))[::-1]
    price = 1500 + np.cumsum(random.choice([-0.25, 0.0, 0.25], count))
    return TradeHistory(event_us, np.arange(100, 100 + count), price, random.integers(1, 9, count).astype(np.float64))


def put_bars(
    client: redis.Redis, project: str, symbol: str, history: BarHistory, stop: int, spec: FeatureViewSpec = DAILY
) -> None:
    """Store the value and the state after `stop` rows."""
    features, state = history.batch(spec, stop)
    event_us = int(history.event_us[stop - 1])
    _put(client, project, symbol, spec, (event_us, 0, event_us), features[-1], state, None, (event_us, 0), stop)


def put_trades(
    client: redis.Redis, project: str, symbol: str, history: TradeHistory, stop: int, spec: FeatureViewSpec = INTRADAY
) -> None:
    features, state, builder, made = history.batch(spec, stop, flush=False)
    end_us, last = (int(made[-1, BAR_COLUMNS.index(name)]) for name in ("end_us", "last_sequence"))
    position = (int(history.event_us[stop - 1]), int(history.sequence[stop - 1]))
    _put(client, project, symbol, spec, (end_us, last, end_us), features[-1], state, builder, position, len(made))


def _put(
    client: redis.Redis,
    project: str,
    symbol: str,
    spec: FeatureViewSpec,
    times: tuple[int, int, int],
    values: np.ndarray,
    state: np.ndarray,
    builder: np.ndarray | None,
    position: tuple[int, int],
    rows_seen: int,
) -> None:
    layout = Layout.of_floats(spec.name, spec.version, spec.plan.outputs)
    [packed] = encode_many(layout, np.array([[*times, times[2]]]), values[np.newaxis])
    client.set(view_prefix(project, spec.name, spec.version) + entity_key_sorted([symbol]), packed)
    if builder is not None:
        assert builder.shape == (BAR_STATE_SIZE,)
    saved = SavedState(
        plan_hash=spec.plan.hash,
        event_us=position[0],
        sequence=position[1],
        available_us=position[0],
        recorded_us=position[0],
        rows_seen=rows_seen,
        plan_state=spec.plan.save(state),
        bar_state=builder,
        outputs=values,
    )
    client.set(state_key(project, spec.name, spec.version, symbol), encode_state(saved))


def make_manifest(
    views: Sequence[FeatureViewSpec], model: str = "small", *, until_us: int = NOW_US + 30 * DAY_US
) -> BundleManifest:
    def bundle_sessions(spec: FeatureViewSpec) -> Sessions:
        calendar = sessions(spec.rows.calendar)
        first, last = np.searchsorted(calendar.close_us, [NOW_US - 400 * DAY_US, until_us])
        return Sessions(
            calendar=spec.rows.calendar,
            first_number=int(first),
            open_us=tuple(calendar.open_us[first:last].tolist()),
            close_us=tuple(calendar.close_us[first:last].tolist()),
        )

    return BundleManifest(
        model=model,
        service="small_model",
        features=tuple(
            FeatureReference(
                view=s.name, version=s.version, name=n, last_within_us=h.limit_us if h and not h.is_age else None
            )
            for s in views
            for n, h in zip(s.plan.outputs, s.plan.holds, strict=True)
        ),
        views=tuple(
            ViewReference(
                view=spec.name,
                version=spec.version,
                plan_hash=spec.plan.hash,
                lineage_hash=spec.lineage_hash,
                ttl_us=spec.ttl_us,
                definition=spec.definition(),
                sessions=bundle_sessions(spec),
            )
            for spec in views
        ),
        label={"spec": "direction:5d"},
        metrics={"log_loss": 0.69},
        dataset_sha256="d" * 64,
        files={"model.onnx": "0" * 64, "sample.npz": "0" * 64},
    )


def register_views(connection: psycopg.Connection, views: Sequence[FeatureViewSpec]) -> None:
    for spec in views:
        connection.execute(
            "INSERT INTO tapeline.feature_view_versions (view, version, lineage_hash, plan_hash, table_name, definition)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (spec.name, spec.version, spec.lineage_hash, spec.plan.hash, spec.table, Jsonb(spec.definition())),
        )
        columns = sql.SQL(", ").join(sql.SQL("{} float8").format(sql.Identifier(name)) for name in spec.plan.outputs)
        connection.execute(
            sql.SQL("CREATE TABLE IF NOT EXISTS features.{} (symbol text, {})").format(
                sql.Identifier(spec.table), columns
            )
        )
    connection.commit()


def register_model(
    settings: Settings, folder: Path, views: Sequence[FeatureViewSpec] = (DAILY,), model: str = "small", **changes: Any
) -> str:
    """Register a linear model over all features of some views; returns the bundle's SHA-256."""
    count = sum(len(spec.plan.outputs) for spec in views)
    graph = linear_model(np.linspace(-0.02, 0.03, count).tolist())
    manifest = make_manifest(views, model, **changes)
    bundle = folder / f"bundle-{model}-{time.monotonic_ns()}"
    write_bundle(bundle, manifest, {"model.onnx": graph, "sample.npz": make_sample(graph, count).to_bytes()})
    with psycopg.connect(settings.postgres_url) as connection:
        register_views(connection, views)
        return Registry(connection, settings.artifacts_path).register(bundle).bundle_sha256


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """The environment of a process that shares a test's stores, and this process's compiled kernels."""
    return os.environ | {
        "TAPELINE_HOME": str(cache_folder().parents[1]),
        "TAPELINE_ARTIFACTS": settings.artifacts_path,
        "TAPELINE_POSTGRES_URL": str(settings.postgres_url),
        "TAPELINE_REDIS_URL": str(settings.redis_url),
        "TAPELINE_CLOCK": format_us(NOW_US) if settings.clock == "live" else settings.clock,
        "TAPELINE_SERVE_PORT": "0",
        **more,
    }


@dataclass
class RunningServer:
    process: subprocess.Popen[str]
    target: str
    ready_s: float
    log: Path

    def log_text(self) -> str:
        return self.log.read_text()


@contextmanager
def running_server(
    settings: Settings, folder: Path, model: str = "small", *arguments: str, wait: bool = True, **more: str
) -> Iterator[RunningServer]:
    """A server in a process of its own, ended at the end."""
    log = folder / f"server-{time.monotonic_ns()}.log"
    begin = time.monotonic()
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tapeline_serving", model, *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment(settings, **more),
        )
        server = RunningServer(process, "", 0.0, log)
        try:
            if wait:
                line = process.stdout.readline()
                server.ready_s = time.monotonic() - begin
                assert line.startswith("ready: "), f"{line}\n{log.read_text()}"
                server.target = line.split(" on ")[1].split(" after ")[0]
            yield server
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
            process.stdout.close()
            process.wait()


def insert_bars(
    connection: psycopg.Connection,
    symbol: str,
    history: BarHistory,
    rows: Iterable[int],
    *,
    available_us: int | None = None,
) -> None:
    """Store raw session bars, as an ingest would; splits become corporate actions."""
    for i in rows:
        event_us = int(history.event_us[i])
        times = [from_us(int(history.start_us[i])), from_us(event_us), from_us(available_us or event_us)]
        values = [float(history.columns[name][i]) for name in BARS]
        connection.execute(
            "INSERT INTO tapeline.bars (source, symbol, start_timestamp, event_timestamp, available_timestamp, open, high,"
            " low, close, volume) VALUES ('test-bars', %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [symbol, *times, *values],
        )
        if (ratio := float(history.columns["split_ratio"][i])) != 1.0:
            connection.execute(
                "INSERT INTO tapeline.corporate_actions (symbol, kind, event_timestamp, available_timestamp, ratio, source)"
                " VALUES (%s, 'split', %s, %s, %s, 'test')",
                [symbol, times[0], times[0], ratio],
            )
    connection.commit()


def insert_trades(connection: psycopg.Connection, symbol: str, history: TradeHistory, stop: int) -> None:
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY tapeline.trades (source, symbol, event_timestamp, available_timestamp, sequence, price, size) FROM STDIN"
        ) as copy,
    ):
        for i in range(stop):
            moment = from_us(int(history.event_us[i]))
            numbers = int(history.sequence[i]), float(history.price[i]), float(history.size[i])
            copy.write_row(("test-trades", symbol, moment, moment, *numbers))
    connection.commit()


def compute(settings: Settings, store: redis.Redis, views: Sequence[FeatureViewSpec]) -> None:
    """Back-fill views, states to Redis."""
    from tapeline.compute import backfill

    time.sleep(0.02)  # what was just recorded is past the safe horizon then
    with psycopg.connect(settings.postgres_url, options="-c timezone=UTC") as connection:
        for spec in views:
            backfill(connection, spec, redis=store, project=settings.project)


def materialize(settings: Settings, store: redis.Redis, spec: FeatureViewSpec) -> None:
    """The newest feature row of each entity into the online store."""
    layout = Layout.of_floats(spec.name, spec.version, spec.plan.outputs)
    with psycopg.connect(settings.postgres_url, options="-c timezone=UTC") as connection:
        rows = connection.execute(
            sql.SQL(
                "SELECT DISTINCT ON (symbol) symbol, event_timestamp, sequence, available_timestamp, created_timestamp, {}"
                " FROM features.{} ORDER BY symbol, event_timestamp DESC, sequence DESC, available_timestamp DESC,"
                " created_timestamp DESC"
            ).format(sql.SQL(", ").join(map(sql.Identifier, spec.plan.outputs)), sql.Identifier(spec.table))
        ).fetchall()
    for symbol, event, sequence, available, created, *values in rows:
        times = np.array([[to_us(event), sequence, to_us(available), to_us(created)]])
        numbers = np.array([[np.nan if value is None else value for value in values]])
        [packed] = encode_many(layout, times, numbers, nulls=np.array([[value is None for value in values]]))
        store.set(view_prefix(settings.project, spec.name, spec.version) + entity_key_sorted([symbol]), packed)
