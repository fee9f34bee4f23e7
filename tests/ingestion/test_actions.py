"""Splits and cash dividends from a file to the feature: what is stored, from when on it counts, what is refused and why."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
from tapeline.compute import backfill
from tapeline.compute.sessions import session_times
from tapeline.core.clock import ReplayClock
from tapeline.core.errors import ConfigurationError, InvalidDataError, NaiveTimestampError, ParameterError
from tapeline.core.timestamps import DAY_US, from_us, to_us
from tapeline.features.request import FeatureRequest
from tapeline.features.view import FeatureViewSpec, SessionBars
from tapeline.ingestion import IngestReport, Instrument, Layout, Source, ingest, list_refused, replay
from tapeline.storage import raw
from tapeline.storage.reference import append_instruments

from tests.ingestion.conftest import LISTED

Connection = psycopg.Connection[Any]
ACTIONS = Source("actions", "actions")
HEADER = "symbol,ex_date,ratio,amount,currency,published_timestamp,sequence,deleted\n"
OPEN = datetime(2013, 2, 27, 14, 30, tzinfo=UTC)


def at(text: str) -> ReplayClock:
    return ReplayClock(to_us(f"{text}T00:00:00+00:00"))


CLOCK = at("2013-04-01")


def read(
    connection: Connection, tmp_path: Path, text: str, clock: ReplayClock = CLOCK, source: Source = ACTIONS
) -> IngestReport:
    path = tmp_path / "actions.csv"
    path.write_text(HEADER + text)
    return ingest(connection, path, source, clock=clock)


def stored(connection: Connection) -> list[tuple[Any, ...]]:
    rows = connection.execute(
        "SELECT symbol, kind, event_timestamp, sequence, available_timestamp, coalesce(ratio, amount), currency, source,"
        " deleted FROM tapeline.corporate_actions ORDER BY symbol, kind, event_timestamp, sequence, created_timestamp"
    ).fetchall()
    connection.commit()
    return rows


def put_bars(connection: Connection, source: Source, closes: Sequence[float], symbol: str = "AAPL") -> None:
    """Bars of the sessions from 2013-02-25 on."""
    days = pl.date_range(date(2013, 2, 25), date(2013, 3, 29), eager=True)
    days = days.filter(days.dt.weekday() <= 5)[: len(closes)]
    price = pl.Series(closes, dtype=pl.Float64)
    prices = {"open": price, "high": price, "low": price, "close": price}
    ingest(connection, pl.DataFrame({"date": days, **prices, "volume": price}), source, layout=Layout(symbol=symbol))


def test_each_action_takes_effect_with_its_session_and_counts_from_its_announcement(
    connection: Connection, daily: Source, tmp_path: Path
) -> None:
    """In any order; without an announcement from the ex-date on; announced after it, from then on."""
    text = (
        "IBM,2013-02-27,,0.85,,2013-01-29T21:00:00Z,,\n"
        "AAPL,2013-02-27,2,,,2013-01-23T21:30:00Z,,\n"
        "AAPL,2013-02-08,,2.65,usd,,,\n"
        "AAPL,2013-02-27,,0.5,USD,2013-02-28T12:00:00Z,,\n"
        "AAPL,2013-02-27,,1.5,USD,2013-02-28T12:00:00Z,1,\n"
    )
    report = read(connection, tmp_path, text)
    assert (report.rows_read, report.rows_added, report.quarantined, report.kind) == (5, 5, 0, "actions")
    early, late = datetime(2013, 2, 8, 14, 30, tzinfo=UTC), datetime(2013, 2, 28, 12, tzinfo=UTC)
    expected = [
        ("AAPL", "dividend", early, 0, early, 2.65, "USD", "actions", False),
        ("AAPL", "dividend", OPEN, 0, late, 0.5, "USD", "actions", False),
        ("AAPL", "dividend", OPEN, 1, late, 1.5, "USD", "actions", False),
        ("AAPL", "split", OPEN, 0, datetime(2013, 1, 23, 21, 30, tzinfo=UTC), 2.0, None, "actions", False),
        ("IBM", "dividend", OPEN, 0, datetime(2013, 1, 29, 21, tzinfo=UTC), 0.85, "USD", "actions", False),
    ]
    assert stored(connection) == expected
    again = read(connection, tmp_path, text, at("2013-05-01"))
    assert (again.rows_added, again.corrections, again.unchanged) == (0, 0, 5)
    assert stored(connection) == expected


def test_what_lies_ahead_counts_from_its_announcement_or_its_arrival(
    connection: Connection, daily: Source, tmp_path: Path
) -> None:
    """Also when it is corrected or withdrawn before it takes effect."""
    now_us = time.time_ns() // 1_000
    sessions = session_times("XNYS")
    ahead = [from_us(int(us)) for us in sessions.open_us[sessions.open_us > now_us + 20 * DAY_US][:2]]
    known, day, other = from_us(now_us - DAY_US), ahead[0].date(), ahead[1].date()
    clock = ReplayClock(now_us - 5)
    read(connection, tmp_path, f"AAPL,{day},,0.5,,{known.isoformat()},,\nIBM,{other},,0.6,,,,\n", clock)
    read(connection, tmp_path, f"AAPL,{day},,0.7,,,,\n", ReplayClock(now_us - 4))
    read(connection, tmp_path, f"IBM,{other},,0.6,,,,yes\n", ReplayClock(now_us - 3))
    found = [(row[0], row[2], row[4], row[5], row[8]) for row in stored(connection)]
    assert found == [
        ("AAPL", ahead[0], known, 0.5, False),
        ("AAPL", ahead[0], from_us(now_us - 4), 0.7, False),
        ("IBM", ahead[1], from_us(now_us - 5), 0.6, False),
        ("IBM", ahead[1], from_us(now_us - 3), 0.6, True),
    ]


@pytest.mark.parametrize("sparse_rows", [0, 5_000])
def test_a_correction_and_a_retraction_count_from_their_publication_or_arrival(
    connection: Connection, daily: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sparse_rows: int
) -> None:
    monkeypatch.setattr(raw, "_SPARSE_ROWS", sparse_rows)
    read(connection, tmp_path, "AAPL,2013-02-27,,0.5,,2013-02-01T00:00:00Z,,\n")
    published = "2013-02-20T12:00:00Z"
    assert read(connection, tmp_path, f"AAPL,2013-02-27,,0.6,,{published},,\n").corrections == 1
    report = read(connection, tmp_path, "AAPL,2013-02-27,,0.6,,,,true\nIBM,2013-02-27,,0.6,,,,true\n")
    assert (report.retractions, report.unmatched, report.quarantined) == (1, 1, 0)
    assert read(connection, tmp_path, "AAPL,2013-02-27,,0.6,,,,\n").unchanged == 1  # what was withdrawn stays so
    assert [(row[4], row[5], row[8]) for row in stored(connection)] == [
        (datetime(2013, 2, 1, tzinfo=UTC), 0.5, False),
        (datetime(2013, 2, 20, 12, tzinfo=UTC), 0.6, False),
        (datetime(2013, 4, 1, tzinfo=UTC), 0.6, True),
    ]


# A bad row among good ones, and the rule that it breaks. AAPL closes at 100 on the 26th.
BAD = [
    ("ORCL,2013-02-27,2,,,,,", "unknown_symbol", "ORCL is not in the instrument master"),
    (",2013-02-27,2,,,,,", "missing_value", "symbol is missing"),
    ("AAPL,,2,,,,,", "missing_value", "ex_date is missing"),
    ("AAPL,2013-02-23,2,,,,,", "not_a_session", "2013-02-23 is no session of XNYS"),
    ("AAPL,1999-12-31,2,,,,,", "outside_validity", "AAPL is not listed at 1999-12-31 14:30:00"),
    ("AAPL,2013-02-27,0,,,,,", "ratio_range", "ratio is 0.0; it is finite, positive"),
    ("AAPL,2013-02-27,-2,,,,,", "ratio_range", "ratio is -2.0"),
    ("AAPL,2013-02-27,inf,,,,,", "ratio_range", "ratio is inf"),
    ("AAPL,2013-02-27,,0,,,,", "amount_range", "amount is 0.0; it is finite, positive"),
    ("AAPL,2013-02-27,,nan,,,,", "amount_range", "amount is NaN"),
    ("AAPL,2013-02-27,2:1,,,,,", "unreadable_value", "ratio cannot be read: 2:1"),
    ("AAPL,2013-02-27,,,,,,", "action_kind", "it needs a ratio"),
    ("AAPL,2013-02-27,2,0.5,,,,", "action_kind", "and not both"),
    ("AAPL,2013-02-27,,0.5,EUR,,,", "other_currency", "it is paid in EUR, but the prices of AAPL are in USD"),
    ("AAPL,2013-02-27,,0.5,,2199-01-01T00:00:00Z,,", "time_range", "published 2199-01-01"),
    ("AAPL,2013-02-27,,100,,,,", "dividend_not_below_close", "100.0 is not below the close before it, 100.0 in daily"),
    ("AAPL,2013-02-27,,0.5,,,,\nAAPL,2013-02-27,,0.6,,,,", "conflicting_duplicate", "a column sequence tells apart"),
]


def test_bad_rows_wait_with_their_reason_and_good_ones_are_stored(
    connection: Connection, daily: Source, tmp_path: Path
) -> None:
    put_bars(connection, daily, [50.0, 100.0])
    for text, rule, reason in BAD:
        report = read(connection, tmp_path, f"IBM,2013-03-08,,0.5,,,,\n{text}\nAAPL,2013-03-08,,0.5,,,,\n")
        lines = text.count("\n") + 1
        assert (dict(report.faults), report.rows_read) == ({rule: lines}, lines + 2), text
        assert reason in list_refused(connection)[-1].reason, text
    assert [(row[0], row[5]) for row in stored(connection)] == [("AAPL", 0.5), ("IBM", 0.5)]
    first = f"IBM,2013-03-15,,0.5,,,,\n{BAD[0][0]}\n"
    (tmp_path / "actions.csv").write_text(HEADER + first)
    with pytest.raises(InvalidDataError, match=r"ORCL is not in the instrument master \[unknown_symbol\].*row 2"):
        ingest(connection, tmp_path / "actions.csv", ACTIONS, strict=True)
    assert len(stored(connection)) == 2


def test_a_dividend_is_held_against_the_close_on_the_basis_of_its_day(
    connection: Connection, daily: Source, ticks: Source, tmp_path: Path
) -> None:
    """After the splits and dividends since, of the same file or stored before; the lowest of all sources' prices counts."""
    put_bars(connection, daily, [50.0, 100.0])
    split, special = "AAPL,2013-02-27,2,,,,,\n", "AAPL,2013-02-27,,30,,,,\n"
    dividend = "AAPL,2013-02-28,,{},,,,\n"
    assert read(connection, tmp_path, split + special + dividend.format(20)).quarantined == 1
    [reason] = [row.reason for row in list_refused(connection)]
    assert reason == "a dividend of 20.0 is not below the close before it, 20.0 in daily"
    assert read(connection, tmp_path, dividend.format(19.5)).rows_added == 1
    trade = {"event_timestamp": [OPEN - timedelta(minutes=1), OPEN], "price": [88.0, 1.0], "size": [1.0, 1.0]}
    ingest(connection, pl.DataFrame(trade), ticks, layout=Layout(symbol="AAPL"))
    report = read(connection, tmp_path, "AAPL,2013-02-27,,20,,,1,\nAAPL,2013-02-27,,13.5,,,2,\n")
    assert report.faults == {"dividend_not_below_close": 1}  # 88/2 − 30 = 14 is left
    # A withdrawn bar is no price, and a corrected one counts as corrected.
    withdrawn = pl.DataFrame({"symbol": ["AAPL"], "date": ["2013-02-26"], "deleted": ["true"]})
    prices = {name: pl.lit(None, pl.Float64) for name in ("open", "high", "low", "close")}
    ingest(connection, withdrawn.with_columns(**prices), daily)
    assert read(connection, tmp_path, "AAPL,2013-02-26,,60,,,,\n").quarantined == 1
    put_bars(connection, daily, [70.0])
    assert read(connection, tmp_path, "AAPL,2013-02-26,,60,,,,\n").rows_added == 1


