"""Idempotent append of raw rows: what is added, when it counts as available, and what two writers do to each other."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tapeline.core.clock import ReplayClock
from tapeline.core.errors import InvalidDataError, NaiveTimestampError, ParameterError
from tapeline.core.timestamps import MINUTE_US, to_us
from tapeline.storage import raw
from tapeline.storage.raw import (
    AppendCounts,
    append_bars,
    append_book_events,
    append_quotes,
    append_rows,
    append_trades,
)

Connection = psycopg.Connection[Any]
T0 = datetime(2013, 3, 1, 21, tzinfo=UTC)
LATER = ReplayClock(to_us("2013-03-10T12:00:00+00:00"))


def bars(*rows: tuple[str, int, float], **columns: Any) -> pl.DataFrame:
    """Daily bars: (symbol, day, close)."""
    events = [T0 + timedelta(days=day) for _, day, _ in rows]
    return pl.DataFrame(
        {
            "symbol": [row[0] for row in rows],
            "start_timestamp": [event - timedelta(hours=6) for event in events],
            "event_timestamp": events,
            **{name: [row[2] for row in rows] for name in ("open", "high", "low", "close")},
            "volume": [1.0] * len(rows),
            **columns,
        }
    ).with_columns(pl.col("start_timestamp", "event_timestamp").cast(pl.Datetime("us", "UTC")))


def stored(connection: Connection, columns: str = "symbol, event_timestamp, close, available_timestamp") -> list[Any]:
    rows = connection.execute(
        f"SELECT {columns} FROM tapeline.bars ORDER BY symbol, event_timestamp, created_timestamp"
    ).fetchall()
    connection.commit()
    return rows


@pytest.fixture(params=[0, 5_000], ids=["dense look-up", "sparse look-up"])
def both_lookups(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "_SPARSE_ROWS", request.param)


@pytest.mark.usefixtures("both_lookups")
def test_the_same_rows_again_change_nothing(connection: Connection) -> None:
    rows = bars(("A", 0, 1.0), ("A", 1, float("nan")), ("B", 0, 3.0))
    assert append_bars(connection, rows, "s") == AppendCounts(added=3)
    before = stored(connection, "bars::text")
    assert append_bars(connection, rows, "s") == AppendCounts(unchanged=3)
    assert append_bars(connection, rows.to_arrow(), "s") == AppendCounts(unchanged=3)
    assert stored(connection, "bars::text") == before


@pytest.mark.usefixtures("both_lookups")
def test_other_content_is_a_correction_available_from_its_arrival(connection: Connection) -> None:
    append_bars(connection, bars(("A", 0, 1.0), ("A", 1, 2.0)), "s", declared_lag_us=5 * MINUTE_US)
    counts = append_bars(connection, bars(("A", 0, 1.0), ("A", 1, 2.5), ("A", 2, 3.0)), "s", clock=LATER)
    assert counts == AppendCounts(added=1, corrections=1, unchanged=1)
    assert stored(connection) == [
        ("A", T0, 1.0, T0 + timedelta(minutes=5)),
        ("A", T0 + timedelta(days=1), 2.0, T0 + timedelta(days=1, minutes=5)),
        ("A", T0 + timedelta(days=1), 2.5, datetime(2013, 3, 10, 12, tzinfo=UTC)),
        ("A", T0 + timedelta(days=2), 3.0, T0 + timedelta(days=2)),
    ]


def test_a_correction_is_never_available_before_its_event_or_what_it_corrects(connection: Connection) -> None:
    early = ReplayClock(to_us("2000-01-01T00:00:00+00:00"))
    append_bars(connection, bars(("A", 0, 1.0)), "s", declared_lag_us=5 * MINUTE_US)
    append_bars(connection, bars(("A", 0, 2.0)), "s", clock=early)
    assert [row[3] for row in stored(connection)] == [T0 + timedelta(minutes=5)] * 2


def test_publication_decides_where_the_source_tells_it(connection: Connection) -> None:
    published = [T0 + timedelta(minutes=1), None]
    append_bars(
        connection,
        bars(("A", 0, 1.0), ("A", 1, 1.0), published_timestamp=published),
        "s",
        declared_lag_us=MINUTE_US * 2,
    )
    hour = T0 + timedelta(hours=1)
    # The first correction says when it was published; the second repeats its row's own publication, so it arrives.
    correction = bars(("A", 0, 2.0), ("A", 1, 2.0), published_timestamp=[hour, T0 + timedelta(days=1, minutes=2)])
    assert append_bars(connection, correction, "s", clock=LATER).corrections == 2
    assert [row[3] for row in stored(connection)] == [
        T0 + timedelta(minutes=1), hour, T0 + timedelta(days=1, minutes=2), datetime(2013, 3, 10, 12, tzinfo=UTC)
    ]  # fmt: skip


def test_a_retraction_is_a_tombstone_that_stands(connection: Connection) -> None:
    rows = bars(("A", 0, 1.0), ("A", 1, 2.0))
    append_bars(connection, rows, "s")
    busted = bars(("A", 1, 9.0), ("A", 5, 9.0), deleted=[True, True])
    assert append_bars(connection, busted, "s", clock=LATER) == AppendCounts(retractions=1, unmatched=1)
    assert append_bars(connection, busted, "s", clock=LATER) == AppendCounts(unmatched=2)
    assert append_bars(connection, rows, "s") == AppendCounts(unchanged=2)
    last = stored(connection, "close, deleted, available_timestamp")[-1]
    assert last == (2.0, True, datetime(2013, 3, 10, 12, tzinfo=UTC))
    assert append_bars(connection, bars(("A", 1, 2.5)), "s", clock=LATER) == AppendCounts(corrections=1)


def test_one_key_twice_in_a_batch(connection: Connection) -> None:
    assert append_bars(connection, bars(("A", 0, 1.0), ("A", 0, 1.0)), "s") == AppendCounts(added=1, unchanged=1)
    with pytest.raises(InvalidDataError, match="twice with different content: A at 2013-03-01"):
        append_bars(connection, bars(("A", 0, 1.0), ("A", 0, 1.5)), "s")


def test_sources_do_not_see_each_other(connection: Connection) -> None:
    append_bars(connection, bars(("A", 0, 1.0)), "s")
    assert append_bars(connection, bars(("A", 0, 2.0)), "t") == AppendCounts(added=1)


def test_trades_quotes_and_book_events(connection: Connection) -> None:
    moment = pl.Series("event_timestamp", [T0, T0, T0], pl.Datetime("us", "UTC"))
    base = pl.DataFrame({"symbol": ["ES"] * 3, "sequence": [0, 1, 2]}).with_columns(moment)
    trades = base.with_columns(price=pl.lit(1640.25), size=pl.lit(1.0))  # equal trades of one instant are no duplicates
    quotes = base.with_columns(bid_price=pl.lit(1.0), bid_size=1.0, ask_price=pl.lit(2.0), ask_size=1.0)
    book = base.with_columns(action=pl.lit("add"), side=1, price=1.0, size=2.0, order_id=pl.lit("7"))
    for append, rows in ((append_trades, trades), (append_quotes, quotes), (append_book_events, book)):
        assert append(connection, rows, "s") == AppendCounts(added=3)
        assert append(connection, rows, "s") == AppendCounts(unchanged=3)
    assert connection.execute("SELECT DISTINCT side FROM tapeline.trades").fetchall() == [(0,)]


def test_refusals_leave_nothing_behind(connection: Connection) -> None:
    naive = bars(("A", 0, 1.0)).with_columns(pl.col("event_timestamp").dt.replace_time_zone(None))
    with pytest.raises(NaiveTimestampError, match="column event_timestamp"):
        append_bars(connection, naive, "s")
    with pytest.raises(InvalidDataError, match="lack sequence"):
        append_trades(connection, bars(("A", 0, 1.0)), "s")
    assert stored(connection) == []
    connection.execute("SELECT 1")
    with pytest.raises(ParameterError, match="outside a transaction"):
        append_bars(connection, bars(("A", 0, 1.0)), "s")


def test_two_writers_of_one_source_take_turns(database: str) -> None:
    """However they interleave, of each key one row is the first and created_timestamp grows with availability."""
    rows = [bars(*[("A", day, float(writer)) for day in range(200)]) for writer in range(4)]

    def write(frame: pl.DataFrame) -> None:
        with psycopg.connect(database) as connection:
            append_bars(connection, frame, "s", clock=LATER)

    threads = [threading.Thread(target=write, args=(frame,)) for frame in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with psycopg.connect(database) as connection:
        counts = connection.execute(
            "SELECT count(*), count(DISTINCT created_timestamp), count(DISTINCT close) FROM tapeline.bars"
            " GROUP BY event_timestamp"
        ).fetchall()
        first = connection.execute(
            "SELECT DISTINCT ON (event_timestamp) available_timestamp - event_timestamp FROM tapeline.bars"
            " ORDER BY event_timestamp, created_timestamp"
        ).fetchall()
    assert counts == [(4, 4, 4)] * 200
    assert set(first) == {(timedelta(0),)}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.dictionaries(st.tuples(st.sampled_from("AB"), st.integers(0, 3)), st.sampled_from([1.0, 2.0, float("nan")])),
        min_size=1,
        max_size=6,
    )
)
def test_the_newest_row_of_a_key_is_what_was_sent_last(
    connection: Connection, batches: list[dict[tuple[str, int], float]]
) -> None:
    connection.execute("TRUNCATE tapeline.bars")
    connection.commit()
    model: dict[tuple[str, datetime], list[str]] = {}
    for batch in batches:
        if batch:
            append_rows(connection, "bars", bars(*[(s, d, c) for (s, d), c in batch.items()]), "s", clock=LATER)
        for (symbol, day), close in batch.items():
            versions = model.setdefault((symbol, T0 + timedelta(days=day)), [])
            if not versions or versions[-1] != str(close):
                versions.append(str(close))
    seen: dict[tuple[str, datetime], list[str]] = {}
    for symbol, event, close in stored(connection, "symbol, event_timestamp, close"):
        seen.setdefault((symbol, event), []).append(str(close))
    assert seen == model
