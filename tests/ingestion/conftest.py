"""A source of session bars and one of trades, with two shares in the instrument master; and the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer
from tapeline.cli import ingest as ingesting
from tapeline.cli import quarantine
from tapeline.core.settings import get_settings
from tapeline.core.timestamps import MINUTE_US, to_us
from tapeline.ingestion import Instrument, Source
from tapeline.storage.reference import append_instruments, register_source
from typer.testing import CliRunner, Result

LISTED = to_us("2000-01-01T00:00:00+00:00")


@pytest.fixture
def daily(connection: psycopg.Connection[Any]) -> Source:
    append_instruments(
        connection,
        [Instrument(name, "XNYS", "XNYS", "equity", "USD", 0.01, LISTED, LISTED) for name in ("AAPL", "IBM")],
    )
    source = Source("daily", "bars", 15 * MINUTE_US, "XNYS")
    register_source(connection, source)
    return source


@pytest.fixture
def ticks(connection: psycopg.Connection[Any], daily: Source) -> Source:
    source = Source("ticks", "trades")
    register_source(connection, source)
    return source


@pytest.fixture
def run(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TAPELINE_POSTGRES_URL", database)
    monkeypatch.setenv("TAPELINE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "160")
    get_settings.cache_clear()
    app = typer.Typer()
    ingesting.register(app)
    quarantine.register(app)

    def invoke(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    yield invoke
    get_settings.cache_clear()
