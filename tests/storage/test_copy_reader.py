"""Reading query results through libpq: batches, long texts, NULLs, errors in the middle, and streams that are left early."""

from __future__ import annotations

import math
import threading
import time
from datetime import UTC, datetime
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql
from psycopg.pq import TransactionStatus
from tapeline.core.errors import SchemaError
from tapeline.storage.copy_reader import ROWS_PER_BATCH, Column, read_copy, read_query, stream_copy, stream_query

ROWS = 3 * ROWS_PER_BATCH + 5
MIXED = sql.SQL("""
    SELECT g, CASE WHEN g % 3 > 0 THEN repeat('é', g % 90) END AS t, g::float4 / 7 AS f, g % 2 = 0 AS b, g::smallint AS s,
        CASE WHEN g % 5 > 0 THEN 'NaN'::float8 END AS n, '2001-02-03'::date + g AS d, ARRAY[g, NULL]::bigint[] AS a,
        decode('00ff', 'hex') AS y, timestamptz '1999-12-31 23:59:59.5Z' + g * interval '1 s' AS m
    FROM generate_series(1, 20000) g
""")


def test_batches_grow_and_are_full_but_the_last(connection: psycopg.Connection[Any]) -> None:
    query = sql.SQL("SELECT g FROM generate_series(1, {}) g").format(ROWS)
    batches = list(stream_copy(connection, query, [Column("g", 23)]))
    sizes = [2_048, 8_192, 32_768, ROWS_PER_BATCH, ROWS_PER_BATCH]
    assert [batch.num_rows for batch in batches] == [*sizes, ROWS - sum(sizes)]
    assert pa.Table.from_batches(batches).column("g").to_pylist() == list(range(1, ROWS + 1))


def test_every_cell_is_what_psycopg_reads(connection: psycopg.Connection[Any]) -> None:
    """Texts outgrow the room they are first given, with NULLs among them."""
    mine = read_query(connection, MIXED).to_pylist()
    with connection.cursor(binary=True) as cursor:
        theirs = cursor.execute(MIXED).fetchall()
    assert len(mine) == len(theirs) == 20_000
    for row, expected in zip(mine, theirs, strict=True):
        for value, other in zip(row.values(), expected, strict=True):
            same = math.isnan(value) if isinstance(other, float) and math.isnan(other) else value == other
            assert same, (row, expected)


def test_an_empty_result_has_its_columns(connection: psycopg.Connection[Any]) -> None:
    table = read_query(connection, sql.SQL("SELECT 1::bigint AS a, 'x' AS b WHERE false"))
    assert (table.num_rows, table.column_names) == (0, ["a", "b"])


def test_an_error_in_the_middle_is_the_servers(connection: psycopg.Connection[Any]) -> None:
    query = sql.SQL("SELECT 1 / (90000 - g) AS q FROM generate_series(1, 100000) g")
    with pytest.raises(psycopg.errors.DivisionByZero):
        read_copy(connection, query, [Column("q", 23)])
    connection.rollback()
    assert read_query(connection, sql.SQL("SELECT 2 AS two")).to_pylist() == [{"two": 2}]


def test_a_stream_that_is_left_early_frees_the_connection(connection: psycopg.Connection[Any]) -> None:
    query = sql.SQL("SELECT g FROM generate_series(1, 100000000) g")
    stream = stream_copy(connection, query, [Column("g", 23)])
    sizes = [next(stream).num_rows for _ in range(6)]
    assert sizes == sorted(sizes)  # they grow up to the full size
    assert sizes[-2:] == [ROWS_PER_BATCH] * 2
    stream.close()
    connection.rollback()
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_other_columns_than_described_are_refused(connection: psycopg.Connection[Any]) -> None:
    with pytest.raises(SchemaError, match="2 columns"):
        read_copy(connection, sql.SQL("SELECT 1::bigint"), [Column("a", 20), Column("b", 20)])
    connection.rollback()
    with pytest.raises(SchemaError, match="1 columns"):
        read_copy(connection, sql.SQL("SELECT 1::integer"), [Column("a", 20)])


def test_a_slow_query_can_be_cancelled(connection: psycopg.Connection[Any]) -> None:
    """The wait for rows is in Python: a signal, or a cancel from another thread, ends it at once."""
    canceller = threading.Timer(0.3, connection.cancel_safe)
    canceller.start()
    began = time.monotonic()
    with pytest.raises(psycopg.errors.QueryCanceled):
        read_query(connection, sql.SQL("SELECT pg_sleep(60)::text AS slept"))
    canceller.join()
    assert time.monotonic() - began < 30


def test_a_lost_connection_is_an_error(connection: psycopg.Connection[Any], database: str) -> None:
    stream = stream_copy(connection, sql.SQL("SELECT g FROM generate_series(1, 100000000) g"), [Column("g", 23)])
    next(stream)
    with psycopg.connect(database) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
    with pytest.raises(psycopg.OperationalError):
        for _ in stream:
            pass


def test_rows_come_with_their_types(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE TABLE public.read_back (a float8, b text, t timestamptz)")
    connection.execute("INSERT INTO public.read_back VALUES (1.5, 'x%', '2013-03-01T21:00Z'), (NULL, NULL, NULL)")
    connection.commit()
    query = sql.SQL("SELECT * FROM public.read_back WHERE b = {b} AND b LIKE '%' OR b IS NULL ORDER BY a").format(
        b="x%"
    )
    with stream_query(connection, query) as reader:
        tables = [read_query(connection, query), reader.read_all()]
    for table in tables:
        assert table.schema.field("t").type == pa.timestamp("us", tz="UTC")
        assert table.column("a").to_pylist() == [1.5, None]
        assert table.column("t")[0].as_py() == datetime(2013, 3, 1, 21, tzinfo=UTC)


def test_a_streamed_query_has_a_connection_of_its_own_that_only_reads(connection: psycopg.Connection[Any]) -> None:
    connection.execute("SET TIME ZONE 'Asia/Kolkata'")
    connection.commit()
    numbers = sql.SQL(
        "SELECT timestamp '2013-03-01 00:00'::timestamptz AS t, 0.5 AS half FROM generate_series(1, 10000000)"
    )
    with stream_query(connection, numbers) as reader:
        first = reader.read_next_batch().slice(0, 1)  # and the rest is left
    assert first.to_pylist() == [{"t": datetime(2013, 3, 1, tzinfo=UTC), "half": 0.5}]
    assert connection.info.transaction_status == TransactionStatus.IDLE
    writing = sql.SQL("SELECT setval('pg_temp.counted', 1)")
    with (
        stream_query(connection, sql.SQL("SELECT lo_create(0)")) as reader,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        reader.read_all()
    with pytest.raises(SchemaError, match="cannot be run"), stream_query(connection, writing):
        pass
