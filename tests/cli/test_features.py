"""``tapeline features`` lists every indicator and shows one."""

from __future__ import annotations

import json
from typing import get_args

import pytest
import typer
from tapeline.cli.features import register
from tapeline.core.errors import ParameterError, UnknownNameError
from tapeline.core.settings import get_settings
from tapeline.features.catalogue import VIEWS, view
from tapeline.features.describe import search
from tapeline.indicators import all_indicators
from tapeline.indicators.specification import Oracle
from tapeline.registry import Registry
from typer.testing import CliRunner

from tests.registry.bundles import LINEAGE_HASH, PLAN_HASH, make_bundle


def _run(*arguments: str) -> str:
    app = typer.Typer()
    register(app)
    app.command("other")(lambda: None)
    result = CliRunner().invoke(app, ["features", *arguments], env={"COLUMNS": "200"})
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_json_lists_every_indicator_completely() -> None:
    listed = json.loads(_run("list", "--json"))
    assert {entry["name"] for entry in listed} == {indicator.name for indicator in all_indicators()}
    for entry in listed:
        assert entry["source"]
        assert entry["summary"]
        assert entry["oracle"] in get_args(Oracle)
        assert all(output["unit"] and output["warm_up"] >= 1 for output in entry["outputs"])
    macd = next(entry for entry in listed if entry["name"] == "MACD")
    assert [output["name"] for output in macd["outputs"]] == [
        "macd_12_26_9",
        "macd_signal_12_26_9",
        "macd_hist_12_26_9",
    ]
    assert {output["warm_up"] for output in macd["outputs"]} == {34}


def test_the_table_has_a_line_for_each() -> None:
    table = _run("list")
    assert all(indicator.name in table for indicator in all_indicators())


def test_show_tells_parameters_and_source() -> None:
    shown = _run("show", "ATR")
    assert "timeperiod = 14 (1 to 10000)" in shown
    assert "Wilder 1978" in shown
    assert json.loads(_run("show", "ATR", "--json"))["outputs"] == [{"name": "atr_14", "unit": "price", "warm_up": 15}]


def test_a_group_can_be_listed_alone() -> None:
    listed = json.loads(_run("list", "--group", "averages", "--json"))
    assert {entry["group"] for entry in listed} == {"averages"}
    with pytest.raises(UnknownNameError, match="averages"):
        _run("list", "--group", "avrages")


def test_show_writes_the_formula() -> None:
    shown = _run("show", "zscore")
    assert "zscore = (close − a) / √(b / (timeperiod − 1))" in shown
    assert "moments(x, n): Mean and sum" in shown


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("rsi", "RSI"),
        ("RIS", "RSI"),
        ("true range", "TRANGE"),
        ("average true rnge", "ATR"),
        ("bollinger", "SQUEEZE"),
        ("boolinger", "SQUEEZE"),
        ("stoch_d", "STOCH"),
        ("52 week high", "HIGH_52W"),
        ("kaufman", "KAMA"),
        ("wilder 1978 parabolic", "SAR"),
    ],
)
def test_search_finds_names_words_and_near_misses(words: str, first: str) -> None:
    assert first in [indicator.name for indicator in search(words)][:5]


def test_search_of_nothing_like_it_is_empty() -> None:
    assert search("qqqqqq") == []
    assert search("  ") == []
    assert search("rsi qqqqqq") == []
    assert json.loads(_run("search", "true range", "--json"))[0]["name"] == "TRANGE"
    assert "TRANGE" in _run("search", "true range")


def test_explain_tells_what_a_plan_costs_and_what_a_cut_saves() -> None:
    told = json.loads(_run("explain", "rsi(14), CMO, macd", "--keep", "rsi_14", "--json"))
    assert [output["name"] for output in told["outputs"]][:2] == ["rsi_14", "cmo_14"]
    assert told["inputs"] == ["close", "split_ratio"]
    assert told["operations_merged"] == told["operations_of_features_alone"] - told["operations"] == 6
    assert {tuple(part["features"]) for part in told["shared"]} == {("rsi_14", "cmo_14")}
    cut = told["cut"]
    assert cut["outputs"] == ["rsi_14"]
    assert 0 < cut["state_bytes_per_symbol"] == told["state_bytes_per_symbol"] - cut["state_bytes_saved_per_symbol"]
    shown = _run("explain", "rsi(14), CMO, macd", "--keep", "rsi_14")
    assert "gain_and_loss(close)" in shown
    assert "cut: state_bytes_saved_per_symbol" in shown


@pytest.mark.parametrize("spec", VIEWS, ids=lambda spec: f"{spec.name}@{spec.version}")
def test_every_view_can_be_explained(spec) -> None:
    told = json.loads(_run("explain", f"{spec.name}@{spec.version}", "--json"))
    assert [output["name"] for output in told["outputs"]] == list(view(spec.name, spec.version).columns)
    assert told["state_bytes_per_symbol"] == 8 * spec.plan.state_size
    assert told["state_bytes_of_features_alone"] >= told["state_bytes_per_symbol"]


@pytest.mark.parametrize(
    ("plan", "error", "told"),
    [
        ("daily_tecnical", UnknownNameError, "daily_technical"),
        ("rzi", UnknownNameError, "rsi"),
        ("rsi(0)", ParameterError, "out of bounds"),
        ("rsi, nothing(3)", UnknownNameError, "unknown indicator"),
    ],
)
def test_what_cannot_be_explained_is_named(plan: str, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        _run("explain", plan)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="MACD"):
        _run("show", "MACDX")


@pytest.fixture
def model(database, connection, tmp_path, monkeypatch):
    """A registered model that reads two features of the daily view."""
    monkeypatch.setenv("TAPELINE_POSTGRES_URL", database)
    monkeypatch.setenv("TAPELINE_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    connection.execute("CREATE TABLE features.daily_technical__v2 (symbol text, rsi_14 float8, roc_10 float8)")
    connection.execute(
        "INSERT INTO tapeline.feature_view_versions (view, version, lineage_hash, plan_hash, table_name, definition)"
        " VALUES ('daily_technical', 2, %s, %s, 'daily_technical__v2', '{}')",
        (LINEAGE_HASH, PLAN_HASH),
    )
    connection.commit()
    make_bundle(tmp_path / "b")
    Registry(connection, get_settings().artifacts_path).register(tmp_path / "b")
    connection.commit()
    yield "daily_direction"
    get_settings.cache_clear()


def test_explain_tells_what_a_plan_cut_to_a_model_saves(model) -> None:
    told = json.loads(_run("explain", "daily_technical@2", "--model", model, "--json"))
    assert told["cut"]["outputs"] == ["rsi_14", "roc_10"]
    assert told["cut"]["inputs"] == ["close", "split_ratio"]
    assert told["cut"]["state_bytes_per_symbol"] < told["state_bytes_per_symbol"] / 20
    with pytest.raises(ParameterError, match=r"reads nothing of intraday_technical@2.*daily_technical@2"):
        _run("explain", "intraday_technical@2", "--model", model)
    with pytest.raises(UnknownNameError, match="daily_direction"):
        _run("explain", "daily_technical", "--model", "daily_drection")
