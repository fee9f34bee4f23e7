"""Vintages: what is settled, what is refused, and that nothing slips into a vintage that was accepted."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any

import psycopg
import pyarrow as pa
import pytest
import tapeline
from tapeline.core.errors import NaiveTimestampError, SchemaError, VintageError
from tapeline.core.timestamps import from_us
from tapeline.datasets.plan import ViewSelection
from tapeline.datasets.point_in_time import as_of_join
from tapeline.datasets.vintage import current_vintage, resolve_vintage, safe_horizon

DDL = """
    CREATE TABLE features.rates (symbol text, event_timestamp timestamptz, available_timestamp timestamptz,
        created_timestamp timestamptz DEFAULT now(), sequence bigint DEFAULT 0, rate float8);
    INSERT INTO features.rates VALUES ('A', '2013-01-01Z', '2013-01-01Z', '2013-01-01Z', 0, 1);
"""
RATES = ViewSelection("rates", 1, "features.rates", ("symbol",), ("symbol",), ("rate",), ("rate",))
ROW = pa.table({"symbol": ["A"], "event_timestamp": pa.array([from_us(1_400_000_000_000_000)])})
CORRECTION = "INSERT INTO features.rates VALUES ('A', '2013-01-01Z', '2013-01-01Z', DEFAULT, 0, 2)"


def rate(connection: psycopg.Connection[Any], vintage_us: int | None) -> float:
    return as_of_join(connection, [RATES], ROW, vintage_us=vintage_us).column("rate")[0].as_py()


def wait_past(connection: psycopg.Connection[Any], moment_us: int) -> None:
    """Until the horizon, which trails the clock by milliseconds, has passed a moment."""
    deadline = time.monotonic() + 10
    while safe_horizon(connection) < moment_us:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def now_us(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").fetchone()
    assert row is not None
    return int(row[0])


def test_open_writer_holds_the_horizon_back(database: str) -> None:
    """A row stamped earlier but committed later never slips into an accepted vintage."""
    with psycopg.connect(database, autocommit=True) as reader, psycopg.connect(database) as writer:
        reader.execute(DDL)
        before_us = now_us(reader)
        wait_past(reader, before_us)
        writer.execute(CORRECTION)  # stamped now, visible only after its commit
        started_us = int(writer.execute("SELECT extract(epoch FROM now()) * 1000000").fetchone()[0])
        later_us = now_us(reader)
        assert started_us < later_us

        accepted_us = resolve_vintage(reader, None)
        assert before_us <= accepted_us < started_us
        with pytest.raises(VintageError, match="safe horizon"):
            resolve_vintage(reader, later_us)
        assert rate(reader, accepted_us) == 1
        writer.commit()

        assert rate(reader, accepted_us) == 1  # still, though the correction is there now
        assert rate(reader, None) == 2
        wait_past(reader, later_us)
        assert resolve_vintage(reader, later_us) == later_us
        assert rate(reader, later_us) == 2


def test_own_transaction_is_a_writer_too(connection: psycopg.Connection[Any]) -> None:
    connection.execute(DDL)
    time.sleep(0.05)
    accepted_us = resolve_vintage(connection, None)
    connection.execute(CORRECTION)
    assert rate(connection, accepted_us) == 1


def test_accepted_vintages_never_change_under_writers(database: str) -> None:
    """Writers of all lengths against a reader that takes the horizon: what it saw then, it sees at the end."""
    stop = threading.Event()

    def write(pause_s: float) -> None:
        with psycopg.connect(database) as connection:
            while not stop.is_set():
                connection.execute(CORRECTION)
                time.sleep(pause_s)
                connection.execute(CORRECTION)
                connection.commit()

    count = "SELECT count(*) FROM features.rates WHERE created_timestamp <= %s"
    with psycopg.connect(database, autocommit=True) as reader:
        reader.execute(DDL)
        writers = [threading.Thread(target=write, args=(pause_s,)) for pause_s in (0, 0.001, 0.02)]
        for writer in writers:
            writer.start()
        seen = []
        for _ in range(150):
            vintage = from_us(resolve_vintage(reader, None))
            seen.append((vintage, reader.execute(count, (vintage,)).fetchone()))
        stop.set()
        for writer in writers:
            writer.join()
        for vintage, rows in seen:
            assert reader.execute(count, (vintage,)).fetchone() == rows
        assert len({rows for _, rows in seen}) > 1


def test_as_of_nests_and_ends() -> None:
    assert current_vintage() is None
    with tapeline.as_of("1970-01-01T00:00:01+00:00") as outer:
        assert (outer, current_vintage()) == (1_000_000, 1_000_000)
        with tapeline.as_of(from_us(5)):
            assert current_vintage() == 5
        assert current_vintage() == 1_000_000
    assert current_vintage() is None
    with pytest.raises(NaiveTimestampError), tapeline.as_of("2013-01-01T00:00:00"):
        pass


def test_without_the_schema_there_are_no_vintages(empty_database: str) -> None:
    with psycopg.connect(empty_database) as connection:
        with pytest.raises(SchemaError, match="tapeline migrate"):
            safe_horizon(connection)
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_importing_tapeline_stays_light() -> None:
    code = (
        "import sys, tapeline; assert not {'numpy', 'psycopg', 'tapeline.datasets'} & set(sys.modules); tapeline.as_of"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="nothing"):
        _ = tapeline.nothing
