"""The commands over the store: newest values, retention, tiers."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from tapeline.cli import build_app
from tapeline.core.errors import ParameterError
from tapeline.core.settings import get_settings
from typer.testing import CliRunner

from tests.storage.store_rows import fill, from_us, rule, stored


@pytest.fixture
def run(database: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TAPELINE_POSTGRES_URL", database)
    monkeypatch.setenv("TAPELINE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    get_settings.cache_clear()

    def invoke(*arguments: str) -> str:
        result = CliRunner().invoke(build_app(), list(arguments))
        if result.exception is not None:
            raise result.exception
        return result.stdout

    yield invoke
    get_settings.cache_clear()


def test_latest_prints_what_was_known(run: Any, connection: psycopg.Connection) -> None:
    fill(connection, 3)
    rows = stored(connection)
    at_us = rows[0].event_us + 86_400_000_000
    at = from_us(at_us).isoformat()
    told = json.loads(run("latest", "small", "-s", "AAA,DDD", "-f", "rsi_4", "--at", at, "--json"))
    expected = rule(rows, "AAA", at_us)
    assert expected is not None
    value = expected.values[1]
    assert told[0]["event"] == from_us(expected.event_us).isoformat()
    assert told[0]["rsi_4"] == (None if value is None or value != value else value)
    assert told[1] == {"symbol": "DDD", "event": None, "available": None, "rsi_4": None}
    assert f"small@1 at {at}" in run("latest", "small@1", "-s", "AAA", "--at", at)


def test_retention_is_planned_set_and_applied(run: Any, connection: psycopg.Connection) -> None:
    connection.execute(
        "INSERT INTO tapeline.quotes (source, symbol, event_timestamp, available_timestamp, sequence)"
        " SELECT 'q', 'ES', t, t, 0 FROM generate_series(now() - interval '9 days', now(), interval '1 day') t"
    )
    connection.commit()
    assert json.loads(run("retention", "plan", "--json")) == []
    with pytest.raises(ParameterError, match="no rule"):
        run("retention", "plan", "tapeline.quotes")
    planned = json.loads(run("retention", "plan", "tapeline.quotes", "--keep", "5d", "--json"))
    assert planned[0]["held by"] == []
    run("retention", "set", "tapeline.quotes", "5d")
    assert json.loads(run("retention", "apply", "--json"))[0]["dropped"] == 5
    run("retention", "set", "tapeline.quotes", "forever")
    assert json.loads(run("retention", "apply", "--json")) == []


def test_tiers_are_listed_and_set(run: Any, database: str) -> None:
    run("tiers", "set", "desk", "--entities", "9", "--rate", "5", "--burst", "7", "--features", "daily@2,trades")
    told = {tier["tier"]: tier for tier in json.loads(run("tiers", "list", "--json"))}
    assert set(told) == {"free", "standard", "professional", "internal", "desk"}
    assert told["desk"]["features_allowed"] == ["daily@2", "trades"]
    assert told["desk"]["entities_per_request_max"] == 9
