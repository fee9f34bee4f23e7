"""Somebody else's Feast repository, in an environment that holds only the wheel and its ``feast`` extra."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.support.session import SessionServers

ROOT = Path(__file__).parents[2]
MINIMUM = "2013-03-01T00:00:00"

CONFIGURATION = """
project: somebody_else
provider: local
registry: registry.db
offline_store:
  type: tapeline.feast_ext.TimescaleOfflineStore
  url: {postgres}
online_store:
  type: tapeline.feast_ext.PackedRedisOnlineStore
  connection_string: {redis}
entity_key_serialization_version: 3
"""

DEFINITIONS = """
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import PostgreSQLSource
from feast.types import Float64, Int64, String
from feast.value_type import ValueType

driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
stats = FeatureView(
    name="driver_stats",
    entities=[driver],
    ttl=timedelta(0),
    schema=[Field(name="rate", dtype=Float64), Field(name="trips", dtype=Int64), Field(name="note", dtype=String)],
    source=PostgreSQLSource(
        name="stats", query="SELECT * FROM stats", timestamp_field="at", created_timestamp_column="created"
    ),
)
service = FeatureService(name="drivers", features=[stats])
"""

RETRIEVE = """
import json
from datetime import UTC, datetime

import pandas as pd
from feast import FeatureStore

store = FeatureStore(repo_path=".")
service = store.get_feature_service("drivers")
online = store.get_online_features(features=service, entity_rows=[{"driver_id": 1}, {"driver_id": 9}]).to_dict()
entities = pd.DataFrame({"driver_id": [1, 2], "event_timestamp": [datetime(2013, 3, 1, 12, tzinfo=UTC)] * 2})
historical = store.get_historical_features(entity_df=entities, features=service).to_df()
print(json.dumps({"online": online, "historical": historical[["driver_id", "rate", "trips", "note"]].values.tolist()}))
"""


def run(*command: object, folder: Path, **environment: str) -> str:
    """Run a command in a folder; its output."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("TAPELINE_", "PYTHON", "VIRTUAL_ENV"))
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=inherited | {"FEAST_USAGE": "False"} | environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bin`` of a virtual environment with the wheel and its ``feast`` extra, and nothing of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    python = sys.executable
    uv = shutil.which("uv", path=f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        run(python, "-m", "build", "--wheel", "--outdir", folder, ROOT, folder=folder)
        run(python, "-m", "venv", folder / "venv", folder=folder)
        install = [folder / "venv/bin/python", "-m", "pip", "install", "--quiet"]
    else:
        run(uv, "build", "--wheel", "--out-dir", folder, ROOT, folder=folder)
        run(uv, "venv", "--python", python, folder / "venv", folder=folder)
        install = [uv, "pip", "install", "--quiet", "--python", folder / "venv/bin/python"]
    (wheel,) = folder.glob("tapeline-*.whl")
    run(*install, f"{wheel}[feast]", folder=folder)
    return folder / "venv" / "bin"


@pytest.mark.slow
@pytest.mark.timeout(290)
@pytest.mark.filterwarnings("ignore")
def test_a_foreign_repository_names_the_stores_and_works(
    environment: Path, servers: SessionServers, empty_database: str, redis_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(empty_database) as connection:
        connection.execute(
            "CREATE TABLE stats (driver_id bigint, at timestamptz, created timestamptz, rate float8, trips bigint,"
            " note text)"
        )
        connection.execute(
            "INSERT INTO stats SELECT d, '2013-03-01 12:00Z'::timestamptz - h * interval '1 h',"
            " '2013-03-01 12:00Z'::timestamptz, d + h / 10.0, 10 * d + h, 'driver ' || d"
            " FROM generate_series(1, 3) d, generate_series(0, 5) h"
        )
    (tmp_path / "feature_store.yaml").write_text(CONFIGURATION.format(postgres=empty_database, redis=redis_url))
    (tmp_path / "definitions.py").write_text(DEFINITIONS)

    where = run(
        environment / "python", "-c", "import tapeline.feast_ext; print(tapeline.feast_ext.__file__)", folder=tmp_path
    )
    assert str(ROOT / "platform") not in where
    run(environment / "feast", "apply", folder=tmp_path)
    run(environment / "feast", "materialize", MINIMUM, "2013-03-02T00:00:00", folder=tmp_path)
    answer = run(environment / "python", "-W", "ignore", "-c", RETRIEVE, folder=tmp_path).splitlines()[-1]

    assert json.loads(answer) == {
        "online": {
            "driver_id": [1, 9],
            "rate": [1.0, None],
            "trips": [10, None],
            "note": ["driver 1", None],
        },
        "historical": [[1, 1.0, 10, "driver 1"], [2, 2.0, 20, "driver 2"]],
    }
