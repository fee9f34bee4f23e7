"""Files and frames through the whole path: what is stored, what is refused and why, what stops everything."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
from tapeline.core.errors import (
    ConfigurationError,
    EmptyDataError,
    InvalidDataError,
    NaiveTimestampError,
    OutOfOrderError,
    ParameterError,
    TapelineError,
    UnknownNameError,
)
from tapeline.core.timestamps import MINUTE_US, to_us
from tapeline.ingestion import Gap, Layout, NewInstruments, Source, ingest, inputs, list_refused

Connection = psycopg.Connection[Any]
HEADER = "symbol,date,open,high,low,close,volume\n"
GOOD = "AAPL,2013-02-27,10,12,9,11,100\nAAPL,2013-02-28,11,12,9,10,100\nAAPL,2013-03-01,10,12,9,11,100\n"


def csv(tmp_path: Path, text: str, name: str = "bars.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def count(connection: Connection, table: str = "bars") -> int:
    found = connection.execute(f"SELECT count(*) FROM tapeline.{table}").fetchone()
    connection.commit()
    return 0 if found is None else int(found[0])


def _parquet(frame: pl.DataFrame, path: Path) -> Path:
    frame.write_parquet(path / "bars.parquet")
    return path / "bars.parquet"


def _gzip(frame: pl.DataFrame, path: Path) -> Path:
    with gzip.open(path / "bars.csv.gz", "wb") as file:
        frame.write_csv(file)
    return path / "bars.csv.gz"


def _csv(frame: pl.DataFrame, path: Path) -> Path:
    frame.write_csv(path / "bars.csv")
    return path / "bars.csv"


FORMS: dict[str, Callable[[pl.DataFrame, Path], Any]] = {
    "csv": _csv,
    "csv.gz": _gzip,
    "parquet": _parquet,
    "polars": lambda frame, _: frame,
    "pandas": lambda frame, _: frame.to_pandas(),
    "arrow": lambda frame, _: frame.to_arrow(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows_a_batch", [2, 100_000])
def test_every_form_gives_the_same_table(
    connection: Connection,
    daily: Source,
    tmp_path: Path,
    form: str,
    rows_a_batch: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inputs, "BATCH_ROWS", rows_a_batch)
    monkeypatch.setattr(inputs, "BLOCK_BYTES", max(64, 32 * rows_a_batch))
    frame = pl.read_csv((HEADER + GOOD).encode(), try_parse_dates=True).rename({"symbol": "Ticker", "close": "Last"})
    data = FORMS[form](frame, tmp_path)
    layout = Layout(columns={"Ticker": "symbol", "Last": "close"})
    report = ingest(connection, data, "daily", layout=layout)
    assert (report.rows_added, report.quarantined, report.gaps) == (3, 0, [])
    rows = connection.execute(
        "SELECT symbol, start_timestamp, event_timestamp, available_timestamp, open, high, low, close, volume"
        " FROM tapeline.bars ORDER BY event_timestamp"
    ).fetchall()
    end = datetime(2013, 2, 27, 21, tzinfo=UTC)
    quarter = timedelta(minutes=15)
    assert rows[0] == ("AAPL", end - timedelta(hours=6.5), end, end + quarter, 10.0, 12.0, 9.0, 11.0, 100.0)
    assert len(rows) == 3
    connection.commit()
    assert ingest(connection, data, daily, layout=layout).unchanged == 3


# A bad row between good ones, and the rule that it breaks.
BAD = [
    ("AAPL,2013-02-28,11,8,9,10,100", "high_below_low", "high 8.0 is below low 9.0"),
    ("AAPL,2013-02-28,11,10.5,9,10,100", "high_below_open_close", "high 10.5 is below open 11.0 or close 10.0"),
    ("AAPL,2013-02-28,11,12,10.5,10,100", "low_above_open_close", "low 10.5 is above open 11.0 or close 10.0"),
    ("AAPL,2013-02-28,0,12,9,10,100", "price_range", "open is 0.0"),
    ("AAPL,2013-02-28,11,inf,9,10,100", "price_range", "high is inf"),
    ("AAPL,2013-02-28,11,12,9,nan,100", "price_range", "close is NaN"),
    ("AAPL,2013-02-28,11,12,9,10,-1", "size_range", "volume is -1.0"),
    ("AAPL,2013-02-28,11,12,,10,100", "missing_value", "low is missing"),
    (",2013-02-28,11,12,9,10,100", "missing_value", "symbol is missing"),
    ("AAPL,2013-02-28,eleven,12,9,10,100", "unreadable_value", "open cannot be read: eleven"),
    ("AAPL,2013-02-30,11,12,9,10,100", "unreadable_value", "date cannot be read: 2013-02-30"),
    ("AAPL,2013-02-23,11,12,9,10,100", "not_a_session", "2013-02-23 is no session of XNYS"),
    ("AAPL,2013-02-26,11,12,9,10,100", "time_goes_backwards", "is before the 2013-02-27 21:00"),
    ("AAPL,1999-06-01,11,12,9,10,100", "outside_validity", "AAPL is not listed at 1999-06-01"),
    ("AAPL,2013-02-27,11,12,9,10.5,100", "conflicting_duplicate", "same key and other content"),
    ("AAPL,2013-02-28,11,12,9", "malformed_line", "the line has 5 columns, the header 7"),
]


@pytest.mark.parametrize(("line", "rule", "words"), BAD, ids=[rule for _, rule, _ in BAD])
@pytest.mark.parametrize("block", [48, 4 << 20], ids=["small batches", "one batch"])
def test_a_bad_row_is_refused_by_name_and_the_others_stay(
    connection: Connection,
    daily: Source,
    tmp_path: Path,
    line: str,
    rule: str,
    words: str,
    block: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inputs, "BLOCK_BYTES", block)
    first, *rest = GOOD.splitlines()
    path = csv(tmp_path, HEADER + "\n".join([first, line, *rest]) + "\n")
    report = ingest(connection, path, daily)
    refused = list_refused(connection)
    # Where all is seen at once neither of two contradicting rows is believed; else the first is stored already.
    both = rule == "conflicting_duplicate" and block > 48
    assert report.faults == {rule: 2 if both else 1}
    assert report.rows_read == 4
    assert count(connection) == report.rows_added == (2 if both else 3)
    assert refused[-1].rule == rule
    assert words in refused[-1].reason
    assert refused[-1].location == f"{path}, row 2"
    assert ingest(connection, path, daily).rows_added == 0
    assert len(list_refused(connection)) == len(refused)
    with pytest.raises(InvalidDataError, match=rf"bars\.csv, row {1 if both else 2}\)"):
        ingest(connection, path, daily, strict=True)


def test_exact_repetitions_are_no_fault(connection: Connection, daily: Source, tmp_path: Path) -> None:
    first = GOOD.splitlines()[0]
    report = ingest(connection, csv(tmp_path, HEADER + first + "\n" + GOOD), daily)
    assert (report.rows_added, report.unchanged, report.quarantined) == (3, 1, 0)


BARS = HEADER + GOOD
STOPS: list[tuple[str, str, dict[str, Any], type[TapelineError], str]] = [
    ("empty file", "", {}, EmptyDataError, "the file is empty"),
    ("no rows", HEADER, {}, EmptyDataError, "there are no rows"),
    (
        "missing column",
        BARS.replace("close", "cloze"),
        {},
        InvalidDataError,
        "no column for close .*--map 'cloze=close'",
    ),
    ("no time", BARS.replace("date", "day"), {}, InvalidDataError, "no column for date"),
    ("unknown symbol", BARS.replace("AAPL", "APPL"), {}, UnknownNameError, "unknown symbol 'APPL'.*Did you mean AAPL"),
    ("unknown column", BARS, {"layout": Layout(columns={"clos": "close"})}, UnknownNameError, "Did you mean close"),
    ("unknown target", BARS, {"layout": Layout(columns={"close": "closing"})}, UnknownNameError, "Did you mean close"),
    (
        "adjusted price",
        BARS.replace("close", "Adj Close"),
        {"layout": Layout(columns={"Adj Close": "close"})},
        InvalidDataError,
        "look ahead",
    ),
    ("adjusted target", BARS, {"layout": Layout(columns={"close": "adj_close"})}, InvalidDataError, "look ahead"),
    (
        "naive times",
        BARS.replace("date", "event_timestamp").replace("2013-02-27", "2013-02-27 21:00"),
        {"layout": Layout(bar_width_us=MINUTE_US)},
        NaiveTimestampError,
        r"2013-02-27 21:00 has no time zone .*row 1, column event_timestamp",
    ),
    ("descending", HEADER + "\n".join(reversed(GOOD.splitlines())) + "\n", {}, OutOfOrderError, "Sort the data"),
    ("unknown source", BARS, {"source": "dayly"}, UnknownNameError, "Did you mean daily"),
    ("no source", BARS, {"source": None}, ParameterError, "no source is named"),
    ("other lag", BARS, {"source": Source("daily", "bars", 1, "XNYS")}, ConfigurationError, "daily-2"),
    ("no calendar", BARS, {"source": Source("new", "bars")}, ParameterError, "no calendar"),
    ("unknown calendar", BARS, {"source": Source("new", "bars", 0, "XNYC")}, UnknownNameError, "Did you mean XNYS"),
]


@pytest.mark.parametrize(("text", "options", "error", "words"), [case[1:] for case in STOPS], ids=[c[0] for c in STOPS])
def test_what_is_wrong_with_a_whole_file_stops_before_anything_is_written(
    connection: Connection,
    daily: Source,
    tmp_path: Path,
    text: str,
    options: dict[str, Any],
    error: type[TapelineError],
    words: str,
) -> None:
    with pytest.raises(error, match=f"(?s){words}"):
        ingest(connection, csv(tmp_path, text), **{"source": daily, **options})
    for table, rows in (("bars", 0), ("quarantine", 0), ("sources", 1), ("instruments", 2)):
        assert count(connection, table) == rows


def test_an_unknown_symbol_late_in_a_file_stops_it_too(
    connection: Connection, daily: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 48)
    with pytest.raises(UnknownNameError, match=r"unknown symbol 'IBN'.*IBM"):
        ingest(connection, csv(tmp_path, BARS + "IBN,2013-03-01,1,1,1,1,1\n"), daily)
    assert count(connection) == 0


def test_new_instruments_are_declared_on_demand(connection: Connection, daily: Source, tmp_path: Path) -> None:
    path = csv(tmp_path, BARS.replace("AAPL", "ORCL"))
    report = ingest(connection, path, daily, new_instruments=NewInstruments(venue="XNYS"))
    assert (report.rows_added, report.instruments_added) == (3, 1)
    assert ingest(connection, path, daily).unchanged == 3


def test_files_of_other_kinds_are_refused(connection: Connection, daily: Source, tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match="there is no file"):
        ingest(connection, tmp_path / "none.csv", daily)
    with pytest.raises(ParameterError, match="Name it"):
        ingest(connection, csv(tmp_path, "x", "bars.xlsx"), daily)
    with pytest.raises(InvalidDataError, match="no readable Parquet file"):
        ingest(connection, csv(tmp_path, "x", "bars.parquet"), daily)
    with pytest.raises(InvalidDataError, match="no readable CSV file"):
        ingest(connection, csv(tmp_path, "x", "bars.csv.gz"), daily)
    with pytest.raises(ParameterError, match="cannot ingest a list"):
        ingest(connection, [], daily)


def test_gaps_are_reported_once_and_not_where_rows_are_stored(
    connection: Connection, daily: Source, tmp_path: Path
) -> None:
    """2013-02-18 is a holiday; 2013-02-19 to 21 are missing, then arrive, then a day between two files is missing."""
    days = ["2013-02-14", "2013-02-15", "2013-02-22", "2013-02-25"]

    def send(dates: list[str]) -> list[Gap]:
        rows = "".join(f"AAPL,{day},10,12,9,11,100\n" for day in dates)
        return ingest(connection, csv(tmp_path, HEADER + rows), daily).gaps

    gap = Gap("AAPL", date(2013, 2, 19), date(2013, 2, 21), 3)
    assert send(days) == [gap]
    assert send(["2013-02-19", "2013-02-20", "2013-02-21"]) == []
    assert send(days) == []
    assert send(["2013-02-27"]) == [Gap("AAPL", date(2013, 2, 26), date(2013, 2, 26), 1)]


def test_trades_without_a_number_get_their_place(connection: Connection, ticks: Source, tmp_path: Path) -> None:
    """Per symbol, bad rows counted, so that a repaired row finds its place free."""
    lines = [
        "AAPL,2013-03-01T15:00:00Z,10,1,buy",
        "IBM,2013-03-01 15:00:00+00:00,20,1,sell",
        "AAPL,2013-03-01T15:00:00Z,-1,1,",
        "AAPL,2013-03-01T10:00:00.000001-05:00,11,1,B",
    ]
    path = csv(tmp_path, "symbol,event_timestamp,price,size,side\n" + "\n".join(lines) + "\n")
    report = ingest(connection, path, ticks)
    assert (report.rows_added, report.quarantined) == (3, 1)
    rows = connection.execute(
        "SELECT symbol, sequence, price, side, event_timestamp FROM tapeline.trades ORDER BY 1, 2"
    ).fetchall()
    noon = datetime(2013, 3, 1, 15, tzinfo=UTC)
    assert rows == [
        ("AAPL", 0, 10.0, 1, noon),
        ("AAPL", 2, 11.0, 1, noon + timedelta(microseconds=1)),
        ("IBM", 0, 20.0, -1, noon),
    ]


def test_local_times_that_summer_time_skips_or_repeats(connection: Connection, ticks: Source, tmp_path: Path) -> None:
    lines = ["2013-03-10 01:59:59", "2013-03-10 02:30:00", "2013-11-03 00:30:00", "2013-11-03 01:30:00"]
    path = csv(tmp_path, "time,price,size\n" + "".join(f"{line},10,1\n" for line in lines))
    layout = Layout(columns={"time": "event_timestamp"}, timezone="America/Chicago", symbol="AAPL")
    report = ingest(connection, path, ticks, layout=layout)
    assert report.faults == {"nonexistent_time": 1, "ambiguous_time": 1}
    late = Layout(**{**{name: getattr(layout, name) for name in layout.__slots__}, "ambiguous": "latest"})
    assert ingest(connection, path, ticks, layout=late).rows_added == 1
    found = connection.execute("SELECT max(event_timestamp) FROM tapeline.trades").fetchone()
    assert found == (datetime(2013, 11, 3, 7, 30, tzinfo=UTC),)


@pytest.mark.parametrize(
    ("form", "factor"), [("epoch_s", 1), ("epoch_ms", 10**3), ("epoch_us", 10**6), ("epoch_ns", 10**9)]
)
def test_epochs(connection: Connection, ticks: Source, tmp_path: Path, form: str, factor: int) -> None:
    moment = 1_362_150_000
    path = csv(tmp_path, f"event_timestamp,price,size\n{moment * factor},10,1\n")
    ingest(connection, path, ticks, layout=Layout(time_format=form, symbol="AAPL"))
    found = connection.execute("SELECT extract(epoch FROM event_timestamp)::bigint FROM tapeline.trades").fetchone()
    assert found == (moment,)


def test_intraday_bars_lie_in_a_session(connection: Connection, daily: Source, tmp_path: Path) -> None:
    minute = Source("minutes", "bars", 0, "XNYS")
    ends = ["09:31", "09:30", "16:00", "16:01"]
    rows = "".join(f"AAPL,2013-03-0{1 + (i > 0) * 3} {end},10,12,9,11,1\n" for i, end in enumerate(ends))
    path = csv(tmp_path, "symbol,event_timestamp,open,high,low,close,volume\n" + rows)
    report = ingest(connection, path, minute, layout=Layout(timezone="America/New_York", bar_width_us=MINUTE_US))
    assert report.rows_added == 2
    assert report.faults == {"not_a_session": 2}


def test_publication_and_retraction_columns(connection: Connection, ticks: Source, tmp_path: Path) -> None:
    head = "symbol,event_timestamp,sequence,price,size,published_timestamp,deleted\n"
    first = "AAPL,2013-03-01T15:00:00Z,7,10,1,2013-03-01T15:00:05Z,\n"
    early = "AAPL,2013-03-01T15:00:01Z,8,10,1,2013-03-01T14:00:00Z,\n"
    report = ingest(connection, csv(tmp_path, head + first + early), ticks)
    assert (report.rows_added, report.faults) == (1, {"published_before_event": 1})
    busted = csv(tmp_path, head + "AAPL,2013-03-01T15:00:00Z,7,,,2013-03-01T16:00:00Z,true\n", "busted.csv")
    assert ingest(connection, busted, ticks).retractions == 1
    rows = connection.execute(
        "SELECT available_timestamp, deleted FROM tapeline.trades ORDER BY created_timestamp"
    ).fetchall()
    assert rows == [
        (datetime(2013, 3, 1, 15, 0, 5, tzinfo=UTC), False),
        (datetime(2013, 3, 1, 16, tzinfo=UTC), True),
    ]


def test_since_and_until_keep_both_ends(connection: Connection, daily: Source, tmp_path: Path) -> None:
    moment = to_us("2013-02-28T21:00:00+00:00")
    report = ingest(connection, csv(tmp_path, BARS), daily, since_us=moment, until_us=moment)
    assert (report.rows_added, report.skipped) == (1, 2)


def test_a_connection_inside_a_transaction_is_refused(connection: Connection, daily: Source) -> None:
    connection.execute("SELECT 1")
    with pytest.raises(ParameterError, match="outside a transaction"):
        ingest(connection, pl.DataFrame(), daily)
