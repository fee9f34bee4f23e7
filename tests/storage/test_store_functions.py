"""The functions for people agree with the point-in-time join and with the kernels' bars, in every edition."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from tapeline.core.timestamps import DAY_US, HOUR_US, MINUTE_US, to_us
from tapeline.datasets.plan import ViewSelection
from tapeline.datasets.point_in_time import as_of_join
from tapeline.features.builders import builder_of
from tapeline.features.timeframes import FrameCalendar, TimeFrame
from tapeline.features.versions import Actions
from tapeline.features.view import LongerBars
from tapeline.kernels.bars import BAR_COLUMNS, time_bars_batch
from tapeline.storage.arrow import copy_arrow
from tapeline.storage.migrations import migrate

from tests.microstructure.ticks import e_mini
from tests.storage.store_rows import SPEC, START_US, SYMBOLS, TTL_US, fill, from_us, moments, rule, same, stored

UTC = pa.timestamp("us", tz="UTC")
SELECTION = ViewSelection(
    view="small",
    version=1,
    table="features.small__v1",
    entity_columns=("symbol",),
    join_keys=("symbol",),
    features=SPEC.columns,
    output_names=SPEC.columns,
    ttl_us=TTL_US,
)
TRADES = ("source", "symbol", "event_timestamp", "available_timestamp", "sequence", "price", "size")


def number(value: object) -> float | None:
    """A JSON number; NaN is a text there."""
    return None if value is None else float(value)  # type: ignore[arg-type]


def test_last_known_is_the_point_in_time_rule(edition_database: tuple[str, str]) -> None:
    _, url = edition_database
    random = np.random.default_rng(3)
    found = 0
    with psycopg.connect(url) as connection:
        migrate(connection)
        fill(connection, 5)
        stands = stored(connection)
        created = sorted({row.created_us for row in stands})
        for vintage_us in (None, created[2]):
            for at_us in moments(random, 20):
                for symbol, known in last_known(connection, at_us, vintage_us):
                    expected = rule(stands, symbol, at_us, vintage_us)
                    if known is None:
                        assert expected is None
                        continue
                    found += 1
                    assert expected is not None
                    assert to_us(known["event_timestamp"]) == expected.event_us
                    assert to_us(known["created_timestamp"]) == expected.created_us
                    assert known["sequence"] == expected.sequence
                    for name, value in zip(SPEC.columns, expected.values, strict=True):
                        assert same(number(known[name]), value)
                one = connection.execute(
                    "SELECT tapeline.last_known('AAA', 'small@v1', %s, %s)", (from_us(at_us), k_of(vintage_us))
                ).fetchone()
                assert one == last_known(connection, at_us, vintage_us)[0][1:]
    assert found > 60


def test_last_known_is_the_point_in_time_join(connection: psycopg.Connection) -> None:
    random = np.random.default_rng(4)
    fill(connection, 7)
    created = sorted({row.created_us for row in stored(connection)})
    for vintage_us in (None, created[2]):
        times = moments(random, 20)
        entity_rows = pa.table(
            {
                "symbol": [symbol for _ in times for symbol in SYMBOLS],
                "event_timestamp": pa.array([us for us in times for _ in SYMBOLS]).cast(UTC),
            }
        )
        joined = as_of_join(connection, [SELECTION], entity_rows, vintage_us=vintage_us, with_times=True).to_pylist()
        connection.commit()
        answers = [answer for at_us in times for answer in last_known(connection, at_us, vintage_us)]
        for (symbol, known), expected in zip(answers, joined, strict=True):
            assert symbol == expected["symbol"]
            assert (known is None) == (expected["small__event_timestamp"] is None)
            if known is not None:
                assert to_us(known["event_timestamp"]) == to_us(expected["small__event_timestamp"])
                assert to_us(known["created_timestamp"]) == to_us(expected["small__created_timestamp"])
                assert all(same(number(known[name]), expected[name]) for name in SPEC.columns)
        assert sum(known is not None for _, known in answers) > 20


def test_gap_fill_holds_what_was_known_at_each_moment(edition_database: tuple[str, str]) -> None:
    _, url = edition_database
    with psycopg.connect(url) as connection:
        migrate(connection)
        fill(connection, 6)
        rows = stored(connection)
        grid = connection.execute(
            "SELECT moment, value, event_timestamp, available_timestamp"
            " FROM tapeline.gap_fill('small', 'AAA', 'rsi_4', %s, %s, interval '7 hours')",
            (from_us(START_US), from_us(START_US + 120 * DAY_US)),
        ).fetchall()
    assert [to_us(moment) for moment, *_ in grid] == list(range(START_US, START_US + 120 * DAY_US + 1, 7 * HOUR_US))
    filled = 0
    for moment, value, event, available in grid:
        expected = rule(rows, "AAA", to_us(moment))
        if expected is None:
            assert (value, event) == (None, None)
            continue
        filled += 1
        assert (to_us(event), to_us(available)) == (expected.event_us, expected.available_us)
        assert same(value, expected.values[1])
    assert len(grid) > filled > 200, "the time to live ends it"


def test_bars_of_the_packaged_trades_are_the_kernels(edition_database: tuple[str, str]) -> None:
    _, url = edition_database
    trades = e_mini(5_000)
    event_us = trades["time"].astype(np.int64)
    sequence = np.arange(len(event_us), dtype=np.int64)
    with psycopg.connect(url) as connection:
        migrate(connection)
        add_trades(connection, event_us, sequence, trades["price"], trades["size"])
        for width in ("1 minute", "7 minutes", "1 hour"):
            row = connection.execute("SELECT extract(epoch FROM %s::interval)::bigint", (width,)).fetchone()
            assert row is not None
            expected, _, _ = time_bars_batch(
                row[0] * 1_000_000, event_us, event_us, sequence, trades["price"], trades["size"],
                np.array([0, len(event_us)]), flush=True,
            )  # fmt: skip
            assert bars(connection, width, event_us[0], event_us[-1] + 1) == columns(
                expected, ["start_us", "end_us", "open", "high", "low", "close", "volume", "trade_count"]
            )
            assert len(expected) > 1


def test_bars_see_corrections_and_retractions_only_once_they_are_known(connection: psycopg.Connection) -> None:
    event_us = START_US + np.array([1, 20, 40]) * 1_000_000
    add_trades(connection, event_us, np.arange(3), np.array([10.0, 11.0, 12.0]), np.ones(3))
    for event, price, deleted in ((event_us[1], 99.0, False), (event_us[2], 12.0, True)):
        connection.execute(
            "INSERT INTO tapeline.trades (source, symbol, event_timestamp, available_timestamp, sequence, price, size, deleted)"
            " VALUES ('ticks', 'ES', %s, %s, %s, %s, 1, %s)",
            (from_us(event), from_us(event + HOUR_US), 1 if price == 99 else 2, price, deleted),
        )
    connection.commit()
    end_us = START_US + MINUTE_US
    assert [row[2:] for row in bars(connection, "1 minute", START_US, end_us, as_of_us=end_us)] == [
        (10.0, 12.0, 10.0, 12.0, 3.0, 3)
    ]
    assert [row[2:] for row in bars(connection, "1 minute", START_US, end_us)] == [(10.0, 99.0, 10.0, 99.0, 2.0, 2)]


def test_longer_bars_of_stored_ones_are_the_kernels(connection: psycopg.Connection) -> None:
    random = np.random.default_rng(0)
    end_us = START_US + np.sort(random.choice(600, 300, replace=False) + 1) * MINUTE_US
    close = 100 + np.cumsum(random.normal(size=300))
    values = np.column_stack([end_us - MINUTE_US, close - 0.1, close + 1, close - 1, close, random.random(300)])
    connection.execute("INSERT INTO tapeline.sources (source, kind) VALUES ('minutes', 'bars')")
    with connection.cursor() as cursor:
        names = ("open", "high", "low", "close", "volume")
        times = pa.array(end_us).cast(UTC)
        copy_arrow(
            cursor,
            pa.table(
                {
                    "source": ["minutes"] * 300,
                    "symbol": ["ES"] * 300,
                    "start_timestamp": pa.array(end_us - MINUTE_US).cast(UTC),
                }
                | {"event_timestamp": times, "available_timestamp": times}
                | {name: values[:, place + 1] for place, name in enumerate(names)}
            ),
            "tapeline.bars",
        )
    connection.commit()
    none = np.empty(0, dtype=np.int64)
    builder = builder_of(LongerBars("minutes", "XNYS", TimeFrame.parse("5m")), FrameCalendar(none, none))
    assert builder is not None
    sequence = np.zeros(300, dtype=np.int64)
    made, state = builder.advance_adjusted(builder.fresh(), end_us, sequence, end_us, values, Actions.none())
    last, _ = builder.flush(state)
    expected = columns(np.vstack([made, last]), ["start_us", "end_us", "open", "high", "low", "close", "volume"])
    found = bars(connection, "5 minutes", START_US, START_US + 600 * MINUTE_US, source="minutes")
    assert [row[:7] for row in found] == expected
    assert len(found) > 100


def test_impossible_questions_are_refused(connection: psycopg.Connection) -> None:
    fill(connection, 1, batches=1)
    refused = {
        "SELECT tapeline.last_known('AAA', 'nothing', now())": psycopg.errors.UndefinedTable,
        "SELECT tapeline.last_known('AAA', 'small@7', now())": psycopg.errors.UndefinedTable,
        "SELECT tapeline.last_known('AAA', 'small; DROP', now())": psycopg.errors.UndefinedTable,
        "SELECT tapeline.last_known_rows(array_fill('A'::text, ARRAY[10001]), 'small', now())": psycopg.errors.ProgramLimitExceeded,
        "SELECT tapeline.gap_fill('small', 'AAA', 'symbol', now(), now(), '1 day')": psycopg.errors.UndefinedColumn,
        "SELECT tapeline.gap_fill('small', 'AAA', 'sma_3', now() - interval '9 days', now(), '1 s')": psycopg.errors.ProgramLimitExceeded,
        "SELECT tapeline.gap_fill('small', 'AAA', 'sma_3', now(), now(), '-1 s')": psycopg.errors.ProgramLimitExceeded,
        "SELECT tapeline.bars_at('nobody', 'ES', '1 day', now(), now())": psycopg.errors.UndefinedObject,
    }
    connection.execute("INSERT INTO tapeline.sources (source, kind) VALUES ('ticks', 'trades')")
    refused |= {
        "SELECT tapeline.bars_at('ticks', 'ES', '1 month', now(), now())": psycopg.errors.InvalidParameterValue,
        "SELECT tapeline.bars_at('ticks', 'ES', '0 s', now(), now())": psycopg.errors.InvalidParameterValue,
        "SELECT tapeline.bars_at('ticks', 'ES', '1 s', now() - interval '2 days', now())": psycopg.errors.ProgramLimitExceeded,
    }
    connection.commit()
    for statement, error in refused.items():
        with pytest.raises(error) as caught:
            connection.execute(statement)
        assert caught.value.diag.message_hint or "moments" in str(caught.value)
        connection.rollback()


def k_of(vintage_us: int | None) -> datetime | None:
    return None if vintage_us is None else from_us(vintage_us)


def last_known(
    connection: psycopg.Connection, at_us: int, vintage_us: int | None
) -> list[tuple[str, dict[str, Any] | None]]:
    return connection.execute(
        "SELECT * FROM tapeline.last_known_rows(%s, 'small', %s, %s)",
        (list(SYMBOLS), from_us(at_us), k_of(vintage_us)),
    ).fetchall()


def add_trades(
    connection: psycopg.Connection, event_us: np.ndarray, sequence: np.ndarray, price: np.ndarray, size: np.ndarray
) -> None:
    connection.execute("INSERT INTO tapeline.sources (source, kind) VALUES ('ticks', 'trades')")
    times = pa.array(event_us).cast(UTC)
    count = len(event_us)
    with connection.cursor() as cursor:
        columns = (["ticks"] * count, ["ES"] * count, times, times, sequence, price, size)
        copy_arrow(cursor, pa.table(dict(zip(TRADES, columns, strict=True))), "tapeline.trades")
    connection.commit()


def bars(
    connection: psycopg.Connection,
    width: str,
    start_us: int,
    end_us: int,
    *,
    as_of_us: int = START_US + 400 * DAY_US,
    source: str = "ticks",
) -> list[tuple[float, ...]]:
    rows = connection.execute(
        "SELECT start_timestamp, event_timestamp, open, high, low, close, volume, rows"
        " FROM tapeline.bars_at(%s, 'ES', %s::interval, %s, %s, %s)",
        (source, width, from_us(start_us), from_us(end_us), from_us(as_of_us)),
    ).fetchall()
    connection.commit()
    return [(to_us(start), to_us(end), *values) for start, end, *values in rows]


def columns(bars_: np.ndarray, names: list[str]) -> list[tuple[float, ...]]:
    return [tuple(row) for row in bars_[:, [BAR_COLUMNS.index(name) for name in names]].tolist()]