def test_another_source_that_says_otherwise_is_refused(connection: Connection, daily: Source, tmp_path: Path) -> None:
    """Until the first withdraws; where they agree, there is nothing to add."""
    other = Source("other", "actions")
    read(connection, tmp_path, "AAPL,2013-02-27,2,,,,,\n")
    assert read(connection, tmp_path, "AAPL,2013-02-27,2,,,,,\n", source=other).unchanged == 1
    assert read(connection, tmp_path, "AAPL,2013-02-27,3,,,,,\n", source=other).faults == {"contradicts_source": 1}
    assert list_refused(connection)[0].reason == "actions says otherwise of this split: 2.0"
    read(connection, tmp_path, "AAPL,2013-02-27,2,,,,,true\n", source=other)
    assert replay(connection, clock=CLOCK).accepted == 1
    assert [(row[5], row[7], row[8]) for row in stored(connection)] == [
        (2.0, "actions", False),
        (2.0, "other", True),
        (3.0, "other", False),
    ]


def test_quarantine_lets_go_what_is_right_now(connection: Connection, daily: Source, tmp_path: Path) -> None:
    """As it came, a row counts as if it had never been refused; an edited one from its repair on."""
    put_bars(connection, daily, [50.0, 100.0])
    read(connection, tmp_path, "ORCL,2013-02-27,,0.1,,2013-02-01T00:00:00Z,,\nAAPL,2013-02-27,,130,,,,\n")
    append_instruments(connection, [Instrument("ORCL", "XNYS", "XNYS", "equity", "USD", 0.01, LISTED, LISTED)])
    rows = {row.content["symbol"]: row.id for row in list_refused(connection)}
    report = replay(connection, edits={rows["AAPL"]: {"amount": "1.3"}}, clock=CLOCK)
    assert (report.accepted, report.added, report.refused) == (2, 2, {})
    assert [(row[0], row[4], row[5]) for row in stored(connection)] == [
        ("AAPL", datetime(2013, 4, 1, tzinfo=UTC), 1.3),
        ("ORCL", datetime(2013, 2, 1, tzinfo=UTC), 0.1),
    ]


