from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from tapeline.core.errors import IntegrityError, ParameterError, VintageError
from tapeline.datasets import Generated, export, rebuild
from tapeline.storage.raw import append_bars

from tests.datasets.market import LAG_US, PLAN, SOURCE, add_values, bars_of, open_market


@pytest.fixture
def exported(connection, tmp_path):
    sessions = open_market(connection)
    return sessions, export(connection, PLAN, Generated(), tmp_path / "d", labels="direction:5d")


def part(sessions, index):
    return type(sessions)("XNYS", sessions.open_us[index : index + 1], sessions.close_us[index : index + 1])


def test_the_same_bytes_again(connection, exported, tmp_path):
    _, manifest = exported
    for path in (tmp_path / "d", tmp_path / "d" / "manifest.json"):
        result = rebuild(connection, path)
        assert result.same
        assert result.differences == ()
        assert result.manifest == manifest
    rebuild(connection, tmp_path / "d", out_dir=tmp_path / "again")
    one, two = ((tmp_path / name / "data" / "part-00000.parquet").read_bytes() for name in ("d", "again"))
    assert one == two
    assert rebuild(connection, tmp_path / "again").same


def test_corrections_of_values_prices_and_splits_that_come_later(connection, exported, tmp_path):
    """Everything an export reads is read as it had been recorded by its vintage."""
    sessions, manifest = exported
    add_values(connection, "AAA", part(sessions, 8), np.array([[9.0, 9.0]]))
    append_bars(connection, bars_of("AAA", part(sessions, 13), np.array([500.0])), SOURCE, declared_lag_us=LAG_US)
    append_bars(
        connection,
        pl.DataFrame({"symbol": ["BBB"], "start_timestamp": [None], "event_timestamp": [int(sessions.close_us[20])], "deleted": [True]})
        .cast({"start_timestamp": pl.Datetime("us", "UTC"), "event_timestamp": pl.Datetime("us", "UTC")}),
        SOURCE,
    )  # fmt: skip
    with connection.transaction():
        connection.execute(
            "INSERT INTO tapeline.corporate_actions (symbol, kind, event_timestamp, available_timestamp, ratio, source)"
            " VALUES ('AAA', 'split', '2010-02-01T14:30Z', '2010-02-01T14:30Z', 2, 'late')"
        )
    assert rebuild(connection, tmp_path / "d").same
    later = export(connection, PLAN, Generated(), tmp_path / "later", labels="direction:5d")
    changed = {c.name for c, d in zip(manifest.columns, later.columns, strict=True) if c.sha256 != d.sha256}
    assert {"sma_3", "rsi_4", "label", "label_return"} <= changed


def test_history_that_was_rewritten_is_named(connection, exported, tmp_path):
    with connection.transaction():
        connection.execute("UPDATE features.tiny__v1 SET sma_3 = sma_3 + 1e-9")
        connection.execute("UPDATE tapeline.feature_view_versions SET lineage_hash = 'other'")
    with pytest.raises(Exception, match="lineage"):
        rebuild(connection, tmp_path / "d").require_same()
    with connection.transaction():
        connection.execute(
            "UPDATE tapeline.feature_view_versions SET lineage_hash = %s", (exported[1].views[0].lineage_hash,)
        )
    result = rebuild(connection, tmp_path / "d")
    assert not result.same
    assert result.differences == ("columns sma_3 differ",)
    with pytest.raises(IntegrityError, match="columns sma_3 differ"):
        result.require_same()
    with connection.transaction():
        connection.execute("DELETE FROM tapeline.bars WHERE symbol = 'BBB'")
    assert "35 rows, not 60" in rebuild(connection, tmp_path / "d").differences


def test_altered_or_missing_files(connection, exported, tmp_path):
    rows = pq.read_table(tmp_path / "d" / "entities" / "part-00000.parquet")
    pq.write_table(rows.slice(1), tmp_path / "d" / "entities" / "part-00000.parquet")
    with pytest.raises(IntegrityError, match="entity rows"):
        rebuild(connection, tmp_path / "d")
    (tmp_path / "d" / "entities" / "part-00000.parquet").unlink()
    with pytest.raises(IntegrityError, match="entity rows"):
        rebuild(connection, tmp_path / "d")
    (tmp_path / "d" / "manifest.json").write_text("{}")
    with pytest.raises(IntegrityError, match="manifest is wrong"):
        rebuild(connection, tmp_path / "d")
    with pytest.raises(IntegrityError, match="no data set manifest"):
        rebuild(connection, tmp_path)


def test_a_vintage_that_is_not_settled_here(connection, exported, tmp_path):
    path = tmp_path / "d" / "manifest.json"
    manifest = exported[1].model_copy(update={"as_of_us": exported[1].as_of_us + 10**15})
    path.write_text(manifest.to_text())
    with pytest.raises(VintageError, match="safe horizon"):
        rebuild(connection, path)


def test_the_output_folder_is_checked_first(connection, exported, tmp_path):
    with pytest.raises(ParameterError, match="in use"):
        rebuild(connection, tmp_path / "d", out_dir=tmp_path / "d")


def test_a_query_in_a_manifest_runs_only_if_it_was_exported_here(connection, tmp_path):
    """A manifest is data from anywhere; a service may read a query, and then the manifest holds its SQL."""
    open_market(connection)
    view = replace(PLAN.views[0], table="(SELECT * FROM features.tiny__v1)")
    export(connection, replace(PLAN, views=(view,)), Generated(), tmp_path / "d", labels="direction:5d")
    assert rebuild(connection, tmp_path / "d").same
    manifest = tmp_path / "d" / "manifest.json"
    forged = "(SELECT t.* FROM features.tiny__v1 t, (SELECT set_config('tapeline.run', 'yes', false)) c)"
    manifest.write_text(manifest.read_text().replace(view.table, forged))
    with pytest.raises(IntegrityError, match="never exported"):
        rebuild(connection, tmp_path / "d")
    row = connection.execute("SELECT coalesce(current_setting('tapeline.run', true), '')").fetchone()
    assert row == ("",)
