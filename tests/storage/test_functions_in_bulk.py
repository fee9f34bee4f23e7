"""The functions for people and the table of newest rows against the plain rule, thousands of hard cases at a time."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import psycopg
import pyarrow as pa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql
from tapeline.core.timestamps import from_us, to_us
from tapeline.features.view import FeatureViewSpec
from tapeline.storage.arrow import copy_arrow
from tapeline.storage.feature_matrix import FeatureMatrixReader
from tapeline.storage.feature_tables import qualified_name, register_view

from tests.datasets.hard_histories import DAY_US, History, Rule, history
from tests.storage.store_rows import SPEC
from tests.support.cases import count_cases

UTC = pa.timestamp("us", tz="UTC")
SYMBOLS = (
    "S1",
    "S11",
    "S111",
    "",
    " ",
    "ä 'x'",
    "%I%L$1",
    "NULL",
    "null",
    "a\\b",
    '"q"',
    "{}",
    *(f"T{n}" for n in range(28)),
)
ASKED = [*SYMBOLS, "nobody", "S1"]
MOMENTS = 40
VALUE, PLACE = SPEC.columns
searched = settings(
    max_examples=2, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
)
zones = st.sampled_from(["UTC", "America/New_York", "Europe/London", "Europe/Dublin", "Asia/Kathmandu"])
styles = st.sampled_from(["ISO, MDY", "SQL, DMY", "Postgres, MDY", "German, DMY"])
seeds = st.integers(0, 2**48)


def known_view(connection: psycopg.Connection, seed: int) -> tuple[FeatureViewSpec, History]:
    """A view of its own for each search, whose rows are those of a history; the second feature is a row's place."""
    known = history(seed, keys=[(symbol, 0) for symbol in SYMBOLS], nulls=False)
    spec = replace(SPEC, name=f"hard_{seed}", ttl_us=known.ttl_us)
    connection.rollback()
    connection.execute("RESET ALL")
    connection.commit()
    register_view(connection, spec)
    rows = pa.table(
        {
            "symbol": pa.array([row.key[0] for row in known.rows], pa.string()),
            "event_timestamp": times([row.event_us for row in known.rows]),
            "available_timestamp": times([row.available_us or 0 for row in known.rows]),
            "created_timestamp": times([row.created_us or 0 for row in known.rows]),
            "sequence": pa.array([row.sequence for row in known.rows], pa.int64()),
            VALUE: pa.array([row.value for row in known.rows], pa.float64()),
            PLACE: pa.array(np.arange(len(known.rows), dtype=np.float64)),
        }
    )
    with connection.transaction(), connection.cursor() as cursor:
        copy_arrow(cursor, rows, qualified_name(spec))
    return spec, known


def times(values: list[int]) -> pa.Array:
    return pa.array(values, pa.int64()).cast(UTC)


def speak(connection: psycopg.Connection, zone: str, style: str) -> None:
    """What a user's session may be set to; an answer must not depend on it."""
    connection.execute("SELECT set_config('TimeZone', %s, false), set_config('DateStyle', %s, false)", (zone, style))
    connection.commit()


def same(found: float | None, stored: float | None) -> bool:
    """Signed zeros are one number in JSON."""
    if found is None or stored is None:
        return found is stored
    return found == stored or (math.isnan(found) and math.isnan(stored))


def assert_taken(found: float | None, value: float | None, want: int | None, known: History) -> None:
    assert (None if found is None else int(found)) == want
    assert want is None or same(value, known.rows[want].value)


