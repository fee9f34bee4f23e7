"""The same retrievals by this store and by Feast's own PostgreSQL store on the same data.

Results must be equal; where the two differ by design, a test of its own states the difference.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from feast import FeatureStore

from tests.feast_ext.offline_repository import NOON, apply_drivers, open_store, ours, theirs

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture
def stores(tmp_path: Path, database: str) -> tuple[FeatureStore, FeatureStore]:
    """Ours and Feast's."""
    both = open_store(tmp_path / "ours", ours(database)), open_store(tmp_path / "theirs", theirs(database))
    for store in both:
        apply_drivers(store, database)
    return both


def entity_rows() -> pd.DataFrame:
    """Hits, misses by TTL, before all data, exactly on an event, unknown entities, and repeated rows."""
    random = np.random.default_rng(3)
    minutes = random.integers(-2_000, 600, size=200)
    rows = pd.DataFrame(
        {
            "driver_id": random.integers(1, 6, size=200),
            "event_timestamp": [NOON + timedelta(minutes=int(m)) for m in minutes],
            "origin": random.choice(["a", "ab", "abc"], size=200),
            "target": random.choice(["c", "bc", "d", "zzz"], size=200),
            "other": np.arange(200) / 2,
        }
    )
    on_the_hour = pd.DataFrame(
        {
            "driver_id": [1, 1, 2, 3],
            "event_timestamp": [NOON - timedelta(hours=h) for h in (2, 1, 0, 30)],
            "origin": ["a", "ab", "a", "ab"],
            "target": ["bc", "c", "d", "d"],
            "other": [1.0, 2.0, 3.0, 4.0],
        }
    )
    return pd.concat([rows, on_the_hour], ignore_index=True)


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns and rows in one order, times as UTC: Feast's store gives neither an order of rows nor a zone."""
    out = frame.copy()
    for name in out.columns:
        if pd.api.types.is_datetime64_any_dtype(out[name]):
            out[name] = pd.to_datetime(out[name], utc=True).astype("datetime64[us, UTC]")
    out = out[sorted(out.columns)]
    return out.sort_values(list(out.columns), kind="stable", na_position="first").reset_index(drop=True)


