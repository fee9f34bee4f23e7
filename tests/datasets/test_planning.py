from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import typer
from tapeline.cli import export as commands
from tapeline.core.errors import IntegrityError, UnknownNameError
from tapeline.datasets import Generated, explain, export, read_manifest
from typer.testing import CliRunner

from tests.datasets.market import LAG_US, PLAN, SOURCE, open_market


@pytest.fixture
def sessions(connection):
    return open_market(connection)


def test_a_plan_is_told_and_nothing_is_run(connection, sessions, tmp_path):
    found = explain(connection, PLAN, Generated(), labels="direction:5d", slice_rows=30)
    assert (found.entity_rows, found.slices, found.slice_rows, found.columns) == (70, 3, 30, 2 + 2 + 3)
    assert (found.first_us, found.last_us) == (int(sessions.close_us[0]) + LAG_US, int(sessions.close_us[-1]) + LAG_US)
    assert found.bytes == 70 * 7 * 8
    assert found.seconds > 0
    (view,) = found.views
    assert (view.view, view.requests, view.chunks) == ("tiny@v1", 30, 0)
    cheaper = "merge" if view.merge_cost < view.lookup_cost else "lookup"
    assert view.method == cheaper
    assert connection.execute("SELECT count(*) FROM tapeline.datasets").fetchone() == (0,)
    connection.rollback()
    with pytest.raises(UnknownNameError, match="AAB"):
        explain(connection, PLAN, Generated(("AAB",)))


def test_the_method_follows_the_density(connection, sessions):
    """A request for each of many stored rows is merged; a few requests among them are looked up."""
    with connection.transaction():
        connection.execute(
            "INSERT INTO features.tiny__v1 (symbol, event_timestamp, available_timestamp, sequence, sma_3, rsi_4)"
            " SELECT 'AAA', t, t, 0, 1, 1 FROM (SELECT to_timestamp(1e9 + 60 * n) t FROM generate_series(1, 20000) n) s"
        )
        connection.execute("CREATE INDEX ON features.tiny__v1 (symbol, event_timestamp DESC, sequence DESC,"
                           " available_timestamp DESC, created_timestamp DESC)")  # fmt: skip
    with connection.transaction():
        connection.execute("ANALYZE features.tiny__v1")
    moments = (1_000_000_000 + 60 * np.arange(1, 20_001)) * 1_000_000
    dense = pa.table(
        {"symbol": ["AAA"] * 20_000, "event_timestamp": pa.array(moments).cast(pa.timestamp("us", tz="UTC"))}
    )
    sparse = dense.take(pa.array([100, 10_000, 19_000]))
    assert explain(connection, PLAN, dense).views[0].method == "merge"
    assert explain(connection, PLAN, sparse).views[0].method == "lookup"


def test_the_command_explains_exports_and_rebuilds(connection, database, sessions, tmp_path, monkeypatch):
    monkeypatch.setattr("tapeline.feast_ext.resolve.retrieval_plan", lambda _repo, _service: PLAN)
    monkeypatch.setenv("TAPELINE_POSTGRES_URL", database)
    from tapeline.core.settings import get_settings

    get_settings.cache_clear()
    app = typer.Typer()
    commands.register(app)

    def run(*arguments):
        result = CliRunner().invoke(app, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.stdout

    query = f"SELECT symbol, event_timestamp + interval '15 min' AS event_timestamp FROM tapeline.bars WHERE source = '{SOURCE}'"
    out = str(tmp_path / "d")
    base = ["export", "--service", "tiny_model", "--query", query, "--labels", "direction:5d", "--out", out]
    told = json.loads(run(*base, "--explain", "--json"))
    assert (told["entity rows"], told["views"][0]["view"]) == (70, "tiny@v1")
    shown = run(*base, "--explain")
    assert "Export, not run" in shown
    assert "lookup cost" in shown
    assert list(tmp_path.iterdir()) == []
    done = json.loads(run(*base, "--partition-by", "month", "--json"))
    assert (done["rows"], done["files"]) == (60, 2)
    assert json.loads(run("rebuild", out, "--json"))["same"]
    get_settings.cache_clear()


def test_a_manifest_of_an_older_format_is_named(tmp_path):
    Path(tmp_path, "manifest.json").write_text(json.dumps({"format": 1, "service": "daily_model"}))
    with pytest.raises(IntegrityError, match=r"has format 1.*Export it again"):
        read_manifest(tmp_path)


def test_a_manifest_cannot_name_files_elsewhere(connection, sessions, tmp_path):
    export(connection, PLAN, Generated(), tmp_path / "d")
    file = tmp_path / "d" / "manifest.json"
    file.write_text(file.read_text().replace("data/part-00000.parquet", "data/../../part-00000.parquet"))
    with pytest.raises(IntegrityError, match=r"parts\.0\.path"):
        read_manifest(tmp_path / "d")
