"""Somebody else's repository: a folder with a ``feature_store.yaml`` that names the two stores by their class paths."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import pandas as pd
import psycopg
import pytest
from feast import FeatureStore
from feast.repo_config import load_repo_config
from feast.repo_operations import apply_total
from tapeline.feast_ext.resolve import retrieval_plan

from tests.feast_ext.offline_repository import DRIVERS, NOON

DEFINITIONS = """
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field
from feast.types import Float64, Int64
from feast.value_type import ValueType
from tapeline.feast_ext import TimescaleSource

driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
stats = FeatureView(
    name="driver_stats", entities=[driver], ttl=timedelta(hours=3),
    schema=[Field(name="driver_id", dtype=Int64), Field(name="conv_rate", dtype=Float64)],
    source=TimescaleSource(table="public.driver_stats", timestamp_field="at", created_timestamp_column="created"),
)
service = FeatureService(name="drivers", features=[stats])
"""


@pytest.mark.filterwarnings("ignore")
def test_apply_materialize_and_both_retrievals(
    tmp_path: Path, empty_database: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a database that has nothing of Tapeline's."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "somebodys_definitions.py").write_text(DEFINITIONS)
    (folder / "feature_store.yaml").write_text(f"""
project: somebodys
provider: local
registry: {folder}/registry.db
offline_store:
  type: tapeline.feast_ext.TimescaleOfflineStore
  url: {empty_database}
online_store:
  type: tapeline.feast_ext.PackedRedisOnlineStore
  connection_string: {redis_url}
  clock: "{NOON.isoformat()}"
entity_key_serialization_version: 3
""")
    with psycopg.connect(empty_database) as connection:
        connection.execute(DRIVERS)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    apply_total(load_repo_config(folder, folder / "feature_store.yaml"), folder, skip_source_validation=False)
    store = FeatureStore(repo_path=str(folder))
    store.materialize(NOON - timedelta(days=1), NOON)
    served = store.get_online_features(store.get_feature_service("drivers"), [{"driver_id": 2}]).to_dict()
    rows = pd.DataFrame({"driver_id": [2, 1], "event_timestamp": [NOON, NOON - timedelta(hours=2)]})
    trained = store.get_historical_features(rows, store.get_feature_service("drivers")).to_df()
    assert served == {"driver_id": [2], "conv_rate": [2.0]}
    assert trained.conv_rate.tolist() == [2.0, 77.0]
    plan = retrieval_plan(folder, "drivers")
    assert (plan.views[0].table, plan.views[0].available_column) == ("public.driver_stats", None)
    store.teardown()
