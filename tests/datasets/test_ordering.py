from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.core.errors import EmptyDataError, IntegrityError
from tapeline.datasets.fingerprint import fingerprint
from tapeline.datasets.ordering import read_rows, regrouped, verify_ordered, write_ordered

UTC_US = pa.timestamp("us", tz="UTC")
ROWS = st.lists(
    st.tuples(
        st.integers(-5, 5) | st.sampled_from([-(2**62), 2**62]),
        st.none() | st.sampled_from(["A", "B", "ÄÖ", "", "a\x00"]),
        st.none() | st.integers(-3, 3) | st.sampled_from([-(2**63), 2**63 - 1]),
    ),
    min_size=1,
    max_size=40,
)


def table_of(rows) -> pa.Table:
    moments, symbols, numbers = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {
            "symbol": pa.array(symbols, pa.string()),
            "number": pa.array(numbers, pa.int64()),
            "event_timestamp": pa.array(moments, pa.int64()).cast(UTC_US),
        }
    )


def plain_order(row):
    moment, symbol, number = row
    return moment, symbol is None, (symbol or "").encode(), number is None, number or 0


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, run_rows=st.integers(1, 15), cut=st.integers(1, 9))
def test_rows_come_in_order_whatever_the_runs(rows, run_rows, cut):
    """By time, then entity columns with nulls last; rows that occur twice stay twice."""
    expected = table_of(sorted(rows, key=plain_order))
    given_tables = regrouped([table_of(rows)], cut)
    with tempfile.TemporaryDirectory() as folder:
        found = write_ordered(
            given_tables, ("symbol", "number"), Path(folder, "e"), Path(folder, "s"), run_rows=run_rows
        )
        assert pa.concat_tables(pq.read_table(file) for file in found.files).equals(expected)
        assert [pq.read_metadata(file).num_rows for file in found.files[:-1]] == [run_rows] * (len(found.files) - 1)
        assert found.rows == len(rows)
        assert found.span_us == (min(row[0] for row in rows), max(row[0] for row in rows))
        assert found.sha256 == fingerprint(expected).sha256
        assert found.symbols == tuple(sorted({row[1] for row in rows if row[1]}))
        assert verify_ordered(found.files, ("symbol", "number")) == found
        assert list(Path(folder, "s").iterdir()) == []
        for skip in (0, 1, len(rows) // 2, len(rows)):
            rest = list(read_rows(found.files, skip=skip))
            assert (pa.concat_tables(rest) if rest else expected.slice(0, 0)).equals(expected.slice(skip))


def test_many_rows_of_one_moment_are_merged_in_little_memory(tmp_path, monkeypatch):
    """The merge moves on by whole keys, so rows of one moment need not be in memory together."""
    monkeypatch.setattr("tapeline.datasets.ordering._GROUP_ROWS", 1_024)
    rows = [(7, "A", number) for number in range(20_000)]
    mixed = table_of(rows[::2] + rows[1::2])
    found = write_ordered([mixed], ("symbol", "number"), tmp_path / "e", tmp_path / "s", run_rows=3_000)
    assert pa.concat_tables(pq.read_table(file) for file in found.files).equals(table_of(rows))


def test_no_rows(tmp_path):
    with pytest.raises(EmptyDataError, match="no entity rows"):
        write_ordered([], ("symbol",), tmp_path / "e", tmp_path / "s")
    with pytest.raises(IntegrityError, match="cannot be read"):
        verify_ordered([tmp_path / "absent.parquet"], ("symbol",))
