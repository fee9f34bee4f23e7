from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import polars as pl
import psycopg
import pyarrow as pa
import pytest
from tapeline.core.errors import (
    EmptyDataError,
    InvalidDataError,
    NaiveTimestampError,
    ParameterError,
    UnknownNameError,
    VersionStateError,
    VintageError,
)
from tapeline.core.timestamps import MINUTE_US, from_us, to_us
from tapeline.datasets import Generated, export, read_data, rebuild
from tapeline.datasets.manifest import read_manifest
from tapeline.storage.view_decisions import promote, retire

from tests.datasets.market import LAG_US, PLAN, add_values, open_market


@pytest.fixture
def sessions(connection):
    return open_market(connection)


def moments(table, name="event_timestamp"):
    return table.column(name).cast(pa.int64()).to_numpy()


def test_a_generated_data_set(connection, sessions, tmp_path):
    manifest = export(connection, PLAN, Generated(), tmp_path / "d", labels="direction:5d")
    table = read_data(tmp_path / "d")
    assert table.column_names == [
        "symbol",
        "event_timestamp",
        "sma_3",
        "rsi_4",
        "label",
        "label_return",
        "label_end_timestamp",
    ]
    # 40 and 30 sessions, of which the last five of each have no label yet.
    assert manifest.row_count == table.num_rows == 35 + 25
    assert (manifest.entities.rows, manifest.labels.without_label) == (70, 10)
    keys = table.select(["event_timestamp", "symbol"])
    assert keys.sort_by([("event_timestamp", "ascending"), ("symbol", "ascending")]).equals(keys)
    first = table.filter(pa.array(np.array(table.column("symbol")) == "AAA"))
    assert moments(first).tolist() == (sessions.close_us[:35] + LAG_US).tolist()
    assert moments(first, "label_end_timestamp").tolist() == sessions.close_us[5:].tolist()
    assert np.isnan(first.column("sma_3").to_numpy()[:3]).all()
    assert not np.isnan(first.column("sma_3").to_numpy()[3:]).any()
    assert read_manifest(tmp_path / "d") == manifest
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d"]
    row = connection.execute("SELECT content_sha256, row_count FROM tapeline.datasets").fetchone()
    assert row == (manifest.content_sha256, 60)
    assert manifest.views[0].definition["name"] == "tiny"


def test_a_row_knows_nothing_that_was_not_available(connection, sessions, tmp_path):
    """Just before a session's bar is available, the row has the values of the session before."""
    early = pa.table(
        {
            "symbol": ["AAA", "AAA"],
            "event_timestamp": pa.array([int(sessions.close_us[9]) + LAG_US + d for d in (-1, 0)], pa.int64()).cast(
                pa.timestamp("us", tz="UTC")
            ),
        }
    )
    export(connection, PLAN, early, tmp_path / "d")
    values = read_data(tmp_path / "d").column("sma_3").to_pylist()
    stored = [
        row[0]
        for row in connection.execute(
            "SELECT sma_3 FROM features.tiny__v1 WHERE symbol = 'AAA' ORDER BY event_timestamp"
        ).fetchall()
    ]
    assert values == stored[8:10]


def test_a_late_correction_changes_later_exports_only(connection, sessions, tmp_path):
    before = export(connection, PLAN, Generated(), tmp_path / "a", labels="direction:5d")
    add_values(
        connection, "AAA", type(sessions)("XNYS", sessions.open_us[8:9], sessions.close_us[8:9]), np.array([[9.0, 9.0]])
    )
    connection.commit()
    again = export(connection, PLAN, Generated(), tmp_path / "b", labels="direction:5d", as_of_us=before.as_of_us)
    later = export(connection, PLAN, Generated(), tmp_path / "c", labels="direction:5d")
    assert again.content_sha256 == before.content_sha256 != later.content_sha256
    changed = [c.name for c, d in zip(before.columns, later.columns, strict=True) if c.sha256 != d.sha256]
    assert changed == ["sma_3", "rsi_4"]