def test_columns_and_dates_as_vendors_write_them(connection: Connection, daily: Source) -> None:
    """A day without a time is over before its announcement counts; each market's instrument has its own sessions."""
    append_instruments(connection, [Instrument("SAP", "XETR", "XETR", "equity", "EUR", 0.01, LISTED, LISTED)])
    frame = pl.DataFrame(
        {"Ticker": ["AAPL", "SAP"], "Ex-Date": ["02/27/2013"] * 2, "Declared": ["01/23/2013"] * 2, "Cash": [0.5, 0.75]}
    )
    mapping = {"Ticker": "symbol", "Ex-Date": "ex_date", "Declared": "published_date", "Cash": "amount"}
    with pytest.raises(NaiveTimestampError, match="01/23/2013"):
        ingest(connection, frame, ACTIONS, layout=Layout(columns=mapping, date_format="%m/%d/%Y"))
    layout = Layout(columns=mapping, date_format="%m/%d/%Y", timezone="America/New_York")
    assert ingest(connection, frame, ACTIONS, layout=layout).rows_added == 2
    midnight = datetime(2013, 1, 24, 5, tzinfo=UTC)
    assert [(row[2], row[4], row[6]) for row in stored(connection)] == [
        (OPEN, midnight, "USD"),
        (datetime(2013, 2, 27, 8, tzinfo=UTC), midnight, "EUR"),
    ]


