"""``tapeline quality`` from the outside: scores, statistics, drift, lag, a page without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from tapeline.compute import backfill

from tests.compute.oracle import BARS, record
from tests.quality.test_statistics import history


@pytest.fixture
def market(connection: psycopg.Connection, database: str, tmp_path: Path) -> dict[str, str]:
    """A database with two blocks of a small view; what a command needs to find it."""
    with connection.transaction():
        connection.execute(
            "INSERT INTO tapeline.sources (source, kind, declared_lag_us, calendar)"
            " VALUES ('bars-source', 'bars', 60, 'XNYS')"
        )
    for run, symbol in enumerate(("A", "B")):
        record(connection, BARS, [history(symbol, 40, run)], run)
        backfill(connection, BARS)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TAPELINE_")}
    return {**kept, "TAPELINE_POSTGRES_URL": database, "TAPELINE_HOME": str(tmp_path), "COLUMNS": "200"}


def run(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tapeline", "quality", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=250)


def test_the_report_as_json_and_as_a_page(market: dict[str, str], tmp_path: Path) -> None:
    page = tmp_path / "quality.html"
    done = run(market, "report", "--json", "--html", str(page), "--at", "2010-02-13T00:00:00+00:00")
    assert done.returncode == 0, done.stderr
    (view,) = json.loads(done.stdout)
    assert (view["view"], view["version"], view["blocks"], view["broken"]) == ("bars_view", 1, {"passed": 2}, [])
    assert (view["rows"]["rows"], view["rows_behind"], view["score"]) == (80, 1.0, 1.0)
    text = page.read_text()
    for part in ("bars_view@1", "Every row keeps every rule", "plotly", "2 passed"):
        assert part in text
    assert "<script src=" not in text
    assert run(market, "report", "no_view").returncode == 2


def test_statistics_and_drift_and_lag(market: dict[str, str]) -> None:
    rows = json.loads(run(market, "stats", "bars_view", "-f", "ema_2", "--json").stdout)
    assert [(row["feature"], row["rows"], row["nan"]) for row in rows] == [("ema_2", 80, 2)]
    rows = json.loads(
        run(
            market,
            "stats",
            "bars_view@1",
            "-f",
            "obv",
            "--by-day",
            "--start",
            "2010-01-10",
            "--end",
            "2010-01-12",
            "--json",
        ).stdout
    )
    assert [(row["day"], row["rows"]) for row in rows] == [("2010-01-10", 2), ("2010-01-11", 2)]
    rows = json.loads(run(market, "drift", "bars_view", "--start", "2010-01-24", "--json").stdout)
    assert {row["feature"] for row in rows} == set(BARS.columns)
    assert all(row["psi"] >= 0 for row in rows)
    (lag,) = json.loads(run(market, "lag", "bars-source", "--json").stdout)
    assert (lag["arrival"], lag["publication"], lag["too_short"]) == (None, None, False)
    assert "a load of history tells nothing" in run(market, "lag").stderr
    assert json.loads(run(market, "refresh", "--json").stdout) == [{"view": "bars_view@1", "days computed": 0}]
