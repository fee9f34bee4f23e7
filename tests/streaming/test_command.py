"""``tapeline stream`` as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import psycopg
import pytest
import redis
from tapeline.compute import backfill
from tapeline.core.timestamps import to_us
from tapeline.features.catalogue import INTRADAY_CANDLES, TRADE_MICROSTRUCTURE
from tapeline.ingestion import PACKAGED, ingest
from tapeline.storage.raw import append_trades
from tapeline.storage.reference import append_instruments, register_source

from tests.streaming.world import add_source, raw_rows, table_rows, trades


def tapeline(database: str, redis_url: str, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "TAPELINE_HOME": os.environ.get("TAPELINE_HOME", str(home)),
        "TAPELINE_POSTGRES_URL": database,
        "TAPELINE_REDIS_URL": redis_url,
    }
    return subprocess.run(
        [sys.executable, "-m", "tapeline", "stream", *words, "--json"],
        env=environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


@pytest.fixture
def run(database: str, redis_url: str, tmp_path: Path) -> Callable[..., dict]:
    def command(*words: str) -> dict:
        done = tapeline(database, redis_url, tmp_path, *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return command


def test_recorded_trades_are_sent_run_and_seen(database: str, redis_url: str, run: Callable[..., dict]) -> None:
    shared = ("live", "--source", "cme-trades", "--partitions", "2")
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url):
        add_source(connection, "recorded")
        add_source(connection, "cme-trades")
        tape = trades(["ES"], 500, seed=6, first_us=to_us("2024-01-03T15:00:00+00:00"))
        utc = pl.Datetime("us", "UTC")
        append_trades(
            connection,
            pl.DataFrame(
                {
                    "symbol": ["ES"] * 500,
                    "event_timestamp": pl.Series(tape.records["event_us"].copy()).cast(utc),
                    "published_timestamp": pl.Series(tape.records["available_us"].copy()).cast(utc),
                    "sequence": tape.records["sequence"].copy(),
                    "price": tape.records["values"][:, 0].copy(),
                    "size": tape.records["values"][:, 1].copy(),
                }
            ),
            "recorded",
        )
        assert run("produce", *shared, "--from", "recorded")["events"] == 500
        assert sum(p["waiting"] for p in run("status", *shared)["partitions"]) > 0
        done = run("run", *shared, "--view", "intraday_candles", "--until-idle", "0.5")
        assert done["taken"] + done["recorded"] + done["late"] == 500
        status = run("status", *shared)
        assert (status["workers"], status["dead letters"]) == (0, 0)
        assert sum(p["waiting"] + p["unacknowledged"] for p in status["partitions"]) == 0
        assert len(raw_rows(connection)) == 1_000
        assert backfill(connection, INTRADAY_CANDLES).rows_added == 0
        assert len(table_rows(connection, INTRADAY_CANDLES)) > 5


def test_a_file_is_sent_as_an_ingest_would_store_it(
    database: str, redis_url: str, run: Callable[..., dict], tmp_path: Path
) -> None:
    lines = [
        f"ES,2013-09-02T15:{second // 60:02}:{second % 60:02}Z,{1600 + second / 4},{1 + second % 3},{second % 3 - 1}"
        for second in range(90)
    ]
    lines.insert(40, "ES,2013-09-02T15:00:39Z,-5,1,0")  # no price
    file = tmp_path / "trades.csv"
    file.write_text("\n".join(["symbol,event_timestamp,price,size,side", *lines]))
    shared = ("live", "--source", "cme-trades", "--partitions", "1")
    with psycopg.connect(database) as connection:
        with connection.transaction():
            register_source(connection, PACKAGED["cme-trades"].source)
        append_instruments(connection, PACKAGED["cme-trades"].instruments)
        sent = run("produce", *shared, "--data", str(file), "--start", "2013-09-02T15:00:10+00:00")
        assert sent["events"] == 80
        done = run("run", *shared, "--view", "trade_microstructure", "--until-idle", "0.5")
        assert (done["taken"], done["late"]) == (80, 0)
        [[reason]] = connection.execute("SELECT reason FROM tapeline.quarantine").fetchall()
        assert "-5" in reason
        connection.commit()
        report = ingest(connection, file, "cme-trades", since_us=to_us("2013-09-02T15:00:10+00:00"))
        assert (report.rows_added, report.corrections, report.unchanged) == (0, 0, 80)
        assert backfill(connection, TRADE_MICROSTRUCTURE).rows_added == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "either --from or --data"),
        (("--from", "a", "--data", "b.csv"), "either --from or --data"),
        (("--data", "us-daily"), "rows of the source us-daily"),
        (("--data", "missing.csv"), "unknown source 'cme-trades'"),
    ],
)
def test_what_is_to_be_sent_has_to_be_clear(
    database: str, redis_url: str, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    done = tapeline(database, redis_url, tmp_path, "produce", "live", "--source", "cme-trades", *words)
    assert done.returncode != 0
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