def test_an_effective_time_must_be_an_open(connection: Connection, daily: Source) -> None:
    times = [OPEN, OPEN + timedelta(minutes=1)]
    frame = pl.DataFrame({"symbol": ["AAPL"] * 2, "event_timestamp": times, "amount": [0.5] * 2})
    assert ingest(connection, frame, ACTIONS).faults == {"not_a_session": 1}
    assert list_refused(connection)[0].reason.endswith("is not the open of a session of XNYS")
    assert [row[2] for row in stored(connection)] == [OPEN]


def test_what_is_wrong_with_the_whole_file(connection: Connection, daily: Source) -> None:
    row = {"symbol": ["AAPL"], "ex_date": ["2013-02-27"]}
    with pytest.raises(InvalidDataError, match=r"no column for ratio \(of splits\) or amount"):
        ingest(connection, pl.DataFrame(row), ACTIONS)
    with pytest.raises(InvalidDataError, match="no column for ex_date"):
        ingest(connection, pl.DataFrame({"symbol": ["AAPL"], "ratio": [2.0]}), ACTIONS)
    with pytest.raises(InvalidDataError, match="'Adj Amount' holds adjusted prices"):
        ingest(
            connection,
            pl.DataFrame({**row, "Adj Amount": [1.0]}),
            ACTIONS,
            layout=Layout(columns={"Adj Amount": "amount"}),
        )
    with pytest.raises(ConfigurationError, match="kind is bars, not actions"):
        ingest(connection, pl.DataFrame({**row, "ratio": [2.0]}), Source("daily", "actions"))


