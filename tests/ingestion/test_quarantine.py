"""Refused rows: listed with their content, replayed as they came or repaired."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tapeline.core.clock import ReplayClock
from tapeline.core.errors import ParameterError, UnknownNameError
from tapeline.core.timestamps import MINUTE_US, to_us
from tapeline.ingestion import Layout, Source, ingest, list_refused, replay
from tapeline.ingestion.quarantine import parse_edits

Connection = psycopg.Connection[Any]
ARRIVAL = datetime(2013, 4, 1, tzinfo=UTC)
CLOCK = ReplayClock(to_us(ARRIVAL))
CLOSE = datetime(2013, 2, 28, 21, tzinfo=UTC)


@pytest.fixture
def refused(connection: Connection, daily: Source, tmp_path: Path) -> int:
    path = tmp_path / "bars.csv"
    path.write_text(
        "Ticker,date,open,high,low,close,volume\nAAPL,2013-02-27,10,12,9,11,1\nAAPL,2013-02-28,11,8,9,10,1\n"
        "AAPL,2013-03-01,10,12,9,11,1\n"
    )
    ingest(connection, path, daily, layout=Layout(columns={"Ticker": "symbol"}))
    (row,) = list_refused(connection)
    assert {key: row.content[key] for key in ("symbol", "date", "high")} == {
        "symbol": "AAPL", "date": "2013-02-28", "high": "8",
    }  # fmt: skip
    return row.id


def bars(connection: Connection) -> list[Any]:
    rows = connection.execute(
        "SELECT event_timestamp, high, available_timestamp FROM tapeline.bars ORDER BY 1"
    ).fetchall()
    connection.commit()
    return rows


def test_a_row_that_is_still_bad_stays(connection: Connection, refused: int) -> None:
    report = replay(connection, clock=CLOCK)
    assert (report.accepted, report.refused) == (0, {refused: "high 8.0 is below low 9.0"})
    assert replay(connection, [refused], edits={refused: {"high": "7"}}, clock=CLOCK).refused != {}
    assert [row.id for row in list_refused(connection)] == [refused]
    assert len(bars(connection)) == 2


def test_a_repaired_row_is_available_from_its_repair_on(connection: Connection, refused: int) -> None:
    report = replay(connection, [refused], edits={refused: {"high": "12"}}, clock=CLOCK)
    assert (report.accepted, report.added, report.refused) == (1, 1, {})
    assert bars(connection)[1] == (CLOSE, 12.0, ARRIVAL)
    assert list_refused(connection) == []
    assert list_refused(connection, replayed=True)[0].replayed_timestamp is not None
    assert replay(connection, clock=CLOCK).accepted == 0
    with pytest.raises(UnknownNameError, match="row waiting in quarantine"):
        replay(connection, [refused])


def test_a_repair_may_say_when_it_was_published(connection: Connection, refused: int) -> None:
    edit = {"high": "12", "published_timestamp": "2013-02-28T22:00:00Z"}
    replay(connection, [refused], edits={refused: edit}, clock=CLOCK)
    assert bars(connection)[1] == (CLOSE, 12.0, CLOSE + timedelta(hours=1))


def test_a_row_that_was_right_all_along_is_available_as_if_never_refused(
    connection: Connection, daily: Source, tmp_path: Path
) -> None:
    """The instrument master lacked the time of the listing; once it has it, the row is good as it came."""
    connection.execute("UPDATE tapeline.instruments SET valid_from = '2013-03-01' WHERE symbol = 'AAPL'")
    connection.commit()
    path = tmp_path / "bars.csv"
    path.write_text("symbol,date,open,high,low,close,volume\nAAPL,2013-02-28,11,12,9,10,1\n")
    assert ingest(connection, path, daily).faults == {"outside_validity": 1}
    connection.execute("UPDATE tapeline.instruments SET valid_from = '2000-01-01' WHERE symbol = 'AAPL'")
    connection.commit()
    assert replay(connection, clock=CLOCK).accepted == 1
    assert bars(connection) == [(CLOSE, 12.0, CLOSE + timedelta(minutes=15))]


def test_values_are_read_again_as_their_file_was(connection: Connection, ticks: Source, tmp_path: Path) -> None:
    """Zone, symbol and the number in the file go with a refused trade."""
    path = tmp_path / "trades.csv"
    lines = [f"2013-03-01 09:0{i},{price},1\n" for i, price in enumerate((10, -1, 12))]
    path.write_text("event_timestamp,price,size\n" + "".join(lines))
    ingest(connection, path, ticks, layout=Layout(timezone="America/Chicago", symbol="AAPL"))
    (row,) = list_refused(connection, source="ticks")
    replay(connection, edits={row.id: {"price": "11"}}, clock=CLOCK)
    rows = connection.execute("SELECT event_timestamp, sequence, price FROM tapeline.trades ORDER BY 1").fetchall()
    start = datetime(2013, 3, 1, 15, tzinfo=UTC)
    assert rows == [(start + timedelta(minutes=i), i, 10.0 + i) for i in range(3)]


def test_typed_values_read_back(connection: Connection, tmp_path: Path, daily: Source) -> None:
    import polars as pl

    minutes = Source("minutes", "bars", 0, None)
    moment = datetime(2013, 3, 1, 15, 0, 0, 123_456, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "symbol": ["AAPL"],
            "event_timestamp": [moment],
            "open": [0.1 + 0.2],
            "high": [0.1],
            "low": [0.1],
            "close": [0.1],
        }
    )
    ingest(connection, frame, minutes, layout=Layout(bar_width_us=MINUTE_US))
    (row,) = list_refused(connection)
    replay(connection, edits={row.id: {"high": "1"}}, clock=CLOCK)
    stored = connection.execute("SELECT event_timestamp, open FROM tapeline.bars").fetchone()
    assert stored == (moment, 0.1 + 0.2)


def test_edits_from_the_listing(connection: Connection, refused: int) -> None:
    listing = json.loads(json.dumps([row.as_dict() for row in list_refused(connection)]))
    assert replay(connection, edits=parse_edits(listing), clock=CLOCK).accepted == 0
    listing[0]["content"]["high"] = 12
    report = replay(connection, edits=parse_edits(listing), clock=CLOCK)
    assert report.accepted == 1
    with pytest.raises(ParameterError, match="an id and a content"):
        parse_edits([{"id": "x"}])


def test_an_edit_of_a_column_that_is_not_there(connection: Connection, refused: int) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean high"):
        replay(connection, edits={refused: {"hihg": "12"}}, clock=CLOCK)
    with pytest.raises(UnknownNameError, match=f"Did you mean {refused}|Known: {refused}"):
        replay(connection, [refused + 1000])