def assert_same(mine: pd.DataFrame, feasts: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(in_order(mine), in_order(feasts), check_exact=True, check_dtype=False)


REFERENCES = ["driver_stats:rate", "driver_stats:trips", "driver_stats:note", "weather:rain"]


@pytest.mark.parametrize("full_names", [False, True])
@pytest.mark.parametrize("by_created", [False, True])
def test_same_history(stores: tuple[FeatureStore, FeatureStore], full_names: bool, by_created: bool) -> None:
    mine, feasts = (
        store.get_historical_features(
            entity_rows().drop_duplicates(["driver_id", "event_timestamp"]),
            REFERENCES,
            full_feature_names=full_names,
            filter_by_created_timestamp=by_created,
        ).to_df()
        for store in stores
    )
    assert_same(mine, feasts)
    assert mine[("driver_stats__" if full_names else "") + "rate"].notna().sum() > 30


def test_same_history_of_composite_keys(stores: tuple[FeatureStore, FeatureStore]) -> None:
    """Where no two keys are one text when put together: there Feast's store mixes entities up, see below."""
    rows = entity_rows()
    rows = rows[rows.origin.isin(["a", "abc"]) & (rows.target != "bc")]
    rows = rows.drop_duplicates(["origin", "target", "event_timestamp"])
    mine, feasts = (store.get_historical_features(rows, ["routes:minutes"]).to_df() for store in stores)
    assert_same(mine, feasts)


def test_same_history_of_a_query(stores: tuple[FeatureStore, FeatureStore]) -> None:
    query = """
        SELECT d AS driver_id, '2013-03-01 12:10Z'::timestamptz - m * interval '17 min' AS event_timestamp
        FROM generate_series(1, 5) d, generate_series(0, 40) m
    """
    mine, feasts = (store.get_historical_features(query, REFERENCES[:3]).to_df() for store in stores)
    assert_same(mine, feasts)


def test_same_on_demand_features_and_service(stores: tuple[FeatureStore, FeatureStore]) -> None:
    rows = entity_rows().drop_duplicates(["driver_id", "event_timestamp"])[["driver_id", "event_timestamp"]]
    mine, feasts = (
        store.get_historical_features(rows, store.get_feature_service("doubled_drivers")).to_df() for store in stores
    )
    assert_same(mine, feasts)
    assert (mine.double_rate.dropna() == mine.rate.dropna() * 2).all()


def test_same_range_of_one_view(stores: tuple[FeatureStore, FeatureStore]) -> None:
    """Feast's store also gives the created column, and both rows of a correction; ours gives the one that counts."""
    mine, feasts = (
        store.get_historical_features(
            features=REFERENCES[:3], start_date=NOON - timedelta(hours=5), end_date=NOON
        ).to_df()
        for store in stores
    )
    feasts = feasts.sort_values("created_timestamp").drop_duplicates(["driver_id", "event_timestamp"], keep="last")
    assert_same(mine, feasts.drop(columns="created_timestamp"))
    assert len(mine) == 4 * 6


@pytest.mark.parametrize("view", ["driver_stats", "routes"])
def test_same_materialized_values(stores: tuple[FeatureStore, FeatureStore], view: str) -> None:
    entities = {"driver_id": 1} if view != "routes" else {"origin": "ab", "target": "c"}
    features = {"driver_stats": REFERENCES[:3], "routes": ["routes:minutes"]}[view]
    got = []
    for store in stores:
        store.materialize(NOON - timedelta(days=2), NOON, feature_views=[view])
        got.append(store.get_online_features(features, [entities]).to_dict())
    assert got[0] == got[1]
    wanted = {"driver_stats": ("rate", 1.0), "routes": ("minutes", 21.0)}[view]
    assert got[0][wanted[0]] == [wanted[1]]


def test_difference_views_without_entities_materialize(stores: tuple[FeatureStore, FeatureStore]) -> None:
    """Feast's store leaves the placeholder key out that Feast's own engine then looks for."""
    mine, feasts = stores
    mine.materialize(NOON - timedelta(days=2), NOON, feature_views=["driver_stats", "weather"])
    assert mine.get_online_features(["driver_stats:rate", "weather:rain"], [{"driver_id": 1}]).to_dict() == {
        "driver_id": [1],
        "rate": [1.0],
        "rain": [0.5],
    }
    with pytest.raises(ValueError, match="__dummy_id"):
        feasts.materialize(NOON - timedelta(days=2), NOON, feature_views=["weather"])


def test_difference_composite_keys_do_not_collide(stores: tuple[FeatureStore, FeatureStore]) -> None:
    """Feast's store joins keys without a separator: (a, bc) and (ab, c) become one entity row and multiply."""
    rows = pd.DataFrame({"origin": ["a", "ab"], "target": ["bc", "c"], "event_timestamp": [NOON, NOON]})
    mine, feasts = (store.get_historical_features(rows, ["routes:minutes"]).to_df() for store in stores)
    assert mine.minutes.tolist() == [12.0, 21.0]
    assert len(feasts) != len(rows)


def test_difference_repeated_rows_and_order_stay(stores: tuple[FeatureStore, FeatureStore]) -> None:
    """Entity rows come back as they were given: number, order, zone of their times."""
    rows = pd.concat([entity_rows()] * 2, ignore_index=True).iloc[::-1].reset_index(drop=True)
    mine, feasts = (store.get_historical_features(rows, REFERENCES[:3]).to_df() for store in stores)
    pd.testing.assert_frame_equal(mine[list(rows.columns)], rows)
    assert_same(mine, feasts)


def test_difference_times_keep_their_zone(stores: tuple[FeatureStore, FeatureStore]) -> None:
    rows = entity_rows().head(3)
    mine, feasts = (store.get_historical_features(rows, REFERENCES[:1]).to_df() for store in stores)
    assert str(mine.event_timestamp.dtype.tz) == "UTC"
    assert str(feasts.event_timestamp.dtype).startswith("datetime64[")
    assert "UTC" not in str(feasts.event_timestamp.dtype)
