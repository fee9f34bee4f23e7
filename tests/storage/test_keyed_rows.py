"""Idempotent appends to keyed tables: against the rule in plain Python, between writers, refusals."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tapeline.core.clock import ReplayClock
from tapeline.core.errors import InvalidDataError, LimitError, NaiveTimestampError, ParameterError, SchemaError
from tapeline.core.timestamps import to_us
from tapeline.storage.keyed_rows import KeyedTable, append_keyed
from tapeline.storage.migrations import migrate
from tapeline.storage.raw import AppendCounts

UTC_US = pa.timestamp("us", tz="UTC")
DAY = datetime(2013, 3, 1, tzinfo=UTC)
CREATE = """
    CREATE TABLE public.rates (symbol text NOT NULL, venue bigint, at timestamptz NOT NULL, known timestamptz NOT NULL,
        created timestamptz NOT NULL DEFAULT now(), sequence bigint, rate float8, note text, CHECK (known >= at));
    CREATE INDEX ON public.rates (symbol, venue, at DESC, sequence DESC, known DESC, created DESC)
"""
RATES = KeyedTable("public.rates", ("symbol", "venue"), "at", "known", "created", "sequence")
UNDATED = replace(RATES, created_column=None)


@dataclass(frozen=True)
class Given:
    """A row of a batch; ``known`` in hours, none: it does not say."""

    symbol: str
    hour: int
    sequence: int | None
    known: int | None
    rate: float | None

    @property
    def key(self) -> tuple[str, int, int | None]:
        return (self.symbol, self.hour, self.sequence)


def hours(hour: float) -> datetime:
    return DAY + timedelta(hours=hour)


def table_of(rows: list[Given], *, with_known: bool = True) -> pa.Table:
    columns = {
        "symbol": pa.array([row.symbol for row in rows], pa.string()),
        "venue": pa.array([7] * len(rows), pa.int32()),
        "at": pa.array([hours(row.hour) for row in rows], UTC_US),
        "known": pa.array([None if row.known is None else hours(row.known) for row in rows], UTC_US),
        "sequence": pa.array([row.sequence for row in rows], pa.int64()),
        "rate": pa.array([row.rate for row in rows], pa.float64()),
    }
    if not with_known:
        del columns["known"]
    return pa.table(columns)


def stored(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    rows = connection.execute(
        "SELECT symbol, at, sequence, known, rate::text FROM public.rates"
        " ORDER BY symbol, at, sequence NULLS FIRST, known, created, rate::text"
    ).fetchall()
    connection.rollback()
    return rows


def arriving(hour: float) -> ReplayClock:
    return ReplayClock(to_us(hours(hour)))


# The rule, in plain Python ------------------------------------------------------------------------------------------


def same(one: float | None, other: float | None) -> bool:
    return one == other or (one is not None and other is not None and one != one and other != other)


class Conflict(Exception):
    """One key with different content for one moment."""


def expected(
    held: dict[tuple[str, int, int | None], list[tuple[float, float | None]]], batch: list[Given], now: int
) -> int:
    """Append a batch to the versions of each key, each (known, rate), oldest first; the number of rows added."""
    added = 0
    for key in dict.fromkeys(row.key for row in batch):
        versions = sorted((r for r in batch if r.key == key), key=lambda r: (r.known is None, r.known or 0))
        if any(a.known == b.known and not same(a.rate, b.rate) for a, b in pairwise(versions)):
            raise Conflict
        chain: list[Given] = []
        for row in versions:
            if not chain or not same(chain[-1].rate, row.rate):
                chain.append(row)
        before = held.get(key, [])
        newest = before[-1] if before else None
        fresh = [r for r in chain[:-1] if newest is None or (r.known is not None and r.known > newest[0])] + chain[-1:]
        last: tuple[float, float | None] | None
        for place, row in enumerate(fresh):
            last = before[-1] if before else None
            if last is not None and same(last[1], row.rate):
                continue
            tick = 1e-6 / 3600 if place else 0  # after the version of its own batch
            arrival = max(now, row.hour, *([last[0] + tick] if last else []))
            in_time = row.known is not None and (last is None or row.known > last[0])
            before = [*before, (row.known if in_time and row.known is not None else arrival, row.rate)]
            added += 1
        held[key] = before
    return added


batches = st.lists(
    st.lists(
        st.builds(
            lambda symbol, hour, sequence, lag, rate: Given(
                symbol, hour, sequence, None if lag is None else hour + lag, rate
            ),
            st.sampled_from("AB"),
            st.integers(0, 3),
            st.sampled_from([None, 0, 1]),
            st.sampled_from([None, 0, 1, 5, 9]),
            st.sampled_from([None, float("nan"), 1.0, 2.0]),
        ),
        max_size=8,
    ),
    max_size=6,
)


@given(batches=batches)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_appends_follow_the_rule_and_may_be_repeated(
    connection: psycopg.Connection[Any], batches: list[list[Given]]
) -> None:
    connection.execute("DROP TABLE IF EXISTS public.rates")
    connection.execute(CREATE)
    connection.commit()
    held: dict[tuple[str, int, int | None], list[tuple[float, float | None]]] = {}
    for number, batch in enumerate(batches):
        now = 2 + 3 * number
        before = stored(connection)
        try:
            added = expected(held_after := dict(held), batch, now)
        except Conflict:
            with pytest.raises(InvalidDataError, match="comes twice"):
                append_keyed(connection, RATES, table_of(batch), clock=arriving(now))
            assert stored(connection) == before
            continue
        held = held_after
        counts = append_keyed(connection, RATES, table_of(batch), clock=arriving(now))
        assert counts.added + counts.corrections == added
        assert counts.unchanged == len(batch) - added
        assert len(stored(connection)) == len(before) + added
        again = append_keyed(connection, RATES, table_of(batch), clock=arriving(now + 1))
        assert (again.added, again.corrections, again.unchanged) == (0, 0, len(batch))
    plain = [
        (key[0], hours(key[1]), key[2], hours(known), None if rate is None else {1.0: "1", 2.0: "2"}.get(rate, "NaN"))
        for key, versions in held.items()
        for known, rate in versions
    ]
    assert sorted(stored(connection), key=repr) == sorted(plain, key=repr)


def test_every_edition_appends_alike(edition_database: tuple[str, str]) -> None:
    _, url = edition_database
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        migrate(connection)
        connection.execute("DROP TABLE IF EXISTS public.rates")
        connection.execute(CREATE)
        connection.execute("SELECT tapeline.make_hypertable('public.rates', 'at')")
        connection.commit()
        first = [Given(symbol, 24 * 40 * month, None, None, 1.0) for month in range(3) for symbol in "AB"]
        assert append_keyed(connection, RATES, table_of(first)) == AppendCounts(added=6)
        assert append_keyed(connection, RATES, table_of(first)) == AppendCounts(unchanged=6)
        changed = [replace(first[0], rate=2.0), *first[1:], replace(first[0], symbol="C")]
        assert append_keyed(connection, RATES, table_of(changed)) == AppendCounts(added=1, corrections=1, unchanged=5)
        connection.execute("DROP TABLE public.rates")


@pytest.fixture
def rates(connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    connection.execute(CREATE)
    connection.commit()
    return connection


def test_when_a_row_is_available(rates: psycopg.Connection[Any]) -> None:
    def versions(*batch: Given, now: float, with_known: bool = True) -> list[tuple[datetime, str]]:
        append_keyed(rates, RATES, table_of(list(batch), with_known=with_known), clock=arriving(now))
        return [(row[3], row[4]) for row in stored(rates)]

    row = Given("A", 10, 0, 11, 1.0)
    first = [(hours(11), "1")]
    assert versions(row, now=20) == first  # history keeps the time at which it was known
    late = [*first, (hours(21), "2")]
    assert versions(replace(row, rate=2.0), now=21) == late  # a correction that says nothing new of when: on arrival
    published = [*late, (hours(22), "3")]
    assert versions(replace(row, rate=3.0, known=22), now=30) == published
    ahead = [*published, (hours(40), "4")]
    assert versions(replace(row, rate=4.0, known=40), now=30) == ahead
    assert versions(replace(row, rate=5.0, known=12), now=31) == [
        *ahead,
        (hours(40), "5"),
    ]  # never before what it corrects
    silent = versions(Given("B", 35, 0, None, 1.0), now=32, with_known=False)
    assert silent[-1] == (hours(35), "1")  # it does not say: on arrival, and not before its event


def test_the_newest_stored_row_is_what_the_point_in_time_rule_takes(rates: psycopg.Connection[Any]) -> None:
    rates.execute(
        "INSERT INTO public.rates VALUES ('A', 7, %(at)s, %(late)s, '2020-01-01Z', 0, 2), ('A', 7, %(at)s, %(at)s, now(), 0, 1)",
        {"at": hours(10), "late": hours(12)},
    )
    rates.commit()
    row = Given("A", 10, 0, 10, 2.0)
    assert append_keyed(rates, RATES, table_of([row])).unchanged == 1


def test_a_table_without_a_created_column_gets_what_it_lacks(rates: psycopg.Connection[Any]) -> None:
    row = Given("A", 10, 0, 11, 1.0)
    both = [row, replace(row, rate=2.0, known=12)]
    assert append_keyed(rates, UNDATED, table_of([*both, row])) == AppendCounts(added=2, unchanged=1)
    assert append_keyed(rates, UNDATED, table_of(both)).unchanged == 2
    assert append_keyed(rates, UNDATED, table_of([row])).unchanged == 1  # though it is not the newest
    third = replace(row, rate=3.0)
    assert append_keyed(rates, UNDATED, table_of([third, replace(row, symbol="B")])) == AppendCounts(
        added=1, corrections=1
    )
    assert [r[3] for r in stored(rates)] == [hours(11), hours(11), hours(12), hours(11)]  # as they say


def test_two_writers_add_a_row_once(rates: psycopg.Connection[Any], database: str) -> None:
    rows = [Given("A", hour, 0, hour, 1.0) for hour in range(20)]
    counts: list[AppendCounts] = []
    ready = threading.Barrier(4)

    def write(rate: float) -> None:
        with psycopg.connect(database) as mine:
            ready.wait()
            batch = table_of([replace(row, rate=rate) for row in rows])
            counts.extend([append_keyed(mine, RATES, batch) for _ in range(3)])

    threads = [threading.Thread(target=write, args=(rate,)) for rate in (1.0, 1.0, 1.0, 2.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(c.added for c in counts) == 20
    found = stored(rates)
    assert len(found) == 20 + sum(c.corrections for c in counts)
    for hour in range(20):  # one after another in the order of recording, no two alike
        values = rates.execute(
            "SELECT rate FROM public.rates WHERE at = %s ORDER BY known, created", (hours(hour),)
        ).fetchall()
        assert all(a != b for a, b in pairwise(values))


def test_other_types_and_partial_rows(connection: psycopg.Connection[Any]) -> None:
    connection.execute("""
        CREATE TABLE public.odd (day date, created timestamptz DEFAULT now(), document json, extra jsonb, list float8[],
            flag boolean DEFAULT true, place bigint)
    """)
    connection.commit()
    odd = KeyedTable("public.odd", (), "day", None, "created", None)
    row = {"day": [DAY.date()], "document": ['{"a": 1}'], "extra": ["[2]"], "list": [[1.0, None]], "place": [3]}
    assert append_keyed(connection, odd, pa.table(row)).added == 1
    assert append_keyed(connection, odd, pa.table(row)).unchanged == 1
    assert append_keyed(connection, odd, pa.table(row | {"list": [[1.0, 2.0]]})).corrections == 1
    assert connection.execute("SELECT count(*), bool_and(flag) FROM public.odd").fetchone() == (2, True)
    connection.rollback()
    assert append_keyed(connection, odd, pa.table({"day": [DAY.date()]})).unchanged == 1


ROW = Given("A", 10, 0, 11, 1.0)


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        (table_of([ROW]).drop_columns(["at"]), InvalidDataError, "lack at"),
        (table_of([ROW]).append_column("colour", pa.array(["red"])), InvalidDataError, "no column colour"),
        (table_of([ROW]).append_column("rate", pa.array([1.0])), InvalidDataError, "several columns rate"),
        (table_of([ROW]).set_column(5, "rate", pa.array(["high"])), InvalidDataError, "rate.*double precision"),
        (table_of([ROW]).set_column(0, "symbol", pa.array(["a\0b"])), InvalidDataError, "refused"),
        (table_of([replace(ROW, symbol=Random(1).randbytes(4_000).hex())]), InvalidDataError, "refused.*index row size"),
        (table_of([ROW, ROW]).set_column(1, "venue", pa.array([7, None])), InvalidDataError, "venue has no value.*row 1"),
        (table_of([ROW]).set_column(2, "at", pa.array([DAY.replace(tzinfo=None)])), NaiveTimestampError, "at"),
        (table_of([ROW, replace(ROW, symbol="B", known=9)]), InvalidDataError, "before its event.*row 1: symbol B"),
        (table_of([ROW, replace(ROW, rate=2.0)]), InvalidDataError, r"comes twice.*row 1: symbol A, venue 7, at 2013"),
        (table_of([ROW]).append_column("created", pa.array([None], UTC_US)), None, ""),
    ],
)  # fmt: skip
def test_refusals_write_nothing(
    rates: psycopg.Connection[Any], rows: pa.Table, error: type[Exception] | None, words: str
) -> None:
    good = table_of([replace(ROW, symbol="Z")])
    if error is None:
        assert append_keyed(rates, RATES, rows).added == 1
        return
    with pytest.raises(error, match=words):
        append_keyed(rates, RATES, rows)
    assert stored(rates) == []
    assert append_keyed(rates, RATES, good).added == 1  # the connection is as it was


def test_limits_and_places(rates: psycopg.Connection[Any]) -> None:
    rows = table_of([replace(ROW, hour=hour, known=None) for hour in range(3)])
    with pytest.raises(LimitError, match="3 rows in one batch; at most 2"):
        append_keyed(rates, RATES, rows, rows_max=2)
    with pytest.raises(SchemaError, match=r"public\.rats does not exist"):
        append_keyed(rates, replace(RATES, table="public.rats"), rows)
    assert append_keyed(rates, RATES, rows.slice(0, 0)) == AppendCounts()
    rates.execute("CREATE UNIQUE INDEX ON public.rates (symbol, at)")
    rates.commit()
    append_keyed(rates, RATES, rows)
    with pytest.raises(InvalidDataError, match=r"duplicate key.*add the available or the created column"):
        append_keyed(rates, RATES, rows.set_column(5, "rate", pa.array([9.0, 9.0, 9.0])))
    assert len(stored(rates)) == 3
    rates.execute("SELECT 1")
    with pytest.raises(ParameterError, match="outside a transaction"):
        append_keyed(rates, RATES, rows)
