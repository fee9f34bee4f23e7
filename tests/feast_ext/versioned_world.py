"""Two versions of a small view in a real database, an online store and a Feast registry in that database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pytest
from feast import Entity, FeatureService, FeatureStore, RepoConfig
from feast.value_type import ValueType
from tapeline.core.settings import Settings, get_settings
from tapeline.core.timestamps import DAY_US
from tapeline.feast_ext.views import feature_view
from tapeline.features.request import FeatureRequest
from tapeline.features.view import FeatureViewSpec, SessionBars
from tapeline.storage.feature_tables import register_view

_of = FeatureRequest.of
V1 = FeatureViewSpec(
    name="small",
    version=1,
    rows=SessionBars("us-daily", "XNYS"),
    features=(_of("SMA", timeperiod=3), _of("RSI", timeperiod=4)),
    ttl_us=7 * DAY_US,
)
V2 = FeatureViewSpec(
    name="small",
    version=2,
    rows=SessionBars("us-daily", "XNYS"),
    features=(_of("MOM", timeperiod=2), _of("SMA", timeperiod=3)),
    ttl_us=7 * DAY_US,
)
"""`sma_3` is in both, at another place; `rsi_4` only in the first, `mom_2` only in the second."""
SYMBOLS = ("AAA", "BBB")
DAYS = 4
CLOSE = datetime(2013, 3, 1, 21, tzinfo=UTC)
NOW = "2013-03-02T00:00:00+00:00"
SYMBOL = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
ENTITIES = pd.DataFrame({"symbol": SYMBOLS, "event_timestamp": [CLOSE + timedelta(hours=1)] * 2})
ENTITY_ROWS = [{"symbol": symbol} for symbol in SYMBOLS]


def value(spec: FeatureViewSpec, column: str, symbol: str, day: int = 0) -> float:
    """What the tables hold: the version in the thousands, the column, the symbol, the days before the last close."""
    return 1000.0 * spec.version + 100 * spec.columns.index(column) + 10 * SYMBOLS.index(symbol) + day


def latest(spec: FeatureViewSpec, column: str) -> list[float]:
    """The newest value of each symbol."""
    return [value(spec, column, symbol) for symbol in SYMBOLS]


def add_version(connection: psycopg.Connection, spec: FeatureViewSpec) -> None:
    """Register a version and fill its table."""
    register_view(connection, spec)
    columns = ["symbol", "event_timestamp", "available_timestamp", "sequence", *spec.columns]
    with connection.transaction():
        for day in range(DAYS):
            for symbol in SYMBOLS:
                event = CLOSE - timedelta(days=day)
                numbers = [value(spec, column, symbol, day) for column in spec.columns]
                connection.execute(
                    f"INSERT INTO features.{spec.table} ({', '.join(columns)})"
                    f" VALUES ({', '.join(['%s'] * len(columns))})",
                    [symbol, event, event + timedelta(minutes=15), 0, *numbers],
                )


@contextmanager
def process_settings(settings: Settings) -> Iterator[None]:
    """Let this process's settings be those of a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAPELINE_HOME", str(settings.home_path))
        patch.setenv("TAPELINE_POSTGRES_URL", str(settings.postgres_url))
        patch.setenv("TAPELINE_REDIS_URL", str(settings.redis_url))
        patch.setenv("TAPELINE_CLOCK", NOW)
        get_settings.cache_clear()
        yield
    get_settings.cache_clear()


def open_store(folder: Path) -> FeatureStore:
    """A feature store configured as ``feature_repo/`` is."""
    import tapeline.feast_ext.online_store  # noqa: F401  registers the registry's address

    return FeatureStore(
        config=RepoConfig(
            project="tapeline",
            provider="local",
            registry={
                "registry_type": "sql",
                "path": "tapeline://",
                "cache_ttl_seconds": 60,
                "enable_online_feature_view_versioning": True,
            },
            offline_store={"type": "tapeline.feast_ext.TimescaleOfflineStore"},
            online_store={"type": "tapeline.feast_ext.PackedRedisOnlineStore"},
            batch_engine={"type": "tapeline.feast_ext.engine.PackedComputeEngine"},
            materialization={"pull_latest_features": True},
            entity_key_serialization_version=3,
            coerce_tz_aware=False,
        ),
        repo_path=str(folder),
    )


def apply(store: FeatureStore, spec: FeatureViewSpec, services: Sequence[FeatureService] = ()) -> None:
    """What ``feast apply`` does with files that define this version."""
    store.apply([SYMBOL, feature_view(spec, SYMBOL), *services])


def materialize(store: FeatureStore) -> None:
    store.materialize(CLOSE - timedelta(days=10), CLOSE + timedelta(days=1))


def historical(store: FeatureStore, features: list[str] | FeatureService, *, full: bool = False) -> dict[str, list]:
    """Columns of a historical retrieval for both symbols, in their order."""
    job = store.get_historical_features(entity_df=ENTITIES, features=features, full_feature_names=full)
    frame = job.to_df().sort_values("symbol")
    return {name: list(column) for name, column in frame.items() if name not in {"symbol", "event_timestamp"}}


def online(store: FeatureStore, features: list[str] | FeatureService, *, full: bool = False) -> dict[str, list]:
    """Columns of an online read for both symbols."""
    answer = store.get_online_features(features=features, entity_rows=ENTITY_ROWS, full_feature_names=full).to_dict()
    return {name: column for name, column in answer.items() if name != "symbol"}


def is_whole(columns: dict[str, list], spec: FeatureViewSpec) -> bool:
    """Whether every value is of this version."""
    return all(np.array_equal(values, latest(spec, name)) for name, values in columns.items())