def test_choices_of_entity_rows(connection, sessions, tmp_path):
    start, end = int(sessions.close_us[20]), int(sessions.close_us[22]) + LAG_US
    chosen = Generated(("BBB",), start_us=start, end_us=end)
    manifest = export(connection, PLAN, chosen, tmp_path / "a")
    assert (manifest.row_count, manifest.labels) == (3, None)
    assert manifest.entities.description.startswith("BBB every session from 2010-")
    grid = export(connection, PLAN, Generated(("BBB",), every="30m", start_us=start, end_us=end), tmp_path / "b")
    assert grid.row_count == 1 + 2 * 13
    kept = export(connection, PLAN, Generated(), tmp_path / "c", labels="direction:5d", keep_without_label=True)
    table = read_data(tmp_path / "c")
    assert kept.row_count == 70
    assert [table.column(name).null_count for name in ("label", "label_return", "label_end_timestamp")] == [10] * 3


@pytest.mark.parametrize(
    ("entities", "options", "error", "match"),
    [
        (Generated(("AAB",)), {}, UnknownNameError, "AAA"),
        (Generated(end_us=0), {}, EmptyDataError, "span"),
        (Generated(every="5x"), {}, ParameterError, "duration"),
        (Generated(), {"labels": "direction:200d"}, EmptyDataError, "has a label"),
        (Generated(), {"labels": "directions:5d"}, UnknownNameError, "direction"),
        (Generated(), {"labels": "direction:5d", "prices": "us-dayly"}, UnknownNameError, "us-daily"),
        (Generated(), {"as_of_us": to_us("2200-01-01T00:00:00+00:00")}, VintageError, "safe horizon"),
        (pl.DataFrame({"symbol": ["AAA"], "event_timestamp": [datetime(2010, 2, 1)]}), {}, NaiveTimestampError, "time zone"),  # noqa: DTZ001
        (pl.DataFrame({"symbol": ["ZZZ"], "event_timestamp": [from_us(to_us("2010-02-01T00:00:00+00:00"))]}), {}, UnknownNameError, "ZZZ"),
        (pl.DataFrame({"event_timestamp": [1]}), {}, InvalidDataError, "symbol"),
        (pl.DataFrame({"symbol": [], "event_timestamp": []}), {}, EmptyDataError, "no entity rows"),
    ],
)  # fmt: skip
def test_bad_input_leaves_nothing(connection, sessions, tmp_path, entities, options, error, match):
    with pytest.raises(error, match=match):
        export(connection, PLAN, entities, tmp_path / "d", **options)
    assert list(tmp_path.iterdir()) == []
    assert connection.execute("SELECT count(*) FROM tapeline.datasets").fetchone() == (0,)


def test_a_vintage_before_all_records(connection, sessions, tmp_path):
    with pytest.raises(EmptyDataError, match="no symbol has data"):
        export(connection, PLAN, Generated(), tmp_path / "d", as_of_us=to_us("2011-01-01T00:00:00+00:00"))


def test_repeated_entity_rows_stay_as_they_are(connection, sessions, tmp_path):
    row = pl.DataFrame({"symbol": ["AAA"], "event_timestamp": [from_us(int(sessions.close_us[20]) + LAG_US)]})
    one = export(connection, PLAN, row, tmp_path / "one")
    three = export(connection, PLAN, pl.concat([row] * 3), tmp_path / "three", slice_rows=2)
    assert (one.row_count, three.row_count) == (1, 3)
    assert read_data(tmp_path / "three").equals(pa.concat_tables([read_data(tmp_path / "one")] * 3))


