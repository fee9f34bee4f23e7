"""The binary COPY encoder against PostgreSQL's own reading of it."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tapeline.core.errors import InvalidDataError, NaiveTimestampError
from tapeline.storage import copy_encoder
from tapeline.storage.arrow import copy_arrow
from tapeline.storage.copy_encoder import encode_arrow, known_type

UTC_US = pa.timestamp("us", tz="UTC")
_text = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
_moment = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)).map(lambda t: t.replace(tzinfo=UTC))  # noqa: DTZ001
_float4 = st.floats(width=32)

# PostgreSQL type -> Arrow type, values
TYPES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "boolean": (pa.bool_(), st.booleans()),
    "smallint": (pa.int16(), st.integers(-(2**15), 2**15 - 1)),
    "integer": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "bigint": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "real": (pa.float32(), _float4),
    "double precision": (pa.float64(), st.floats()),
    "text": (pa.string(), _text),
    "varchar": (pa.large_string(), _text),
    "bytea": (pa.binary(), st.binary(max_size=12)),
    "timestamptz": (UTC_US, _moment),
    "date": (pa.date32(), st.dates(date(1900, 1, 1), date(2200, 1, 1))),
    "uuid": (pa.binary(16), st.binary(min_size=16, max_size=16)),
    "double precision[]": (pa.list_(pa.float64()), st.lists(st.none() | st.floats(), max_size=4)),
    "text[]": (pa.list_(pa.string()), st.lists(st.none() | _text, max_size=3)),
    "bigint[]": (pa.list_(pa.int64()), st.lists(st.integers(-9, 9), max_size=3)),
    "timestamptz[]": (pa.list_(UTC_US), st.lists(_moment, max_size=3)),
}


def _same(left: object, right: object) -> bool:
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, float) and isinstance(right, float):
        return np.float64(left).tobytes() == np.float64(right).tobytes() or (left != left and right != right)
    if isinstance(right, uuid.UUID):
        return left == right.bytes
    return left == right


def _written(connection: psycopg.Connection[Any], table: pa.Table, types: list[str]) -> list[tuple[Any, ...]]:
    names = table.column_names
    with connection.transaction(force_rollback=True), connection.cursor(binary=True) as cursor:
        columns = ", ".join(f'"{name}" {kind}' for name, kind in zip(names, types, strict=True))
        cursor.execute(f"CREATE TEMP TABLE copied (place bigint, {columns})")
        numbered = table.append_column("place", pa.array(range(len(table)), pa.int64()))
        assert copy_arrow(cursor, numbered, "copied") == len(table)
        cursor.execute(f"SELECT {', '.join(names)} FROM copied ORDER BY place", prepare=False)
        return cursor.fetchall()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_value_reads_back_as_it_was(connection: psycopg.Connection[Any], data: st.DataObject) -> None:
    rows = data.draw(st.integers(0, 30))
    chosen = data.draw(st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=6))
    columns = {}
    for place, name in enumerate(chosen):
        kind, values = TYPES[name]
        cells = data.draw(st.sampled_from([values, st.none() | values]))
        padded = pa.array(data.draw(st.lists(cells, min_size=rows + 1, max_size=rows + 1)), kind)
        columns[f"c{place}"] = padded.slice(1)  # an offset into the buffers must not shift the values
    table = pa.table(columns)
    rows_back = _written(connection, table, chosen)
    for before, after in zip(table.to_pylist(), rows_back, strict=True):
        for left, right in zip(before.values(), after, strict=True):
            assert _same(left, right), (left, right)


def test_slices_join_without_a_seam(connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Many slices, among them some that a long value splits down to single rows."""
    monkeypatch.setattr(copy_encoder, "SLICE_BYTES", 256)
    texts = [("x" * 2_000 if i % 37 == 0 else "é" * (i % 5)) if i % 7 else None for i in range(1_000)]
    table = pa.table({"a": pa.array(texts), "b": pa.array(range(1_000), pa.int64())})
    assert _written(connection, table, ["text", "bigint"]) == list(zip(texts, range(1_000), strict=True))


def test_memory_is_bounded_by_the_slice() -> None:
    table = pa.table({"a": ["y" * 10_000] + ["z"] * 50_000})
    pieces = list(encode_arrow(table, ["a"], [known_type(25, "a")]))
    assert max(map(len, pieces)) <= 2 * copy_encoder.SLICE_BYTES
    assert sum(map(len, pieces)) == 19 + 2 + 50_001 * 6 + 10_000 + 50_000


def test_a_dictionary_and_narrower_numbers_are_widened(connection: psycopg.Connection[Any]) -> None:
    table = pa.table(
        {
            "symbol": pa.array(["AAPL", None, "AAPL"]).dictionary_encode(),
            "count": pa.array([1, 2, None], pa.int16()),
            "price": pa.array([1.5, float("nan"), float("-inf")], pa.float32()),
            "moment": pa.array([0, 1_500, 2_000], pa.timestamp("ms", tz="America/Chicago")),
        }
    )
    rows = _written(connection, table, ["text", "bigint", "double precision", "timestamptz"])
    assert [row[:2] for row in rows] == [("AAPL", 1), (None, 2), ("AAPL", None)]
    assert rows[0][2] == 1.5
    assert np.isnan(rows[1][2])
    assert rows[2][2] == float("-inf")
    assert rows[1][3] == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=1_500)


def test_jsonb_is_written_and_read(connection: psycopg.Connection[Any]) -> None:
    assert _written(connection, pa.table({"a": ['{"b": [1, null]}', None]}), ["jsonb"]) == [
        ({"b": [1, None]},),
        (None,),
    ]


def test_columns_left_out_take_their_default(connection: psycopg.Connection[Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE defaults (a bigint, b text DEFAULT 'here')")
        assert copy_arrow(cursor, pa.table({"a": [1], "b": ["x"], "c": [2]}), "defaults", ["a"]) == 1
        assert cursor.execute("SELECT a, b FROM defaults").fetchall() == [(1, "here")]


@pytest.mark.parametrize(
    ("column", "kind", "error", "words"),
    [
        (pa.array([0], pa.timestamp("us")), "timestamptz", NaiveTimestampError, "column a"),
        (pa.array([1.5]), "bigint", InvalidDataError, "does not fit"),
        (pa.array([2**40]), "integer", InvalidDataError, "does not fit"),
        (pa.array([1]), "text", InvalidDataError, "its database column is text"),
        (pa.array([1]), "numeric", InvalidDataError, "OID 1700"),
        (pa.array([1_001], pa.timestamp("ns", tz="UTC")), "timestamptz", InvalidDataError, "does not fit"),
    ],
)
def test_what_cannot_be_kept_is_refused(
    connection: psycopg.Connection[Any], column: pa.Array, kind: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        _written(connection, pa.table({"a": column}), [kind])


def test_a_column_that_the_target_lacks_is_named(connection: psycopg.Connection[Any]) -> None:
    with connection.cursor() as cursor:
        with pytest.raises(InvalidDataError, match=r"no column colour\. It has: source, symbol"):
            copy_arrow(cursor, pa.table({"symbol": ["A"], "colour": ["red"]}), "tapeline.bars")
        with pytest.raises(InvalidDataError, match="lacks close"):
            copy_arrow(cursor, pa.table({"symbol": ["A"]}), "tapeline.bars", ["symbol", "close"])
