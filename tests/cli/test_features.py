"""``tapeline features`` lists every indicator and shows one."""

from __future__ import annotations

import json
from typing import get_args

import pytest
import typer
from tapeline.cli.features import register
from tapeline.core.errors import UnknownNameError
from tapeline.indicators import all_indicators
from tapeline.indicators.specification import Oracle
from typer.testing import CliRunner


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


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="MACD"):
        _run("show", "MACDX")
