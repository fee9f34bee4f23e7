"""What a user's session is set to changes no answer of the functions for people, in any edition."""

from __future__ import annotations

import psycopg
from tapeline.core.timestamps import DAY_US, MINUTE_US, from_us, to_us
from tapeline.storage.feature_tables import register_view
from tapeline.storage.migrations import migrate

from tests.storage.store_rows import SPEC

NOON_US = to_us("2013-07-01T12:00:00+00:00")


def test_summer_time_of_dublin_is_not_that_of_israel(edition_database: tuple[str, str]) -> None:
    """Both are written IST, where a session writes times in words."""
    _, url = edition_database
    with psycopg.connect(url) as connection:
        migrate(connection)
        register_view(connection, SPEC)
        connection.execute("INSERT INTO tapeline.sources (source, kind) VALUES ('ticks', 'trades')")
        for minute in range(3):
            event = from_us(NOON_US + minute * MINUTE_US)
            connection.execute(
                "INSERT INTO features.small__v1 (symbol, event_timestamp, available_timestamp, sequence, sma_3, rsi_4)"
                " VALUES ('AAA', %s, %s, 0, %s, 1)",
                (event, event, float(minute)),
            )
            connection.execute(
                "INSERT INTO tapeline.trades (source, symbol, event_timestamp, available_timestamp, sequence, price, size)"
                " VALUES ('ticks', 'ES', %s, %s, 0, %s, 1)",
                (event, event, 100.0 + minute),
            )
        connection.commit()
        at = from_us(NOON_US + MINUTE_US)
        day = (from_us(NOON_US), from_us(NOON_US + DAY_US))
        found = set()
        for zone, style in (
            ("UTC", "ISO, MDY"), ("Europe/Dublin", "SQL, DMY"), ("Europe/Dublin", "German, DMY"),
            ("Asia/Kolkata", "Postgres, MDY"), ("America/New_York", "SQL, MDY"),
        ):  # fmt: skip
            connection.execute(
                "SELECT set_config('TimeZone', %s, false), set_config('DateStyle', %s, false)", (zone, style)
            )
            answers = (
                "SELECT tapeline.last_known('AAA', 'small', %s) ->> 'sma_3'", (at,)
            ), (
                "SELECT array_agg(value::text ORDER BY moment) FROM tapeline.gap_fill('small', 'AAA', 'sma_3', %s, %s, '1 minute')",
                (day[0], from_us(NOON_US + 2 * MINUTE_US)),
            ), ("SELECT array_agg(close::text) FROM tapeline.bars_at('ticks', 'ES', '1 hour', %s, %s)", day)  # fmt: skip
            found.add(tuple(repr(connection.execute(*one).fetchone()) for one in answers))
            connection.commit()
    assert found == {("('1',)", "(['0', '1', '2'],)", "(['102'],)")}
