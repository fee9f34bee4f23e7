"""The newest rows are kept with every write, and the matrix never holds a value that was not available yet."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import psycopg
import pytest
from tapeline.core.errors import LimitError, ParameterError, UnknownNameError
from tapeline.core.timestamps import DAY_US
from tapeline.storage.feature_matrix import ENTITIES_MAX, feature_matrix
from tapeline.storage.feature_tables import register_view
from tapeline.storage.migrations import migrate
from tapeline.storage.view_decisions import promote, rollback

from tests.storage.store_rows import SPEC, START_US, SYMBOLS, fill, from_us, moments, rule, same, stored


def newest(connection: psycopg.Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT * FROM latest.small__v1 ORDER BY symbol").fetchall()


def newest_of_all(connection: psycopg.Connection) -> list[tuple[object, ...]]:
    return connection.execute(
        "SELECT DISTINCT ON (symbol) * FROM features.small__v1 ORDER BY symbol, event_timestamp DESC, sequence DESC,"
        " available_timestamp DESC, created_timestamp DESC"
    ).fetchall()


def add(
    connection: psycopg.Connection, symbol: str, day: float, late_days: float = 0, value: float | None = 1.0
) -> None:
    event_us = START_US + int(day * DAY_US)
    connection.execute(
        "INSERT INTO features.small__v1 (symbol, event_timestamp, available_timestamp, sequence, sma_3, rsi_4)"
        " VALUES (%s, %s, %s, 0, %s, %s)",
        (symbol, from_us(event_us), from_us(event_us + int(late_days * DAY_US)), value, value),
    )


def test_the_newest_rows_are_those_of_the_table(edition_database: tuple[str, str]) -> None:
    _, url = edition_database
    with psycopg.connect(url) as connection:
        migrate(connection)
        for seed in range(3):
            fill(connection, seed)
            assert repr(newest(connection)) == repr(newest_of_all(connection))
            assert len(newest(connection)) == 3
            connection.commit()


def test_the_matrix_is_the_point_in_time_rule(edition_database: tuple[str, str]) -> None:
    _, url = edition_database
    random = np.random.default_rng(1)
    taken = 0
    with psycopg.connect(url) as connection:
        migrate(connection)
        fill(connection, 2)
        rows = stored(connection)
        vintages = [None, *sorted({row.created_us for row in rows})[::2]]
        for at_us in moments(random, 25):
            for vintage_us in vintages:
                matrix = feature_matrix(
                    connection, "small@1", SYMBOLS, ["rsi_4", "sma_3"], at_us=at_us, vintage_us=vintage_us
                )
                for place, symbol in enumerate(SYMBOLS):
                    expected = rule(rows, symbol, at_us, vintage_us)
                    assert matrix.found[place] == (expected is not None)
                    if expected is None:
                        assert np.isnan(matrix.values[place]).all()
                        continue
                    taken += 1
                    assert matrix.event_us[place] == expected.event_us
                    assert matrix.available_us[place] == expected.available_us <= at_us
                    for value, null, wanted in zip(
                        matrix.values[place], matrix.null[place], expected.values[::-1], strict=True
                    ):
                        assert same(None if null else float(value), wanted)
    assert taken > 100


def test_a_value_that_is_not_available_yet_is_not_served(connection: psycopg.Connection) -> None:
    register_view(connection, SPEC)
    add(connection, "AAA", 1, value=1.0)
    add(connection, "AAA", 2, late_days=10, value=2.0)
    connection.commit()
    assert connection.execute("SELECT sma_3 FROM latest.small__v1").fetchone() == (2.0,), "the greatest, seen or not"
    connection.commit()
    for days, value in ((1.5, 1.0), (11.9, 1.0), (12, 2.0)):
        matrix = feature_matrix(connection, "small", ["AAA"], at_us=START_US + int(days * DAY_US))
        assert matrix.values.tolist() == [[value, value]]


def test_a_write_that_is_rolled_back_leaves_the_newest_rows_alone(connection: psycopg.Connection) -> None:
    register_view(connection, SPEC)
    add(connection, "AAA", 1)
    connection.commit()
    before = newest(connection)
    add(connection, "AAA", 2)
    assert newest(connection) != before
    connection.rollback()
    assert newest(connection) == before


def test_a_retraction_takes_the_value_away(connection: psycopg.Connection) -> None:
    register_view(connection, SPEC)
    add(connection, "AAA", 1)
    add(connection, "AAA", 1, late_days=3, value=None)
    connection.commit()
    later = feature_matrix(connection, "small", ["AAA"], at_us=START_US + 5 * DAY_US)
    assert later.found.tolist() == [True]
    assert later.null.all()
    assert feature_matrix(connection, "small", ["AAA"], at_us=START_US + 2 * DAY_US).values.tolist() == [[1.0, 1.0]]


def test_two_writers_of_the_same_entities_do_not_lock_one_another_out(database: str) -> None:
    with psycopg.connect(database) as one, psycopg.connect(database) as other:
        register_view(one, SPEC)
        add(one, "AAA", 1)
        add(other, "BBB", 1)
        one.commit()
        add(other, "AAA", 0.5)
        other.commit()
        assert newest(one) == newest_of_all(one)


def test_a_view_of_an_older_database_gets_its_newest_rows(empty_database: str) -> None:
    with psycopg.connect(empty_database) as connection:
        migrate(connection)
        fill(connection, 4)
        connection.execute("DROP TRIGGER keep_latest_rows ON features.small__v1")
        connection.execute("DROP TABLE latest.small__v1")
        connection.execute("DELETE FROM tapeline.feature_definitions")
        connection.commit()
        migrate(connection)
        assert repr(newest(connection)) == repr(newest_of_all(connection))
        described = connection.execute(
            "SELECT feature, unit, warm_up, lowest, highest, length(kernel_hash) FROM tapeline.feature_definitions"
            " ORDER BY position"
        ).fetchall()
        assert described == [("sma_3", "price", 3, 0.0, None, 64), ("rsi_4", "percent", 5, 0.0, 100.0, 64)]


def test_a_view_without_a_version_is_the_promoted_one(edition_database: tuple[str, str]) -> None:
    _, url = edition_database
    with psycopg.connect(url) as connection:
        migrate(connection)
        register_view(connection, SPEC)
        register_view(connection, replace(SPEC, version=2))
        for version in (1, 2):
            connection.execute(
                f"INSERT INTO features.small__v{version} (symbol, event_timestamp, available_timestamp, sequence, sma_3, rsi_4)"
                " VALUES ('AAA', %(at)s, %(at)s, 0, %(value)s, %(value)s)",
                {"at": from_us(START_US), "value": version},
            )
        connection.commit()

        def read(view: str) -> tuple[float, float]:
            matrix = feature_matrix(connection, view, ["AAA"], ["sma_3"], at_us=START_US + DAY_US)
            known = connection.execute(
                "SELECT tapeline.last_known('AAA', %s, %s) ->> 'sma_3'", (view, from_us(START_US + DAY_US))
            ).fetchone()
            connection.commit()
            return float(matrix.values[0, 0]), float(known[0])

        assert read("small") == (1.0, 1.0), "registered first, nothing promoted"
        promote(connection, "small", 2)
        assert read("small") == (2.0, 2.0)
        rollback(connection, "small")
        assert read("small") == (1.0, 1.0)
        assert read("small@2") == (2.0, 2.0)


def test_what_does_not_exist_is_named(connection: psycopg.Connection) -> None:
    register_view(connection, SPEC)
    with pytest.raises(UnknownNameError, match="small@1"):
        feature_matrix(connection, "smal", ["AAA"])
    with pytest.raises(UnknownNameError, match="sma_3"):
        feature_matrix(connection, "small", ["AAA"], ["sma_2"])
    with pytest.raises(ParameterError, match="twice"):
        feature_matrix(connection, "small", ["AAA"], ["sma_3", "sma_3"])
    with pytest.raises(LimitError, match="10000"):
        feature_matrix(connection, "small", ["AAA"] * (ENTITIES_MAX + 1))


def test_the_newest_rows_are_read_by_their_key(connection: psycopg.Connection) -> None:
    register_view(connection, SPEC)
    connection.execute(
        "INSERT INTO features.small__v1 (symbol, event_timestamp, available_timestamp, sequence, sma_3, rsi_4)"
        " SELECT 'S' || n, now(), now(), 0, n, n FROM generate_series(1, 5000) n"
    )
    connection.commit()
    connection.autocommit = True
    connection.execute("VACUUM ANALYZE latest.small__v1")
    plan = "\n".join(
        line
        for (line,) in connection.execute(
            "EXPLAIN SELECT sma_3 FROM latest.small__v1 s JOIN unnest(ARRAY['S1', 'S77']) AS a (symbol) USING (symbol)"
        )
    )
    assert "Index Scan using small__v1_pkey" in plan


def test_what_is_new_is_found_by_its_index(connection: psycopg.Connection) -> None:
    connection.execute(
        "INSERT INTO tapeline.trades (source, symbol, event_timestamp, available_timestamp, sequence, price, size)"
        " SELECT 'ticks', 'ES', t, t, n, 1, 1 FROM (SELECT n, '2013-09-01+00'::timestamptz + n * interval '1 s' AS t"
        " FROM generate_series(1, 100000) n) q"
    )
    connection.commit()
    connection.autocommit = True
    connection.execute("VACUUM ANALYZE tapeline.trades")
    query = (
        "SELECT min(available_timestamp) FROM tapeline.trades WHERE source = 'ticks' AND symbol = 'ES'"
        " AND (created_timestamp > now() OR available_timestamp > '2013-09-30+00')"
    )
    plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN (ANALYZE, TIMING OFF) {query}"))
    assert plan.count("Bitmap Index Scan on trades_new") == 2
    read = re.search(r"Rows Removed by Index Recheck: (\d+)", plan)
    assert read is None or int(read[1]) < 5_000, "no more than the last blocks, which are not summed up yet"
