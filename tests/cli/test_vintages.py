"""``--as-of`` on every command that reads what is stored, ``tapeline rows`` and ``tapeline vintage``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest
from tapeline import cli
from tapeline.core.errors import IntegrityError, ParameterError, TapelineError, UnknownNameError, VintageError
from tapeline.core.settings import get_settings
from tapeline.core.timestamps import format_us
from tapeline.datasets import Generated, export
from tapeline.datasets.vintage import safe_horizon
from tapeline.features import catalogue
from typer.testing import CliRunner

from tests.datasets.market import PLAN, SPEC
from tests.datasets.recorded import SESSIONS, Event, begin, compute, open_source, record

Run = Callable[..., Any]
SYMBOLS = ["AAA", "BBB"]


@pytest.fixture
def run(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs a command over this test's database and the small view, and parses its JSON; raises what it raises."""
    monkeypatch.setenv("TAPELINE_POSTGRES_URL", database)
    monkeypatch.setenv("TAPELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(catalogue, "VIEWS", (SPEC,))
    get_settings.cache_clear()

    def invoke(*arguments: str, text: bool = False) -> Any:
        result = CliRunner().invoke(cli.build_app(), [*arguments, *(() if text else ("--json",))])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output if text else json.loads(result.stdout)

    yield invoke
    get_settings.cache_clear()


@pytest.fixture
def before(connection: psycopg.Connection[Any], tmp_path: Path) -> str:
    """A market, exported; then a correction, a retraction and a late row. Gives the moment between."""
    open_source(connection)
    begin(connection, SYMBOLS, missing=frozenset({(1, 5)}), seed=3)
    moment = export(connection, PLAN, Generated(("AAA", "BBB")), tmp_path / "old").as_of_us
    record(connection, SYMBOLS, Event("bar", 0, 10, 70.0, 30))
    record(connection, SYMBOLS, Event("retraction", 1, 15, 0.0, 30))
    record(connection, SYMBOLS, Event("bar", 1, 5, 51.0, None))
    compute(connection, SYMBOLS)
    export(connection, PLAN, Generated(("AAA", "BBB")), tmp_path / "new")
    return format_us(moment)


def test_rows_at_a_moment_by_both_clocks(run: Run, before: str) -> None:
    close = format_us(int(SESSIONS.close_us[14]) + 900_000_000)
    asked = ("rows", "tiny", "--at", close, "-f", "sma_3")
    now, then = run(*asked), run(*asked, "--as-of", before)
    assert [row["symbol"] for row in now] == SYMBOLS
    assert [row["event_timestamp"] for row in now] == [format_us(int(SESSIONS.close_us[14]))] * 2
    # The correction of session 10 is past a mean of three by then, and so is the late row; their rows were still computed anew.
    assert now[0]["created_timestamp"] > before > then[0]["created_timestamp"]
    early = format_us(int(SESSIONS.close_us[12]) + 900_000_000)
    values = [run("rows", "tiny", "-s", "AAA", "--at", early, *k)[0]["sma_3"] for k in ((), ("--as-of", before))]
    assert values[0] != values[1]
    [outside] = run("rows", "tiny", "-s", "AAA", "--at", "2011-01-01T00:00:00+00:00")
    assert outside["event_timestamp"] is None  # past the time to live


def test_rows_of_a_span_show_corrections_beside_what_they_correct(run: Run, before: str, tmp_path: Path) -> None:
    day = format_us(int(SESSIONS.close_us[10]))[:10]
    asked = ("rows", "tiny", "-s", "AAA", "--start", day, "--end", day)
    assert [row["sequence"] for row in run(*asked)] == [0, 0]
    [only] = run(*asked, "--as-of", before)
    assert only["created_timestamp"] < before
    run("rows", "tiny", "--start", "2010-01-01", "--parquet", str(tmp_path / "all.parquet"))
    table = pq.read_table(tmp_path / "all.parquet")
    assert table.column_names[:5] == [
        "symbol",
        "event_timestamp",
        "available_timestamp",
        "created_timestamp",
        "sequence",
    ]
    shown = run("views", "show", "tiny")
    assert table.num_rows == shown["rows"] > len(SESSIONS.close_us) * 2
    assert "2 of" in run("rows", "tiny", "--start", "2010-01-01", "--limit", "2", text=True)


def test_counts_of_views_have_a_vintage(run: Run, before: str) -> None:
    [now], [then] = run("views", "list"), run("views", "list", "--as-of", before)
    assert now["rows"] > then["rows"] == len(SESSIONS.close_us) * 2 - 1
    assert run("views", "show", "tiny", "--as-of", before)["rows"] == then["rows"]
    assert run("views", "show", "tiny", "--as-of", "2013-01-01T00:00:00+00:00")["registered"] == "no"


def test_a_vintage_past_the_horizon_is_refused(run: Run, before: str) -> None:
    for command in ("rows tiny", "rows tiny --start 2010-01-01", "views list", "views show tiny", "verify"):
        with pytest.raises(VintageError, match="safe horizon"):
            run(*command.split(), "--as-of", "2999-01-01T00:00:00+00:00")


def test_the_horizon(run: Run, connection: psycopg.Connection[Any], before: str) -> None:
    assert before < run("vintage", "horizon")["safe_horizon"] <= format_us(safe_horizon(connection))


def test_the_diff_of_two_folders_and_of_one_and_a_moment(run: Run, before: str, tmp_path: Path) -> None:
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    cells = tmp_path / "cells.parquet"
    two = run("vintage", "diff", old, new, "--parquet", str(cells), "--limit", "3")
    assert set(two["by_cause"]) == {"correction", "late row", "late row + retraction"}
    assert two["cells"] == pq.read_metadata(cells).num_rows == sum(two["by_cause"].values())
    assert len(two["shown"]) == 3
    assert {change["cause"] for change in two["changes"]} == {"correction", "late row", "retraction"}
    corrected = next(change for change in two["changes"] if change["cause"] == "correction")
    assert corrected["event_timestamp"] == format_us(int(SESSIONS.close_us[10]))
    assert {"column": "close", "before": pytest.approx(50, abs=20), "after": 70.0} in corrected["values"]
    one = run("vintage", "diff", old, "--limit", "0")
    assert (one["by_feature"], one["before_as_of"]) == (two["by_feature"], before)
    assert run("vintage", "diff", old, before)["cells"] == 0
    text = run("vintage", "diff", old, new, text=True)
    assert "correction: us-daily AAA" in text
    assert "Cells by cause" in text


DIFFS_REFUSED: list[tuple[tuple[str, ...], type[TapelineError], str]] = [
    (("{folder}/none",), ParameterError, "is no data set"),
    (("{folder}/old", "{folder}/none"), ParameterError, "neither"),
    (("{folder}",), IntegrityError, "manifest"),
    (("{folder}/old", "2999-01-01T00:00:00+00:00"), VintageError, "safe horizon"),
    (("{folder}/new", "{folder}/old"), ParameterError, "earlier one first"),
    (("{folder}/old", "--service", "tiny_model"), ParameterError, "Leave out"),
    (("{folder}/old", "--labels", "direction:5d"), ParameterError, "Leave out"),
    (("2013-01-01T00:00:00+00:00", "horizon"), ParameterError, "--service"),
    (("{folder}/old", "--parquet", "{folder}/old/manifest.json"), ParameterError, "exists"),
]
ROWS_REFUSED: list[tuple[tuple[str, ...], type[TapelineError], str]] = [
    (("-s", "AAB"), UnknownNameError, "AAA"),
    (("-f", "sma_4"), UnknownNameError, "sma_3"),
    (("--at", "2010-01-05T00:00:00+00:00", "--start", "2010-01-01"), ParameterError, "--at"),
    (("--start", "2010-02-01", "--end", "2010-01-01"), ParameterError, "ends before"),
]


def test_refusals(run: Run, before: str, tmp_path: Path) -> None:
    for command, cases in ((("vintage", "diff"), DIFFS_REFUSED), (("rows", "tiny"), ROWS_REFUSED)):
        for arguments, error, words in cases:
            with pytest.raises(error, match=words):
                run(*command, *(argument.format(folder=tmp_path) for argument in arguments))
