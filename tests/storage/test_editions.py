"""The same migrations on plain PostgreSQL and on both TimescaleDB editions, each the real thing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from tapeline.core.timestamps import DAY_US, from_us, to_us
from tapeline.storage.feature_matrix import feature_matrix
from tapeline.storage.feature_values import append_feature_values
from tapeline.storage.migrations import migrate, migrations, require_schema

from tests.storage.store_rows import SYMBOLS, fill, moments, rule, stored

START = datetime(2013, 1, 1, tzinfo=UTC)
HYPERTABLES = {
    "bars", "trades", "quotes", "book_events", "served_vectors", "feature_values", "enhancement_values",
}  # fmt: skip


ONE_NOTE = pa.table(
    {"symbol": ["AAPL"], "event_timestamp": pa.array([START], pa.timestamp("us", "UTC")), "score": [1.0]}
)


def add_bars(connection: psycopg.Connection, days: int, *, close: float = 10.0, symbol: str = "AAPL") -> None:
    copy = (
        "COPY tapeline.bars (source, symbol, start_timestamp, event_timestamp, available_timestamp, "
        "open, high, low, close, volume) FROM STDIN (FORMAT binary)"
    )
    with connection.cursor() as cursor, cursor.copy(copy) as rows:
        rows.set_types(["text", "text", *["timestamptz"] * 3, *["float8"] * 5])
        for day in range(days):
            end = START + timedelta(days=day, hours=21)
            rows.write_row(
                (
                    "test",
                    symbol,
                    end - timedelta(hours=6),
                    end,
                    end + timedelta(minutes=15),
                    9.0,
                    11.0,
                    8.0,
                    close,
                    100.0,
                )
            )
    connection.commit()


def plan_of(connection: psycopg.Connection, query: str) -> str:
    return "\n".join(line for (line,) in connection.execute(f"EXPLAIN (COSTS OFF) {query}"))


def test_migrations_apply_and_repeat(edition_database: tuple[str, str]) -> None:
    edition, url = edition_database
    with psycopg.connect(url) as connection:
        assert migrate(connection) == [migration.name for migration in migrations()]
        assert migrate(connection) == []
        require_schema(connection)
        assert connection.execute("SELECT tapeline.edition()").fetchone() == (edition,)


def test_rows_go_in_and_the_newest_of_a_key_comes_out(edition_database: tuple[str, str]) -> None:
    _, url = edition_database
    with psycopg.connect(url) as connection:
        migrate(connection)
        add_bars(connection, days=100)
        add_bars(connection, days=1, close=10.5)
        newest = connection.execute(
            "SELECT DISTINCT ON (source, symbol, event_timestamp, sequence) close FROM tapeline.bars "
            "ORDER BY source, symbol, event_timestamp, sequence, created_timestamp DESC"
        ).fetchall()
        assert [close for (close,) in newest] == [10.5] + [10.0] * 99
        days = connection.execute(
            "SELECT rows, low, high, volume FROM tapeline.bars_daily WHERE symbol = 'AAPL' ORDER BY day LIMIT 2"
        ).fetchall()
        assert days == [(2, 8.0, 11.0, 200.0), (1, 8.0, 11.0, 100.0)], "a summary counts rows as recorded"


def test_a_row_available_before_its_event_is_refused(edition_database: tuple[str, str]) -> None:
    _, url = edition_database
    with psycopg.connect(url) as connection:
        migrate(connection)
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(
                "INSERT INTO tapeline.trades (source, symbol, event_timestamp, available_timestamp, sequence) "
                "VALUES ('test', 'ES', %s, %s, 0)",
                (START, START - timedelta(microseconds=1)),
            )


def test_a_feature_table_with_rows_becomes_what_the_edition_offers(edition_database: tuple[str, str]) -> None:
    edition, url = edition_database
    with psycopg.connect(url) as connection:
        migrate(connection)
        connection.execute(
            "CREATE TABLE features.momentum__v1 (symbol text, event_timestamp timestamptz NOT NULL, "
            "available_timestamp timestamptz NOT NULL, created_timestamp timestamptz NOT NULL DEFAULT now(), "
            "sequence bigint NOT NULL, rsi_14 float8)"
        )
        connection.execute(
            "INSERT INTO features.momentum__v1 SELECT 'AAPL', t, t, now(), 0, 50 "
            "FROM generate_series(%s, %s, interval '1 day') AS t",
            (START, START + timedelta(days=99)),
        )
        for _ in range(2):
            made = connection.execute("SELECT tapeline.make_hypertable('features.momentum__v1')").fetchone()
            assert made == (edition != "none",)
        assert connection.execute("SELECT count(*), sum(rsi_14) FROM features.momentum__v1").fetchone() == (100, 5000.0)
        if edition != "none":
            chunks = connection.execute("SELECT count(*) FROM show_chunks('features.momentum__v1')").fetchone()
            assert chunks is not None
            assert chunks[0] >= 4, "30-day chunks over 100 days"


@pytest.mark.edition("apache")
def test_apache_makes_hypertables_of_the_chosen_interval(apache_database: str) -> None:
    with psycopg.connect(apache_database) as connection:
        migrate(connection, chunk_interval_us=7 * DAY_US)
        intervals = dict(
            connection.execute(
                "SELECT hypertable_name, time_interval FROM timescaledb_information.dimensions"
            ).fetchall()
        )
        assert intervals == dict.fromkeys(HYPERTABLES, timedelta(days=7))
        connection.rollback()
        migrate(connection, chunk_interval_us=DAY_US)
        assert connection.execute(
            "SELECT DISTINCT time_interval FROM timescaledb_information.dimensions"
        ).fetchall() == [(timedelta(days=1),)]
        assert connection.execute("SELECT count(*) FROM tapeline.edition_policies").fetchone() == (0,)


@pytest.mark.edition("apache")
def test_apache_opens_only_the_chunks_that_a_query_needs(apache_database: str) -> None:
    with psycopg.connect(apache_database) as connection:
        migrate(connection, chunk_interval_us=10 * DAY_US)
        add_bars(connection, days=100)
        chunks = [str(name) for (name,) in connection.execute("SELECT show_chunks('tapeline.bars')")]
        assert len(chunks) >= 10
        names = [chunk.partition(".")[2] for chunk in chunks]
        every = plan_of(connection, "SELECT * FROM tapeline.bars")
        few = plan_of(
            connection,
            "SELECT * FROM tapeline.bars WHERE event_timestamp >= '2013-02-01+00' AND event_timestamp < '2013-02-02+00'",
        )
        assert sum(name in every for name in names) == len(names)
        assert sum(name in few for name in names) == 1


@pytest.mark.edition("community")
def test_community_compresses_old_chunks_and_still_takes_corrections(community_database: str) -> None:
    with psycopg.connect(community_database) as connection:
        migrate(connection)
        add_bars(connection, days=100)
        before = connection.execute("SELECT * FROM tapeline.bars ORDER BY event_timestamp").fetchall()
        connection.commit()
        run_job(connection, "policy_compression", "bars")
        states = dict(
            connection.execute(
                "SELECT is_compressed, count(*) FROM timescaledb_information.chunks "
                "WHERE hypertable_name = 'bars' GROUP BY 1"
            ).fetchall()
        )
        assert states.get(True, 0) >= 3, "chunks of 2013 are older than 90 days"
        assert connection.execute("SELECT * FROM tapeline.bars ORDER BY event_timestamp").fetchall() == before
        connection.commit()
        add_bars(connection, days=1, close=12.5)
        newest = connection.execute(
            "SELECT close FROM tapeline.bars WHERE source = 'test' AND symbol = 'AAPL' "
            "ORDER BY event_timestamp, sequence, created_timestamp DESC LIMIT 1"
        ).fetchone()
        assert newest == (12.5,)


def test_summaries_of_features_count_what_was_recorded(edition_database: tuple[str, str]) -> None:
    edition, url = edition_database
    with psycopg.connect(url) as connection:
        migrate(connection)
        fill(connection, 8)
        fill(connection, 9)
        rows = stored(connection)
        if edition == "community":
            run_job(connection, "policy_refresh_continuous_aggregate", "small__v1_daily")
        found = connection.execute(
            "SELECT symbol, day, rows, corrected, first_event, last_event, null_share, nan_share"
            " FROM tapeline.small__v1_daily ORDER BY 1, 2"
        ).fetchall()
    expected = []
    for symbol, day_us in sorted({(row.symbol, row.event_us) for row in rows}):
        of_day = [row for row in rows if (row.symbol, row.event_us) == (symbol, day_us)]
        values = [value for row in of_day for value in row.values]
        nulls = sum(value is None for value in values) / len(values)
        nans = sum(value is not None and value != value for value in values) / len(values)
        corrected = len(of_day) - len({row.sequence for row in of_day})
        day = from_us(day_us)
        expected.append((symbol, day, len(of_day), corrected, day, day, pytest.approx(nulls), pytest.approx(nans)))
    assert found == expected
    assert len(expected) > 100
    assert any(row[3] for row in expected)


@pytest.mark.edition("community")
def test_compressed_chunks_answer_as_before(community_database: str) -> None:
    random = np.random.default_rng(0)
    with psycopg.connect(community_database) as connection:
        migrate(connection)
        fill(connection, 10)
        append_feature_values(connection, "notes", ONE_NOTE)
        rows = stored(connection)
        for table in ("features.small__v1", "tapeline.feature_values"):
            connection.execute("SELECT compress_chunk(c) FROM show_chunks(%s) c", (table,))
        connection.commit()
        fill(connection, 11, batches=2)  # rows go into compressed chunks, and the newest rows follow
        rows = stored(connection)
        compressed = connection.execute(
            "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'small__v1' AND is_compressed"
        ).fetchone()
        assert compressed == (4,)
        for at_us in moments(random, 15):
            known = connection.execute(
                "SELECT * FROM tapeline.last_known_rows(%s, 'small', %s)", (list(SYMBOLS), from_us(at_us))
            ).fetchall()
            matrix = feature_matrix(connection, "small", SYMBOLS, at_us=at_us)
            for place, (symbol, row) in enumerate(known):
                expected = rule(rows, symbol, at_us)
                assert matrix.found[place] == (row is not None) == (expected is not None)
                if expected is not None:
                    assert to_us(row["event_timestamp"]) == matrix.event_us[place] == expected.event_us
                    assert to_us(row["created_timestamp"]) == expected.created_us
        connection.commit()
        assert append_feature_values(connection, "notes", ONE_NOTE).unchanged == 1
        changed = ONE_NOTE.set_column(2, "score", [[2.0]])
        assert append_feature_values(connection, "notes", changed).corrections == 1


@pytest.mark.edition("community")
def test_community_keeps_daily_summaries_up_to_date(community_database: str) -> None:
    with psycopg.connect(community_database) as connection:
        migrate(connection)
        add_bars(connection, days=3)
        run_job(connection, "policy_refresh_continuous_aggregate", "bars_daily")
        materialized = connection.execute(
            "SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name) "
            "FROM timescaledb_information.continuous_aggregates WHERE view_name = 'bars_daily'"
        ).fetchone()
        assert materialized is not None
        assert connection.execute(f"SELECT count(*) FROM {materialized[0]}").fetchone() == (3,)
        connection.commit()
        add_bars(connection, days=1)
        run_job(connection, "policy_refresh_continuous_aggregate", "bars_daily")
        assert connection.execute("SELECT rows FROM tapeline.bars_daily ORDER BY day").fetchall() == [(2,), (1,), (1,)]


@pytest.mark.edition("community")
def test_community_forgets_served_vectors_after_a_year_unless_told_otherwise(community_database: str) -> None:
    with psycopg.connect(community_database) as connection:
        migrate(connection)
        now = datetime.now(UTC)
        for age in (timedelta(days=800), timedelta(days=1)):
            connection.execute(
                "INSERT INTO tapeline.served_vectors VALUES (gen_random_uuid(), 'AAPL', 'm', '1.0.0', 'x', %s, %s, now(), "
                "'', '', '{}', '[]')",
                (now - age, now - age),
            )
        connection.commit()
        run_job(connection, "retention_job", "tapeline.served_vectors")
        assert connection.execute("SELECT served_timestamp FROM tapeline.served_vectors").fetchall() == [
            (now - timedelta(days=1),)
        ]
        connection.execute("SELECT tapeline.set_retention('tapeline.served_vectors', NULL)")
        connection.commit()
        migrate(connection)
        assert connection.execute(
            "SELECT count(*) FROM timescaledb_information.jobs WHERE proc_name IN ('policy_retention', 'retention_job')"
        ).fetchone() == (0,), "an operator's choice outlives a migration"


def run_job(connection: psycopg.Connection, procedure: str, table: str) -> None:
    """Do now what the edition's scheduler does in time."""
    row = connection.execute(
        "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = %s AND "
        "(hypertable_name = %s OR config ->> 'table' = %s OR hypertable_name IN (SELECT materialization_hypertable_name "
        " FROM timescaledb_information.continuous_aggregates WHERE view_name = %s))",
        (procedure, table, table, table),
    ).fetchone()
    assert row is not None, f"no job {procedure} for {table}"
    connection.commit()
    connection.autocommit = True
    connection.execute(f"CALL run_job({row[0]})")
    connection.autocommit = False
