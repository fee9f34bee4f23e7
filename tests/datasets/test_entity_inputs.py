"""Every way in which entity rows can be given: the same rows give the same data set."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tapeline.core.errors import (
    EmptyDataError,
    InvalidDataError,
    LimitError,
    NaiveTimestampError,
    ParameterError,
    SchemaError,
    UnknownNameError,
)
from tapeline.core.timestamps import from_us, to_us
from tapeline.datasets import Generated, Query, VisibleMoments, export, read_data
from tapeline.datasets.entity_inputs import opened
from tapeline.datasets.plan import ViewSelection

from tests.datasets.market import LAG_US, PLAN, open_market

UTC_US = pa.timestamp("us", tz="UTC")
SQL = "SELECT symbol, event_timestamp + interval '15 min' AS event_timestamp, 1 AS other FROM tapeline.bars"


@pytest.fixture
def sessions(connection):
    return open_market(connection)


@pytest.fixture
def rows(sessions):
    """The moments of all bars, in no order, with a column that nobody asked for."""
    symbols = ["AAA"] * 40 + ["BBB"] * 30
    moments = np.concatenate([sessions.close_us, sessions.close_us[10:]]) + LAG_US
    table = pa.table({"note": ["x"] * 70, "symbol": symbols, "event_timestamp": pa.array(moments).cast(UTC_US)})
    return table.take(pa.array(np.random.default_rng(1).permutation(70)))


def given_as(kind, rows, tmp_path, monkeypatch):
    frame = pl.from_arrow(rows)
    if kind == "pandas":
        return rows.to_pandas().set_index("note")
    if kind == "pandas ns":
        return rows.to_pandas().astype({"event_timestamp": "datetime64[ns, America/Chicago]", "symbol": "category"})
    if kind == "polars":
        return frame
    if kind == "reader":
        return pa.RecordBatchReader.from_batches(rows.schema, rows.to_batches(max_chunksize=9))
    if kind == "parquet":
        pq.write_table(rows, tmp_path / "rows.parquet", row_group_size=11)
        return tmp_path / "rows.parquet"
    if kind == "csv":
        frame.with_columns(pl.col("event_timestamp").dt.to_string("iso:strict")).write_csv(tmp_path / "rows.csv")
        return tmp_path / "rows.csv"
    if kind == "arrow file":
        with pa.ipc.new_file(tmp_path / "rows.arrow", rows.schema) as file:
            file.write_table(rows)
        return tmp_path / "rows.arrow"
    if kind == "folder":
        for symbol in ("AAA", "BBB"):
            (tmp_path / f"rows/symbol={symbol}").mkdir(parents=True)
            part = rows.filter(pa.compute.equal(rows.column("symbol"), symbol)).drop_columns("symbol")
            pq.write_table(part, tmp_path / f"rows/symbol={symbol}/part.parquet")
        return tmp_path / "rows"
    if kind == "standard input":
        stream = io.BytesIO()
        with pa.ipc.new_stream(stream, rows.schema) as writer:
            writer.write_table(rows)
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(stream.getvalue())))
        from tapeline.datasets.entity_inputs import STDIN

        return STDIN
    return Query(SQL)


@pytest.mark.parametrize(
    "kind",
    ["pandas", "pandas ns", "polars", "reader", "parquet", "csv", "arrow file", "folder", "standard input", "query"],
)
def test_the_same_rows_give_the_same_data_set(connection, rows, tmp_path, monkeypatch, kind):
    expected = export(connection, PLAN, Generated(), tmp_path / "expected")
    found = export(connection, PLAN, given_as(kind, rows, tmp_path, monkeypatch), tmp_path / "found")
    assert found.content_sha256 == expected.content_sha256
    assert found.entities.sha256 == expected.entities.sha256
    assert read_data(tmp_path / "found").column_names[:2] == ["symbol", "event_timestamp"]


def test_every_moment_at_which_something_became_visible(connection, sessions, tmp_path):
    """Of a range, both ends included; a correction makes a moment of its own."""
    with connection.transaction():
        connection.execute(
            "INSERT INTO features.tiny__v1 (symbol, event_timestamp, available_timestamp, sequence, sma_3, rsi_4)"
            " VALUES ('AAA', %s, %s, 0, 7, 7)",
            (from_us(int(sessions.close_us[12])), from_us(int(sessions.close_us[12]) + 2 * LAG_US)),
        )
    time.sleep(0.02)  # the safe horizon lies 10 ms back
    first, last = int(sessions.close_us[11]) + LAG_US, int(sessions.close_us[13]) + LAG_US
    manifest = export(connection, PLAN, VisibleMoments(first, last), tmp_path / "d")
    table = read_data(tmp_path / "d")
    found = list(zip(table["event_timestamp"].cast(pa.int64()).to_pylist(), table["symbol"].to_pylist(), strict=True))
    bars = [(int(close) + LAG_US, symbol) for close in sessions.close_us[11:14] for symbol in ("AAA", "BBB")]
    assert found == sorted([*bars, (int(sessions.close_us[12]) + 2 * LAG_US, "AAA")])
    assert table["sma_3"].to_pylist()[found.index((int(sessions.close_us[12]) + 2 * LAG_US, "AAA"))] == 7
    assert manifest.entities.description.startswith("every visible change from 2010-")
    with pytest.raises(ParameterError, match="ends before"):
        export(connection, PLAN, VisibleMoments(last, first), tmp_path / "e")
    with pytest.raises(EmptyDataError, match="no entity rows"):
        export(connection, PLAN, VisibleMoments(0, 1), tmp_path / "e")


def test_changes_of_views_with_different_keys(connection, sessions, tmp_path):
    """A view without one of the keys gives rows in which that key is null, as Feast has it."""
    with connection.transaction():
        connection.execute(
            "CREATE TABLE features.venue__v1 AS SELECT 7 AS venue, event_timestamp, available_timestamp,"
            " created_timestamp, sequence, sma_3 AS load FROM features.tiny__v1 WHERE symbol = 'AAA' LIMIT 3"
        )
        connection.execute(
            "CREATE TABLE features.all__v1 AS SELECT event_timestamp, available_timestamp, created_timestamp, sequence,"
            " rsi_4 AS mood FROM features.tiny__v1 WHERE symbol = 'AAA' LIMIT 2"
        )
    venue = ViewSelection("venue", 1, "features.venue__v1", ("venue",), ("venue",), ("load",), ("load",))
    whole = ViewSelection("whole", 1, "features.all__v1", (), (), ("mood",), ("mood",))
    plan = replace(PLAN, views=(whole, PLAN.views[0], venue))
    every = VisibleMoments(0, int(sessions.close_us[-1]) + LAG_US)
    manifest = export(connection, plan, every, tmp_path / "d", slice_rows=3)
    table = read_data(tmp_path / "d")
    assert manifest.row_count == 70 + 3 + 2
    assert table["symbol"].null_count == 5
    assert table["venue"].null_count == 72
    load = table.filter(table["venue"].is_valid())["load"]
    assert load.null_count == 0


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("symbol,event_timestamp\nAAA,2013-03-01T21:00:00\n", NaiveTimestampError, "row 0"),
        ("symbol,time\nAAA,2013-03-01T21:00:00Z\n", InvalidDataError, "lack event_timestamp"),
        ("symbol,event_timestamp\nAAA,\n", InvalidDataError, "row 0"),
        ("symbol,event_timestamp\nAAA,2013-03-01T21:00:00Z\nAAA,noon\n", ParameterError, "row 1"),
        ("symbol,event_timestamp\nAAA,2013-03-01T21:00:00Z\n,2013-03-01T21:00:00Z\n", InvalidDataError, "row 1"),
        ("symbol,event_timestamp\nAAA,2013-03-01T21:00:00Z\nAAA\n", InvalidDataError, "cannot be read"),
        ("symbol,event_timestamp\nAAB,2013-03-01T21:00:00Z\n", UnknownNameError, "AAA"),
        ("symbol,event_timestamp\n", EmptyDataError, "no entity rows"),
        ("", EmptyDataError, "no entity rows"),
    ],
)
def test_bad_files_leave_nothing(connection, sessions, tmp_path, text, error, match):
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(error, match=match):
        export(connection, PLAN, path, tmp_path / "d")
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows.csv"]


def test_absent_foreign_and_damaged_files(connection, sessions, tmp_path):
    with pytest.raises(ParameterError, match="does not exist"):
        export(connection, PLAN, tmp_path / "rows.csv", tmp_path / "d")
    (tmp_path / "rows.json").write_text(json.dumps([]))
    with pytest.raises(ParameterError, match="neither"):
        export(connection, PLAN, tmp_path / "rows.json", tmp_path / "d")
    for name in ("rows.parquet", "rows.arrow"):
        (tmp_path / name).write_bytes(b"PAR1 but no more")
        with pytest.raises(InvalidDataError, match="cannot be read"):
            export(connection, PLAN, tmp_path / name, tmp_path / "d")


@pytest.mark.parametrize(
    ("query", "error", "match"),
    [
        ("SELECT symbol FROM tapeline.bars", InvalidDataError, "lack event_timestamp"),
        ("SELECT symbol, event_timestamp::timestamp FROM tapeline.bars", NaiveTimestampError, "time zone"),
        ("SELECT symbol, event_timestamp FROM tapeline.barz", SchemaError, "barz"),
        ("SELECT 'AAB' AS symbol, now() AS event_timestamp", UnknownNameError, "AAA"),
        ("SELECT NULL::text AS symbol, now() AS event_timestamp", InvalidDataError, "symbol is missing"),
        ("SELECT symbol, event_timestamp FROM tapeline.bars WHERE 1 / (sequence - sequence) = 1", SchemaError, "division"),
        ("INSERT INTO tapeline.bars SELECT * FROM tapeline.bars RETURNING symbol, event_timestamp", SchemaError, "read-only"),
        ("SELECT 1.5::float8 AS symbol, now() AS event_timestamp", InvalidDataError, "holds double"),
    ],
)  # fmt: skip
def test_bad_queries_leave_nothing(connection, sessions, tmp_path, query, error, match):
    with pytest.raises(error, match=match):
        export(connection, PLAN, Query(query), tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


def test_a_bad_row_far_back_is_named(connection, sessions, tmp_path):
    """Rows are checked as they pass, and numbered over all of them."""
    table = pa.table({"symbol": ["AAA"] * 700_000 + [None], "event_timestamp": pa.array([to_us("2010-02-01T00:00:00Z")] * 700_001).cast(UTC_US)})  # fmt: skip
    with pytest.raises(InvalidDataError, match="row 700000"):
        export(connection, PLAN, table, tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


def test_too_many_rows(connection, sessions, tmp_path, monkeypatch):
    monkeypatch.setattr("tapeline.datasets.entity_inputs.ENTITY_ROWS_MAX", 69)
    with pytest.raises(LimitError, match="69"):
        export(connection, PLAN, Generated(), tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


def test_moments_before_1970_and_finer_than_microseconds(connection, sessions):
    table = pa.table({"symbol": ["AAA"], "event_timestamp": pa.array([-1], pa.timestamp("ns", tz="UTC"))})
    with opened(connection, PLAN, table, None, 0) as stream:
        assert next(stream.tables).column("event_timestamp").cast(pa.int64()).to_pylist() == [-1]
    with (
        opened(connection, PLAN, pd.DataFrame({"symbol": ["AAA"], "event_timestamp": [1]}), None, 0) as stream,
        pytest.raises(InvalidDataError, match="holds int64"),
    ):
        next(stream.tables)
