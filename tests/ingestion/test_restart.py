"""An ingest that is killed and started again gives what an uninterrupted one gives."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tapeline.core.clock import ReplayClock
from tapeline.core.timestamps import to_us
from tapeline.ingestion import Source, ingest, inputs

Connection = psycopg.Connection[Any]
CLOCK = "2013-06-01T00:00:00+00:00"
BLOCK = 10_000  # some 270 rows

CHILD = f"""
import sys
import psycopg
from tapeline.core.clock import ReplayClock
from tapeline.core.timestamps import to_us
from tapeline.ingestion import ingest, inputs

inputs.BLOCK_BYTES = {BLOCK}
url, path = sys.argv[1:]

def tell(rows):
    print(rows, flush=True)

with psycopg.connect(url) as connection:
    ingest(connection, path, "ticks", clock=ReplayClock(to_us("{CLOCK}")), on_rows=tell)
"""


def write(path: Path, rows: int, changed: int) -> Path:
    """Trades of one day; every `changed`-th has a price of its own, and every 50th is bad."""
    lines = ["symbol,event_timestamp,price,size\n"]
    for i in range(rows):
        price = -1.0 if i % 50 == 7 else 10.0 + (i % changed == 0)
        lines.append(f"AAPL,2013-03-01T15:{i // 600 % 60:02}:{i // 10 % 60:02}.{i % 10}Z,{price},1\n")
    path.write_text("".join(lines))
    return path


def contents(connection: Connection) -> list[Any]:
    """All columns of both tables but the moment of writing and the running number."""
    rows = connection.execute(
        "SELECT (to_jsonb(t) - 'created_timestamp')::text FROM tapeline.trades t"
        " ORDER BY symbol, event_timestamp, sequence, created_timestamp"
    ).fetchall()
    refused = connection.execute(
        "SELECT (to_jsonb(q) - 'created_timestamp' - 'id')::text FROM tapeline.quarantine q ORDER BY 1"
    ).fetchall()
    connection.commit()
    return rows + refused


def kill_after(database: str, path: Path, batches: int) -> None:
    """Run an ingest in a process of its own and kill it -9 while it works on the batch after these."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, database, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout:
        for _ in range(batches):
            assert child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL


@pytest.mark.usefixtures("ticks")
def test_killed_and_started_again_is_as_if_never_killed(
    connection: Connection, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "BLOCK_BYTES", BLOCK)
    first = write(tmp_path / "trades.csv", 5_000, changed=10**9)
    second = write(tmp_path / "corrected.csv", 6_000, changed=3)
    clock = ReplayClock(to_us(CLOCK))

    ingest(connection, first, "ticks", clock=clock)
    plain = ingest(connection, second, "ticks", clock=clock)
    assert plain.corrections > 1_500
    assert plain.rows_added == 980
    expected = contents(connection)

    connection.execute("TRUNCATE tapeline.trades, tapeline.quarantine")
    connection.commit()
    for path, kills in ((first, [3]), (second, [1, 19])):
        before = len(contents(connection))
        for batches in kills:
            kill_after(database, path, batches)
        assert before < len(contents(connection)) < len(expected)
        ingest(connection, path, "ticks", clock=clock)
    assert contents(connection) == expected


def test_two_ingests_at_once_add_each_row_once(
    connection: Connection, database: str, ticks: Source, tmp_path: Path
) -> None:
    path = write(tmp_path / "trades.csv", 5_000, changed=10**9)
    children = [
        subprocess.Popen([sys.executable, "-c", CHILD, database, str(path)], stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [child.wait() for child in children] == [0, 0]
    count = connection.execute(
        "SELECT count(*), count(DISTINCT (event_timestamp, sequence)) FROM tapeline.trades"
    ).fetchone()
    assert count == (4_900, 4_900)
    connection.commit()
    assert ingest(connection, path, ticks).unchanged == 4_900