VIEW = FeatureViewSpec(
    "paid_out", 1, SessionBars("daily", "XNYS"), (FeatureRequest.of("RETURN"),), ttl_us=7 * DAY_US, dividends=True
)


def returns(connection: Connection, known_by: datetime) -> list[float]:
    """What a moment knew of each session's return after the first, rounded."""
    rows = connection.execute(
        f'SELECT DISTINCT ON (event_timestamp) return_1 FROM features."{VIEW.table}" WHERE available_timestamp <= %s'
        " ORDER BY event_timestamp, available_timestamp DESC, created_timestamp DESC",
        (known_by,),
    ).fetchall()
    connection.commit()
    return [round(value, 12) for (value,) in rows[1:]]


@pytest.mark.parametrize("backfilled_before", [False, True])
def test_from_the_file_to_the_feature(
    connection: Connection, daily: Source, tmp_path: Path, backfilled_before: bool
) -> None:
    """A dividend announced after its ex-date changes nothing before, and everything since from then on."""
    put_bars(connection, daily, [100.0, 100.0, 98.0, 98.0, 49.0])
    time.sleep(0.02)
    if backfilled_before:
        backfill(connection, VIEW)
    text = "AAPL,2013-02-27,,2,,2013-02-28T12:00:00Z,,\nAAPL,2013-03-01,2,,,2013-02-01T12:00:00Z,,\n"
    assert read(connection, tmp_path, text).rows_added == 2
    time.sleep(0.02)
    backfill(connection, VIEW)
    announced = datetime(2013, 2, 28, 12, tzinfo=UTC)
    assert returns(connection, announced - timedelta(microseconds=1)) == [0.0, -0.02]
    assert returns(connection, announced) == [0.0, 0.0]
    assert returns(connection, datetime(2013, 3, 2, tzinfo=UTC)) == [0.0, 0.0, 0.0, 0.0]
    # Withdrawn in March: what was known in February stays.
    read(connection, tmp_path, "AAPL,2013-02-27,,2,,2013-03-05T12:00:00Z,,true\n")
    time.sleep(0.02)
    backfill(connection, VIEW)
    assert returns(connection, announced) == [0.0, 0.0]
    assert returns(connection, datetime(2013, 3, 6, tzinfo=UTC)) == [0.0, -0.02, 0.0, 0.0]


def test_prices_that_come_after_an_impossible_dividend_name_the_command(
    connection: Connection, daily: Source, tmp_path: Path
) -> None:
    read(connection, tmp_path, "AAPL,2013-02-27,,200,,,,\n")
    put_bars(connection, daily, [100.0, 100.0, 98.0])
    time.sleep(0.02)
    with pytest.raises(
        InvalidDataError, match=r"200\.0 is not below the close 100\.0 .*\(AAPL, .*tapeline ingest actions"
    ):
        backfill(connection, VIEW)


def test_command(run: Any, tmp_path: Path, database: str) -> None:
    run("ingest", "us-daily", "--since", "2013-02-01T00:00:00+00:00")
    path = tmp_path / "paid.csv"
    path.write_text(
        "Ticker,ex_date,amount,announced\nIBM,2013-02-06,0.85,2013-01-29\nORCL,2013-02-06,0.06,2013-01-29\n"
    )
    options = ["--source", "paid", "--map", "Ticker=symbol", "--map", "announced=published_date"]
    zone = ["--timezone", "America/New_York"]
    report = json.loads(run("ingest", "actions", str(path), *options, *zone, "--json").stdout)
    assert (report["rows_added"], report["faults"], report["kind"]) == (1, {"unknown_symbol": 1}, "actions")
    again = run("ingest", "actions", str(path), *options, *zone)
    assert "1 × unknown_symbol" in again.output
    with psycopg.connect(database) as connection:
        [row] = connection.execute(
            "SELECT symbol, event_timestamp, available_timestamp, amount, currency, source"
            " FROM tapeline.corporate_actions WHERE kind = 'dividend'"
        ).fetchall()
    known = datetime(2013, 1, 30, 5, tzinfo=UTC)
    assert row == ("IBM", datetime(2013, 2, 6, 14, 30, tzinfo=UTC), known, 0.85, "USD", "paid")
    with pytest.raises(ParameterError, match=r"holds corporate actions.*tapeline ingest actions"):
        run("ingest", "file", str(path), "--source", "paid")
