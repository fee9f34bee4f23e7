"""A data set does not depend on how its rows are cut into slices, files and folders."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import polars as pl
import psycopg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.compute.sessions import SessionTimes, session_times
from tapeline.core.errors import EmptyDataError, ParameterError
from tapeline.core.timestamps import DAY_US, HOUR_US, from_us
from tapeline.datasets import Generated, LabelSpec, export, read_data, read_manifest, rebuild
from tapeline.datasets.label_paths import MISSING_US
from tapeline.datasets.labels import compute_labels
from tapeline.datasets.prices import read_prices
from tapeline.storage.raw import append_bars

from tests.datasets.market import LAG_US, PLAN, SOURCE, add_values, bars_of, open_market

INTRADAY = "us-30m"


@pytest.fixture
def sessions(connection):
    """A market with prices inside sessions too; BBB was halted for eighty days, and its last bars were retracted."""
    sessions = open_market(connection, count=150)
    halted = slice(60, 115)
    gone = bars_of("BBB", part(sessions, halted), np.ones(55)).select("symbol", "event_timestamp")
    last = bars_of("BBB", part(sessions, slice(147, 150)), np.ones(3)).select("symbol", "event_timestamp")
    for rows in (gone, last):
        append_bars(connection, rows.with_columns(deleted=True, start_timestamp=None).cast({"start_timestamp": pl.Datetime("us", "UTC")}), SOURCE)  # fmt: skip
    with connection.transaction():
        connection.execute(
            "INSERT INTO tapeline.sources (source, kind, declared_lag_us, calendar) VALUES (%s, 'bars', %s, 'XNYS')",
            (INTRADAY, LAG_US),
        )
        connection.execute(
            "INSERT INTO tapeline.corporate_actions (symbol, kind, event_timestamp, available_timestamp, ratio, source)"
            " VALUES ('AAA', 'split', %s, %s, 2, 'x')",
            (from_us(int(sessions.open_us[70])), from_us(int(sessions.open_us[70]))),
        )
    random = np.random.default_rng(5)
    for symbol in ("AAA", "BBB"):
        ends = np.concatenate([np.arange(o + HOUR_US // 2, c + 1, HOUR_US // 2) for o, c in zip(sessions.open_us, sessions.close_us, strict=True)])  # fmt: skip
        if symbol == "BBB":
            ends = ends[(ends < sessions.close_us[60]) | (ends > sessions.close_us[115])]
        closes = 50 * np.exp(np.cumsum(random.normal(size=len(ends)) * 0.01))
        frame = bars_of(symbol, SessionTimes("XNYS", ends - HOUR_US // 2, ends), closes)
        append_bars(connection, frame, INTRADAY, declared_lag_us=LAG_US)
    time.sleep(0.02)
    return sessions


def part(sessions, chosen):
    return SessionTimes("XNYS", sessions.open_us[chosen], sessions.close_us[chosen])


@pytest.mark.parametrize(
    ("label", "prices"),
    [
        ("forward_return:1mo", SOURCE),
        ("triple_barrier:5d:1.5", SOURCE),
        ("volatility:3d", SOURCE),
        ("meta_label:5d:1:sma_3", SOURCE),
        ("direction:4h", INTRADAY),
        ("triple_barrier:3h:1", INTRADAY),
    ],
)
def test_slices_of_any_size_give_the_same_rows(connection, sessions, tmp_path, label, prices):
    """And the labels are those of one call over all rows, with all prices at hand."""
    spec = LabelSpec.parse(label)
    options = {"labels": spec, "prices": prices, "keep_without_label": True}
    whole = export(connection, PLAN, Generated(), tmp_path / "whole", **options)
    table = read_data(tmp_path / "whole")
    assert whole.row_count == (300 if prices == INTRADAY else 300 - 10)
    event_us = table["event_timestamp"].cast(pa.int64()).to_numpy()
    known = read_prices(
        connection, "bars", prices, ["AAA", "BBB"], vintage_us=whole.as_of_us,
        first_us=int(event_us.min()) - 54 * DAY_US,
        last_us=int(event_us.max()) + 14 * DAY_US + (2 * spec.sessions + spec.hours) * DAY_US,
    )  # fmt: skip
    side = table["sma_3"].to_numpy() if spec.side else None
    expected = compute_labels(spec, table["symbol"].to_numpy(), event_us, known, session_times("XNYS"), side)
    assert 0 < (expected.end_us == MISSING_US).sum() < len(event_us)
    np.testing.assert_array_equal(table["label"].fill_null(np.nan).to_numpy(), expected.value)
    np.testing.assert_array_equal(table["label_return"].fill_null(np.nan).to_numpy(), expected.forward_return)
    ends = table["label_end_timestamp"].cast(pa.int64()).fill_null(MISSING_US).to_numpy()
    np.testing.assert_array_equal(ends, expected.end_us)

    @settings(max_examples=4, deadline=None, database=None)
    @given(slice_rows=st.integers(11, 400), partition_by=st.sampled_from(["none", "year", "month"]))
    def check(slice_rows, partition_by):
        again = export(
            connection, PLAN, Generated(), tmp_path / "d", **options, as_of_us=whole.as_of_us,
            slice_rows=slice_rows, partition_by=partition_by, overwrite=True,
        )  # fmt: skip
        assert (again.content_sha256, again.columns) == (whole.content_sha256, whole.columns)
        assert pl.from_arrow(read_data(tmp_path / "d")).equals(pl.from_arrow(table))

    check()


def test_partitions_are_what_other_tools_read(connection, sessions, tmp_path):
    manifest = export(connection, PLAN, Generated(), tmp_path / "d", partition_by="month", slice_rows=64)
    paths = [one.path for one in manifest.parts]
    assert "data/year=2010/month=3/part-00001.parquet" in paths
    assert sorted(paths) == sorted(str(p.relative_to(tmp_path / "d")) for p in (tmp_path / "d/data").rglob("*.parquet"))
    frame = pl.read_parquet(tmp_path / "d/data", hive_partitioning=True)
    assert frame.height == manifest.row_count == sum(one.rows for one in manifest.parts)
    assert (frame["event_timestamp"].dt.month() == frame["month"]).all()
    again = rebuild(connection, tmp_path / "d", out_dir=tmp_path / "again")
    assert again.same
    assert again.manifest.partition_by == read_manifest(tmp_path / "again").partition_by == "month"
    with pytest.raises(ParameterError, match="year, month, day"):
        export(connection, PLAN, Generated(), tmp_path / "e", partition_by="week")
    view = replace(PLAN.views[0], output_names=("month", "rsi_4"))
    with pytest.raises(ParameterError, match="column month"):
        export(connection, replace(PLAN, views=(view,)), Generated(), tmp_path / "e", partition_by="day")


def test_slices_without_any_label_leave_no_file(connection, sessions, tmp_path):
    manifest = export(connection, PLAN, Generated(), tmp_path / "d", labels="direction:5d", slice_rows=5)
    assert manifest.row_count + manifest.labels.without_label == manifest.entities.rows == 290
    assert len(manifest.parts) < 58
    assert all(one.rows for one in manifest.parts)
    late = Generated(start_us=int(sessions.close_us[-2]))
    with pytest.raises(EmptyDataError, match="has a label"):
        export(connection, PLAN, late, tmp_path / "e", labels="direction:5d", slice_rows=1)
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


def test_two_exports_and_a_backfill_at_once_give_what_one_after_another_gives(connection, database, sessions, tmp_path):
    first = export(connection, PLAN, Generated(), tmp_path / "before", labels="direction:5d")
    add_values(connection, "AAA", part(sessions, slice(20, 40)), np.ones((20, 2)))
    time.sleep(0.02)
    second = export(connection, PLAN, Generated(), tmp_path / "after", labels="direction:5d")
    assert first.content_sha256 != second.content_sha256
    done, found, failed = threading.Event(), {}, []

    def write():
        with psycopg.connect(database) as writer:
            while not done.is_set():
                add_values(writer, "BBB", part(sessions, slice(30, 50)), np.random.default_rng().normal(size=(20, 2)))

    def make(name, as_of_us):
        try:
            with psycopg.connect(database) as reader:
                found[name] = export(
                    reader, PLAN, Generated(), tmp_path / name, labels="direction:5d", as_of_us=as_of_us, slice_rows=9
                )
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            failed.append(error)

    backfill = threading.Thread(target=write)
    exports = [threading.Thread(target=make, args=one) for one in (("a", first.as_of_us), ("b", second.as_of_us))]
    for thread in (backfill, *exports):
        thread.start()
    for thread in exports:
        thread.join()
    done.set()
    backfill.join()
    assert failed == []
    assert (found["a"].content_sha256, found["b"].content_sha256) == (first.content_sha256, second.content_sha256)


_MEASURED = """
import sys
from pathlib import Path
import numpy as np, psycopg, pyarrow as pa
from benchmarks.harness import greatest_kib
from tapeline.datasets import export
from tests.datasets.market import PLAN
count, url, out = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
first = 1_263_000_000_000_000
def batches():
    random = np.random.default_rng(3)
    for begin in range(0, count, 50_000):
        moments = pa.array(random.integers(first, first + 10**13, 50_000)).cast(pa.timestamp("us", tz="UTC"))
        yield pa.record_batch([pa.array(["AAA", "BBB"] * 25_000), moments], names=["symbol", "event_timestamp"])
schema = pa.schema([("symbol", pa.string()), ("event_timestamp", pa.timestamp("us", tz="UTC"))])
import tapeline.datasets.ordering as ordering
ordering._GROUP_ROWS = 8_192
ordering.write_ordered.__kwdefaults__["run_rows"] = 100_000
with psycopg.connect(url) as connection:
    manifest = export(connection, PLAN, pa.RecordBatchReader.from_batches(schema, batches()), out, slice_rows=50_000)
assert manifest.row_count == count
print(greatest_kib())
"""


def test_memory_does_not_grow_with_the_rows(connection, database, sessions, tmp_path):
    """Five times the rows, unordered, in the same runs and slices: at most a fifth more memory."""
    used = []
    for count in (200_000, 1_000_000):
        command = [sys.executable, "-c", _MEASURED, str(count), database, str(tmp_path / str(count))]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        used.append(int(run.stdout))
    assert used[1] < 1.2 * used[0], used
