"""What is learned of a source's delays: only from rows that arrived live, on every edition."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest
from psycopg import sql
from tapeline.core.timestamps import DAY_US, HOUR_US, MINUTE_US, SECOND_US, to_us
from tapeline.quality.lag import learn_lag, rounded_up, seconds_text, symbol_groups
from tapeline.storage.migrations import migrate
from tapeline.storage.reference import Source, find_source
from tapeline.storage.servers.doctor_postgres import _lag_too_short

REGISTERED = datetime.now(UTC).replace(microsecond=0) - timedelta(days=10)
DECLARED_US = 2 * SECOND_US


def register(connection: psycopg.Connection, name: str, kind: str = "trades", lag_us: int = DECLARED_US) -> Source:
    with connection.transaction():
        connection.execute(
            "INSERT INTO tapeline.sources (source, kind, declared_lag_us, created_timestamp) VALUES (%s, %s, %s, %s)",
            (name, kind, lag_us, REGISTERED),
        )
    found = find_source(connection, name)
    assert found is not None
    return found


def add_trades(
    connection: psycopg.Connection,
    source: str,
    rows: list[tuple[str, datetime, timedelta]],
    *,
    lag_us: int = DECLARED_US,
    together: bool = False,
    sequence: int = 0,
    published: timedelta | None = None,
) -> None:
    """Trades (symbol, event, delay of their arrival); each recorded alone unless together, then with the last one's delay."""
    last = max(event + delay for _, event, delay in rows)
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO tapeline.trades (source, symbol, event_timestamp, available_timestamp, created_timestamp, sequence,"
            " price, size) VALUES (%s, %s, %s, %s, %s, %s, 1, 1)",
            [
                (source, symbol, event, event + (published or timedelta(microseconds=lag_us)), last if together else event + delay, sequence)
                for symbol, event, delay in rows
            ],
        )  # fmt: skip


def live(count: int, delay_s: float, symbol: str = "ES", start: timedelta = timedelta(days=1)) -> list:
    """Trades of a minute apart, after the registration."""
    begin = REGISTERED + start
    return [(symbol, begin + timedelta(minutes=n), timedelta(seconds=delay_s + n / 100)) for n in range(count)]


@pytest.fixture
def anywhere(edition_database: tuple[str, str]):
    with psycopg.connect(edition_database[1], options="-c timezone=UTC") as connection:
        migrate(connection)
        yield connection


def test_a_load_of_history_says_nothing(anywhere: psycopg.Connection) -> None:
    source = register(anywhere, "tape")
    past = [("ES", REGISTERED - timedelta(days=n), timedelta(days=n + 1)) for n in range(1, 50)]
    add_trades(anywhere, "tape", past, together=True)  # before the registration
    span = [("ES", REGISTERED + timedelta(hours=n), timedelta(hours=1)) for n in range(150)]
    add_trades(anywhere, "tape", span, together=True)  # after it, but a load of six days in one
    stale = [("ES", REGISTERED + timedelta(hours=n, minutes=5), timedelta(days=8)) for n in range(3)]
    add_trades(anywhere, "tape", stale)  # a gap that was filled a week later
    found = learn_lag(anywhere, source)
    assert (found.live, found.published, found.groups, found.advice, found.is_too_short) == (
        None,
        None,
        (),
        None,
        False,
    )


def test_quantiles_violations_and_advice(anywhere: psycopg.Connection) -> None:
    source = register(anywhere, "tape")
    rows = live(100, 1.5)  # 1.5 s to 2.49 s: half of them later than the 2 s declared
    add_trades(anywhere, "tape", rows)
    correction = [(symbol, event, timedelta(hours=5)) for symbol, event, _ in rows[:10]]
    add_trades(anywhere, "tape", correction)  # of known keys: says nothing of first sightings
    found = learn_lag(anywhere, source)
    delays = np.sort([1_500_000 + 10_000 * n for n in range(100)])
    assert found.live is not None
    assert found.live.rows == 100
    assert found.live.quantiles_us == {
        name: delays[rank] for name, rank in (("p50", 49), ("p90", 89), ("p99", 98), ("p99.9", 99), ("max", 99))
    }
    assert found.live.violations == int((delays > DECLARED_US).sum()) == 49
    assert found.is_too_short
    assert found.suggested_us == 5 * SECOND_US
    assert "49 of 100 live rows" in str(found.advice)
    assert "--source tape-2 --lag 5s" in str(found.advice)


