"""The commands, against a real database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tapeline.core.errors import ParameterError, UnknownNameError

BARS = "Ticker,date,open,high,low,Last,volume\nORCL,2013-02-28,11,8,9,10,1\nORCL,2013-03-01,10,12,9,11,1\n"


def test_a_file_from_refusal_to_repair(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(BARS)
    options = ["--source", "mine", "--map", "Ticker=symbol", "--map", "Last=close"]
    declared = ["--kind", "bars", "--calendar", "XNYS", "--lag", "15m"]
    with pytest.raises(UnknownNameError, match="unknown symbol 'ORCL'"):
        run("ingest", "file", str(path), *options, *declared)
    report = json.loads(
        run("ingest", "file", str(path), *options, *declared, "--new-instruments", "--venue", "XNYS", "--json").stdout
    )
    assert (report["rows_added"], report["faults"], report["instruments_added"]) == (1, {"high_below_low": 1}, 1)
    again = run("ingest", "file", str(path), *options)
    assert "1 × high_below_low" in again.output

    (row,) = json.loads(run("quarantine", "list", "--json").stdout)
    assert row["location"] == f"{path}, row 1"
    assert "high 8.0 is below low 9.0" in run("quarantine", "list").output
    run("quarantine", "replay", code=1)
    repaired = run("quarantine", "replay", str(row["id"]), "--set", "high=12", "--json")
    assert json.loads(repaired.stdout)["accepted"] == 1
    assert "empty" in run("quarantine", "list").output
    assert json.loads(run("quarantine", "list", "--replayed", "--json").stdout)[0]["replayed"] is not None
    assert [entry["symbol"] for entry in json.loads(run("instruments", "list", "--json").stdout)] == ["ORCL"]


def test_an_edited_listing(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(BARS.replace("ORCL", "AAPL"))
    run("ingest", "us-daily", "--until", "2000-03-02T00:00:00+00:00")
    run("ingest", "file", str(path), "--source", "us-daily", "--map", "Ticker=symbol", "--map", "Last=close")
    listing = json.loads(run("quarantine", "list", "--json").stdout)
    listing[0]["content"]["high"] = "12"
    edited = tmp_path / "edited.json"
    edited.write_text(json.dumps(listing))
    assert json.loads(run("quarantine", "replay", "--content", str(edited), "--json").stdout)["added"] == 1
    assert len(json.loads(run("instruments", "list", "--json").stdout)) == 5


def test_packaged_bars_with_a_span(run: Any) -> None:
    report = json.loads(run("ingest", "us-daily", "--until", "2013-02-28T21:00:00+00:00", "--json").stdout)
    assert (report["rows_added"], report["skipped"], report["gaps"]) == (12_149, 5, [])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ingest", "file", "x.csv", "--source", "s", "--kind", "tracks"], "kind is 'tracks'"),
        (["ingest", "file", "x.csv", "--source", "s", "--map", "close"], "'close' is no mapping"),
        (["ingest", "file", "x.csv", "--source", "s", "--ambiguous", "both"], "ambiguous is 'both'"),
        (["ingest", "us-daily", "--until", "yesterday"], "not an ISO 8601"),
        (["quarantine", "replay", "--set", "high=1"], "Name their ids"),
        (["quarantine", "replay", "1", "--set", "high"], "sets nothing"),
    ],
)
def test_wrong_options(run: Any, tmp_path: Path, arguments: list[str], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        run(*arguments)
