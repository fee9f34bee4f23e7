"""Feast's calls on this store against the plain rule, thousands of hard cases with each."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pytest
import tapeline
from feast import Entity, FeatureStore, FeatureView, Field
from feast.types import Float64, Int64, String
from feast.value_type import ValueType
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tapeline.core.timestamps import from_us
from tapeline.feast_ext import TimescaleSource
from tapeline.feast_ext.offline_store import TimescaleOfflineStore

from tests.datasets.hard_histories import DAY_US, TTLS_US, Row, Rule, asked, history, keys_that_collide
from tests.datasets.test_rule_in_bulk import DDL, assert_picked, fill
from tests.feast_ext.offline_repository import open_store, ours
from tests.support.cases import count_cases

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
CASES = 1_500
VIEWS_A_CALL = 3
WINDOWS = 30
SOURCE = TimescaleSource(
    name="pairs",
    table="public.pairs",
    available_timestamp_column="available_timestamp",
    created_timestamp_column="created_timestamp",
    sequence_column="sequence",
)
searched = settings(
    max_examples=2, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
)
seeds = st.integers(0, 2**48)


@pytest.fixture
def store(tmp_path: Path, database: str) -> FeatureStore:
    """A view of the same rows for each time to live."""
    with psycopg.connect(database) as connection:
        connection.execute(DDL)
    opened = open_store(tmp_path / "repository", ours(database), coerce_tz_aware=False)
    name = Entity(name="name", join_keys=["k1"], value_type=ValueType.STRING)
    number = Entity(name="number", join_keys=["k2"], value_type=ValueType.INT64)
    schema = [Field(name="k1", dtype=String), Field(name="k2", dtype=Int64), Field(name="id", dtype=Int64)]
    schema.append(Field(name="value", dtype=Float64))
    views = [
        FeatureView(
            name=f"pairs_{place}",
            entities=[name, number],
            ttl=timedelta(microseconds=ttl_us),
            schema=schema,
            source=SOURCE,
        )
        for place, ttl_us in enumerate(TTLS_US)
    ]
    opened.apply([name, number, *views])
    return opened


def test_historical_features_are_the_rule(store: FeatureStore, database: str) -> None:
    @searched
    @given(seed=seeds, by_created=st.booleans())
    def search(seed: int, by_created: bool) -> None:
        random = np.random.default_rng(seed)
        known = history(seed, keys=keys_that_collide(40))
        with psycopg.connect(database) as connection:
            fill(connection, "public.pairs", known.rows)
        requests = asked(known, CASES, random)
        frame = pd.DataFrame(
            {
                "k1": [key[0] for key, _ in requests],
                "k2": [key[1] for key, _ in requests],
                "event_timestamp": pd.to_datetime([us for _, us in requests], unit="us", utc=True),
            }
        )
        views = random.choice(len(TTLS_US), VIEWS_A_CALL, replace=False).tolist()
        references = [f"pairs_{view}:{name}" for view in views for name in ("id", "value")]
        options = {"full_feature_names": True, "filter_by_created_timestamp": by_created}
        if known.vintage_us is None:
            found = store.get_historical_features(frame, references, **options).to_arrow()
        else:
            with tapeline.as_of(from_us(known.vintage_us).isoformat()):
                found = store.get_historical_features(frame, references, **options).to_arrow()
        for view in views:
            rule = Rule(known.rows, TTLS_US[view], known.vintage_us, created_by_request=by_created)
            want = [rule.picked(*request) for request in requests]
            assert_picked(found.column(f"pairs_{view}__id"), found.column(f"pairs_{view}__value"), want, known.rows)
            count_cases("Feast get_historical_features", len(requests))

    search()


def newest_in(rows: tuple[Row, ...], rule: Rule, key: tuple[str, int], start_us: int, end_us: int) -> int | None:
    """The row that counts at the end of a window, if it became visible in it."""
    place = rule.picked(key, end_us)
    if place is None:
        return None
    row = rows[place]
    return place if max(row.event_us, row.available_us or 0) >= start_us else None


def test_what_is_materialized_is_the_rule(store: FeatureStore, database: str) -> None:
    @searched
    @given(seed=seeds)
    def search(seed: int) -> None:
        random = np.random.default_rng(seed)
        known = history(seed, keys=keys_that_collide(80))
        with psycopg.connect(database) as connection:
            fill(connection, "public.pairs", known.rows)
        rule = Rule(known.rows, 0, None)
        for end_us in random.choice(np.array(known.edges_us), WINDOWS).tolist():
            start_us = end_us - int(random.choice([0, 1, DAY_US // 24, DAY_US, 3 * DAY_US]))
            found = TimescaleOfflineStore.pull_latest_from_table_or_query(
                store.config, SOURCE, ["k1", "k2"], ["id", "value"], "event_timestamp", "created_timestamp",
                from_us(start_us), from_us(end_us),
            ).to_arrow()  # fmt: skip
            taken = sorted(found.column("id").to_pylist())
            want = [newest_in(known.rows, rule, key, start_us, end_us) for key in known.keys]
            assert taken == sorted(place for place in want if place is not None)
            count_cases("Feast pull_latest_from_table_or_query", len(known.keys))

    search()