def test_a_lag_that_holds_needs_no_advice(anywhere: psycopg.Connection) -> None:
    source = register(anywhere, "tape")
    add_trades(anywhere, "tape", live(50, 0.5))
    found = learn_lag(anywhere, source)
    assert found.live is not None
    assert (found.live.violations, found.advice) == (0, None)


def test_publication_is_learned_from_history_too(anywhere: psycopg.Connection) -> None:
    source = register(anywhere, "vendor")
    past = [("ES", REGISTERED - timedelta(days=400, minutes=n), timedelta(days=400)) for n in range(20)]
    add_trades(anywhere, "vendor", past, together=True, published=timedelta(seconds=30))
    found = learn_lag(anywhere, source)
    assert found.live is None
    assert found.published is not None
    assert (found.published.rows, found.published.quantiles_us["max"], found.published.violations) == (
        20,
        30 * SECOND_US,
        20,
    )
    assert not found.is_too_short  # its rows say truly when they were known


def test_groups_are_by_symbol_and_by_hour_of_the_session(anywhere: psycopg.Connection) -> None:
    source = register(anywhere, "tape")
    with anywhere.transaction():
        anywhere.execute(
            "INSERT INTO tapeline.instruments (symbol, venue, calendar, asset_class, currency, tick_size, valid_from,"
            " available_timestamp) VALUES ('ES', 'CME', 'CMES', 'future', 'USD', 0.25, '1990-01-01Z', '1990-01-01Z')"
        )
    add_trades(anywhere, "tape", live(120, 0.5))
    add_trades(anywhere, "tape", live(30, 3.0, "NQ"))
    open_us = np.array([to_us(REGISTERED + timedelta(days=1)) + n * DAY_US for n in range(3)])
    found = learn_lag(anywhere, source, groups=symbol_groups(anywhere), open_us=open_us)
    groups = {one.group: (one.rows, one.violations) for one in found.groups}
    assert groups == {
        "CME future": (120, 0),
        "symbol NQ": (30, 30),
        "hour 1 of the session": (60 + 30, 30),
        "hour 2 of the session": (60, 0),
    }


def test_the_doctor_warns_of_it(anywhere: psycopg.Connection) -> None:
    register(anywhere, "tape")
    register(anywhere, "prompt")
    add_trades(anywhere, "prompt", live(10, 0.1))
    (check,) = _lag_too_short(anywhere)
    assert (check.verdict, check.found) == ("ok", "10 live rows of two weeks, none too late")
    add_trades(anywhere, "tape", live(10, 3.0))
    (check,) = _lag_too_short(anywhere)
    assert check.verdict == "warn"
    assert "10 of 10 live rows of tape arrived later than the 2 s it declares" in check.found
    assert "tapeline quality lag tape" in str(check.remedy)


@pytest.mark.parametrize("kind", ["bars", "trades", "quotes", "book_events"])
def test_every_kind_of_source_can_be_asked(anywhere: psycopg.Connection, kind: str) -> None:
    assert learn_lag(anywhere, register(anywhere, "one", kind)).live is None
    query = sql.SQL("SELECT count(*) FROM tapeline.live_sightings('nobody', '2000-01-01Z')")
    assert anywhere.execute(query).fetchone() == (0,)


@pytest.mark.parametrize(
    ("delay_us", "rounded", "text"),
    [
        (850_000, SECOND_US, "850 ms"),
        (90 * SECOND_US, 2 * MINUTE_US, "90.0 s"),
        (50 * MINUTE_US, HOUR_US, "50 min 0 s"),
        (30 * HOUR_US, 2 * DAY_US, "30 h 0 min"),
        (60 * HOUR_US, 3 * DAY_US, "2.5 d"),
    ],
)
def test_delays_for_people(delay_us: int, rounded: int, text: str) -> None:
    assert rounded_up(delay_us) == rounded
    assert seconds_text(delay_us) == text