def test_a_folder_in_use_is_left_alone(connection, sessions, tmp_path):
    (tmp_path / "d").mkdir()
    export(connection, PLAN, Generated(("AAA",)), tmp_path / "d")
    with pytest.raises(ParameterError, match="--overwrite"):
        export(connection, PLAN, Generated(), tmp_path / "d")
    assert export(connection, PLAN, Generated(), tmp_path / "d", overwrite=True).row_count == 70
    assert read_manifest(tmp_path / "d").row_count == 70
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(ParameterError, match="no data set"):
        export(connection, PLAN, Generated(), tmp_path / "home", overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d", "home"]


def test_rows_of_an_open_writer_are_beyond_the_horizon(connection, sessions, database, tmp_path):
    with psycopg.connect(database) as writer:
        writer.execute("SELECT now()")
        manifest = export(connection, PLAN, Generated(), tmp_path / "d")
        opened = writer.execute("SELECT now()").fetchone()[0]
        assert manifest.as_of_us < to_us(opened)


def test_the_grid_is_aligned(connection, sessions, tmp_path):
    export(connection, PLAN, Generated(("AAA",), every="30m"), tmp_path / "d")
    got = moments(read_data(tmp_path / "d")) - LAG_US
    assert (got % (30 * MINUTE_US) == 0).all()
    inside = np.searchsorted(sessions.open_us, got, side="left") - 1
    assert ((got > sessions.open_us[inside]) & (got <= sessions.close_us[inside])).all()


def test_a_vintage_of_what_nobody_dated_is_refused(connection, sessions, tmp_path):
    """Without a created column every vintage would silently hold the corrections made after it."""
    undated = replace(PLAN, views=(replace(PLAN.views[0], created_column=None),))
    with pytest.raises(VintageError, match="no created column"):
        export(connection, undated, Generated(), tmp_path / "d", as_of_us=to_us("2020-01-01T00:00:00+00:00"))
    assert export(connection, undated, Generated(), tmp_path / "d").row_count == 70


def test_a_meta_label_bets_on_the_side_that_a_feature_names(connection, sessions, tmp_path):
    export(connection, PLAN, Generated(), tmp_path / "plain", labels="triple_barrier:5d:1")
    export(connection, PLAN, Generated(), tmp_path / "meta", labels="meta_label:5d:1:sma_3")
    keys = ["symbol", "event_timestamp"]
    plain, meta = (pl.from_arrow(read_data(tmp_path / name)) for name in ("plain", "meta"))
    both = meta.join(plain, on=keys, suffix="_plain")
    assert both.height == meta.height == plain.height > 0
    gain = np.sign(both["sma_3"].to_numpy()) * both["label_return_plain"].to_numpy()
    assert len(set(np.sign(both["sma_3"]))) == 2
    np.testing.assert_array_equal(both["label_return"], gain)
    np.testing.assert_array_equal(both["label"], gain > 0)
    assert both["label_end_timestamp"].equals(both["label_end_timestamp_plain"], check_names=False)
    assert read_manifest(tmp_path / "meta").label_spec.side == "sma_3"
    with pytest.raises(UnknownNameError, match="sma_3"):
        export(connection, PLAN, Generated(), tmp_path / "none", labels="meta_label:5d:1:sma_4")


def test_a_retired_version_is_not_exported_but_can_be_rebuilt(connection, sessions, tmp_path):
    export(connection, PLAN, Generated(), tmp_path / "old")
    with connection.transaction():
        connection.execute(
            "INSERT INTO tapeline.feature_view_versions (view, version, lineage_hash, plan_hash, table_name, definition)"
            " SELECT view, 2, 'other', plan_hash, 'features.tiny__v2', definition FROM tapeline.feature_view_versions"
        )
        # As the packaged views are registered: with their schema.
        connection.execute(
            "UPDATE tapeline.feature_view_versions SET table_name = 'features.tiny__v1' WHERE version = 1"
        )
    promote(connection, "tiny", 2)
    retire(connection, "tiny", 1)
    with pytest.raises(VersionStateError, match=r"tiny@1 is retired \(service tiny_model\)\. Its successor is tiny@2"):
        export(connection, PLAN, Generated(), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert rebuild(connection, tmp_path / "old").same
