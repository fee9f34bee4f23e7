"""What each command makes of bad input: one clear error with place and remedy, and nothing written.

The library's own refusals are tested beside each package; here they arrive at the user.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from psycopg import Connection
from tapeline import cli
from tapeline.core.errors import (
    EmptyDataError,
    IntegrityError,
    InvalidDataError,
    NaiveTimestampError,
    ParameterError,
    TapelineError,
    UnavailableError,
    UnknownNameError,
)
from tapeline.core.settings import get_settings
from typer.testing import CliRunner

Run = Callable[..., object]
BAR = {"symbol": "AAPL", "event": "2013-03-01T21:00:00+00:00", "open": 1, "high": 2, "low": 1, "close": 1, "volume": 1}
FILE = ["ingest", "file", "{folder}/rows.csv", "--source", "mine", "--kind", "bars", "--calendar", "XNYS"]
EXPORT = ["export", "--service", "daily_model", "--out", "{folder}/out"]
HEADER = "symbol,date,open,high,low,close,volume\n"
TIMES = "symbol,event_timestamp,start_timestamp,open,high,low,close,volume\n"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    """Runs a command in this process; raises what it raises."""
    monkeypatch.setenv("TAPELINE_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    app: typer.Typer = cli.build_app()

    def invoke(*arguments: str) -> object:
        result = CliRunner().invoke(app, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    yield invoke
    get_settings.cache_clear()


CASES: list[tuple[list[str], bytes, type[TapelineError], list[str]]] = [
    # what the database need not be asked for
    (["backfill", "daily_tecnical"], b"", UnknownNameError, ["feature view 'daily_tecnical'", "daily_technical"]),
    (["features", "show", "RSII"], b"", UnknownNameError, ["Did you mean RSI?"]),
    (["ingest", "us-daily", "--until", "2013-02-28T00:00:00"], b"", NaiveTimestampError, ["--until", "no time zone"]),
    (["ingest", "us-daily", "--since", "yesterday"], b"", ParameterError, ["--since", "ISO 8601"]),
    ([*FILE, "--map", "Last"], b"", ParameterError, ["--map", "COLUMN=|Last Price=close"]),
    ([*EXPORT, "--as-of", "2013-01-01T00:00:00"], b"", NaiveTimestampError, ["--as-of"]),
    ([*EXPORT, "--labels", "direction:5x"], b"", ParameterError, ["direction:5d"]),
    (["predict", "AAPL", "--bar", "{{"], b"", InvalidDataError, ["--bar 1"]),
    (["predict", "AAPL", "--bar", json.dumps(BAR | {"event": "2013-03-01T21:00:00"}).replace("{", "{{").replace("}", "}}")], b"", NaiveTimestampError, ["--bar 1"]),
    (["predict", "AAPL", "--bar", "@{folder}/none"], b"", ParameterError, ["/none"]),
    # servers away
    (["predict", "AAPL", "--target", "127.0.0.1:1"], b"", UnavailableError, ["127.0.0.1:1", "tapeline serve"]),
    (["backfill"], b"", UnavailableError, ["tapeline up"]),
    (["ingest", "us-daily"], b"", UnavailableError, ["PostgreSQL does not answer", "tapeline up"]),
    (EXPORT, b"", UnavailableError, ["tapeline up"]),
    (["rebuild", "{folder}"], b"", TapelineError, ["tapeline (up|export)"]),
    (["verify"], b"", UnavailableError, ["tapeline up"]),
    (["models", "list"], b"", UnavailableError, ["tapeline up"]),
    (["migrate"], b"", UnavailableError, ["tapeline up"]),
    # what is no data set, or cannot become a model
    (["train", "--data", "{folder}", "--model", "m"], b"", IntegrityError, ["manifest", "tapeline export"]),
    (["train", "--data", "{folder}", "--model", "Bad Name"], b"", ParameterError, ["'Bad Name'", "small letter"]),
    (["train", "--data", "{folder}", "--model", "m", "--out", "{folder}"], b"", ParameterError, ["exists already"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "rows", "error", "told"),
    CASES,
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_before_any_server_runs(
    run: Run, tmp_path: Path, command: list[str], rows: bytes, error: type[TapelineError], told: list[str]
) -> None:  # fmt: skip
    (tmp_path / "rows.csv").write_bytes(rows)
    with pytest.raises(error) as raised:
        run(*(argument.format(folder=tmp_path) for argument in command))
    for words in told:
        assert raised.match(words)
    assert raised.value.exit_code in {1, 2, 5}
    assert {entry.name for entry in tmp_path.iterdir()} <= {"rows.csv", "home"}, "something was half written"


FILES: list[tuple[str, bytes, type[TapelineError], str]] = [
    ("a missing column", b"symbol,date,open,high,low,volume\nAAPL,2013-02-28,1,2,1,1\n", InvalidDataError, "no column for close.*--map"),
    ("naive times", TIMES.encode() + b"AAPL,2013-02-28T21:00:00,2013-02-28T14:30:00,1,2,1,1,1\n", NaiveTimestampError, "row 1, column event_timestamp.*--timezone"),
    ("no rows", HEADER.encode(), EmptyDataError, "no rows"),
    ("no bytes", b"", EmptyDataError, "the file is empty"),
    ("no text", b"\x8c\xff\x00\n" * 40, InvalidDataError, "no readable CSV file.*UTF-8"),
    ("an unknown symbol", HEADER.encode() + b"AAPK,2013-02-28,1,2,1,1,1\n", UnknownNameError, "unknown symbol 'AAPK'"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "error", "told"), [case[1:] for case in FILES], ids=[case[0] for case in FILES])
def test_a_file_that_is_refused_leaves_no_trace(
    run: Run, tmp_path: Path, database: str, connection: Connection, monkeypatch: pytest.MonkeyPatch,
    rows: bytes, error: type[TapelineError], told: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("TAPELINE_POSTGRES_URL", database)
    (tmp_path / "rows.csv").write_bytes(rows)
    command = [argument.format(folder=tmp_path) for argument in FILE]
    with pytest.raises(error, match=f"(?s){told}"):
        run(*command, *([] if error is UnknownNameError else ["--new-instruments"]))
    for table in ("bars", "quarantine", "sources", "instruments"):
        assert connection.execute(f"SELECT count(*) FROM tapeline.{table}").fetchone() == (0,)


def test_a_span_that_ends_before_it_begins(run: Run, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPELINE_POSTGRES_URL", database)
    with pytest.raises(ParameterError, match="lies after until"):
        run("ingest", "us-daily", "--since", "2012-01-01T00:00:00Z", "--until", "2011-01-01T00:00:00Z")