def test_last_known_rows_are_the_rule(connection: psycopg.Connection) -> None:
    @searched
    @given(seed=seeds, zone=zones, style=styles)
    def search(seed: int, zone: str, style: str) -> None:
        spec, known = known_view(connection, seed)
        speak(connection, zone, style)
        moments = np.random.default_rng(seed).choice(np.array(known.edges_us), MOMENTS).tolist()
        k = None if known.vintage_us is None else from_us(known.vintage_us)
        statement = (
            "SELECT l.entity, (l.known ->> %s)::float8, (l.known ->> %s)::float8"
            " FROM unnest(%s::bigint[]) WITH ORDINALITY AS m (us, place),"
            " LATERAL tapeline.last_known_rows(%s, %s, '1970-01-01Z'::timestamptz + m.us * interval '1 us', %s) AS l"
            " ORDER BY m.place"
        )
        found = connection.execute(statement, (PLACE, VALUE, moments, ASKED, spec.name, k)).fetchall()
        connection.rollback()
        rule = Rule(known.rows, known.ttl_us, known.vintage_us)
        asked = [(symbol, moment) for moment in moments for symbol in ASKED]
        for (symbol, moment), (entity, place, value) in zip(asked, found, strict=True):
            assert entity == symbol
            assert_taken(place, value, rule.picked((symbol, 0), moment), known)
        count_cases("last_known_rows", len(asked))

    search()


def test_gaps_are_filled_by_the_rule(connection: psycopg.Connection) -> None:
    @searched
    @given(
        seed=seeds, zone=zones, style=styles,
        step=st.sampled_from(["1 day", "12 hours", "1 hour", "30 minutes", "1 hour 1 microsecond"]),
    )  # fmt: skip
    def search(seed: int, zone: str, style: str, step: str) -> None:
        spec, known = known_view(connection, seed)
        speak(connection, zone, style)
        k = None if known.vintage_us is None else from_us(known.vintage_us)
        first, last = known.edges_us[0] - 5, known.edges_us[0] + 9 * DAY_US
        statement = sql.SQL(
            "SELECT e.symbol, extract(epoch FROM g.moment), g.value FROM unnest(%s::text[]) AS e (symbol),"
            " LATERAL tapeline.gap_fill(%s, e.symbol, %s, %s, %s, %s::interval, %s) AS g"
        )
        arguments = (list(SYMBOLS), spec.name, PLACE, from_us(first), from_us(last), step, k)
        found = connection.execute(statement, arguments).fetchall()
        connection.rollback()
        rule = Rule(known.rows, known.ttl_us, known.vintage_us)
        for symbol, moment, place in found:
            assert (None if place is None else int(place)) == rule.picked((symbol, 0), int(moment * 1_000_000))
        assert len(found) >= 9 * len(SYMBOLS)
        count_cases("gap_fill", len(found))

    search()


def test_the_newest_rows_and_the_matrix_are_the_rule(connection: psycopg.Connection) -> None:
    @searched
    @given(seed=seeds, zone=zones)
    def search(seed: int, zone: str) -> None:
        spec, known = known_view(connection, seed)
        speak(connection, zone, "ISO, MDY")
        random = np.random.default_rng(seed)
        late = random.choice(np.array(known.edges_us[-len(known.edges_us) // 4 :]), MOMENTS // 2).tolist()
        moments = [
            *random.choice(np.array(known.edges_us), MOMENTS // 2).tolist(),
            *late,
            to_us("2026-01-01T00:00:00+00:00"),
        ]
        reader = FeatureMatrixReader(connection, spec.name, [PLACE, VALUE])
        for vintage_us in {None, known.vintage_us}:
            rule = Rule(known.rows, known.ttl_us, vintage_us)
            for moment in moments:
                matrix = reader.read(ASKED, at_us=moment, vintage_us=vintage_us)
                for at, symbol in enumerate(ASKED):
                    want = rule.picked((symbol, 0), moment)
                    place, value = (
                        None if null else float(number)
                        for null, number in zip(matrix.null[at], matrix.values[at], strict=True)
                    )
                    assert matrix.found[at] == (want is not None)
                    assert_taken(place, value, want, known)
                count_cases("feature_matrix", len(ASKED))
        newest = Rule(known.rows, 0, None)
        connection.rollback()
        statement = sql.SQL("SELECT symbol, {} FROM latest.{}").format(
            sql.Identifier(PLACE), sql.Identifier(qualified_name(spec).rpartition(".")[2])
        )
        found = dict(connection.execute(statement).fetchall())
        connection.rollback()
        assert found == {symbol: newest.picked((symbol, 0), 2**62) for symbol in SYMBOLS}
        count_cases("table of newest rows", len(SYMBOLS))

    search()
