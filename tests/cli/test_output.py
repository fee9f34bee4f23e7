"""What all commands share: tables that can be read and searched, JSON that is JSON, errors without a traceback."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import redis
from tapeline import cli
from tapeline.cli.app import emit
from tapeline.cli.faults import as_tapeline_error
from tapeline.core.errors import (
    DiskFullError,
    IntegrityError,
    MissingExtraError,
    ParameterError,
    TapelineError,
    UnavailableError,
)


def test_json_has_no_nan_and_iso_moments(capsys: pytest.CaptureFixture[str]) -> None:
    emit([{"value": float("nan"), "in": [float("inf"), 1.5], "at": datetime(2013, 3, 1, 21, tzinfo=UTC)}], as_json=True)
    printed = capsys.readouterr().out
    assert "NaN" not in printed
    assert json.loads(printed) == [{"value": None, "in": [None, 1.5], "at": "2013-03-01T21:00:00+00:00"}]


def test_a_table_prints_texts_as_they_are_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    reason = "no column [/red] of " + "x" * 200
    emit([{"id": 7, "reason": reason}, {"id": 12, "reason": None}], as_json=False, title="Quarantine")
    out = capsys.readouterr().out
    assert reason in out  # neither read as markup nor folded: the output is no terminal
    assert [line[:2] for line in out.splitlines()[-2:]] == [" 7", "12"]


def test_nothing_is_said_in_words_and_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    emit([], as_json=False, empty="No model is registered yet.")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "No model is registered yet." in captured.err
    emit([], as_json=True)
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    ("raised", "told", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/data.parquet"), DiskFullError, "/x/data.parquet"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), ParameterError, "/x"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), ParameterError, "read-only"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/x"), ParameterError, "Check the path"),
        (psycopg.OperationalError("server closed the connection"), UnavailableError, "tapeline status"),
        (psycopg.errors.DiskFull("could not extend file"), DiskFullError, "Make room"),
        (redis.ConnectionError("gone"), UnavailableError, "tapeline status"),
        (ModuleNotFoundError("No module named 'lightgbm'", name="lightgbm"), MissingExtraError, "tapeline[train]"),
    ],
)  # fmt: skip
def test_troubles_of_the_machine_are_told(raised: Exception, told: type[TapelineError], says: str) -> None:
    error = as_tapeline_error(raised)
    assert type(error) is told
    assert says in str(error)


def test_a_defect_of_ours_keeps_its_traceback() -> None:
    assert as_tapeline_error(KeyError("x")) is None
    assert as_tapeline_error(ModuleNotFoundError("No module named 'tapeline.nope'", name="tapeline.nope")) is None


@pytest.mark.parametrize(
    "raised", [IntegrityError("it is [broken]", where="/a/b", remedy="Restore it"), MissingExtraError("onnx", "train")]
)
def test_an_error_is_one_whole_line_and_an_exit_code(
    raised: TapelineError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise raised

    monkeypatch.setattr(cli, "build_app", lambda: fail)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == raised.exit_code
    assert capsys.readouterr().err == f"error: {type(raised).__name__}: {raised}\n"


def test_the_command_starts_without_heavy_libraries(tmp_path: Path) -> None:
    """Half of the time to start was numpy and grpc, which most commands never use."""
    heavy = "numpy grpc pandas polars pyarrow feast numba psycopg redis"
    code = "import sys, tapeline.cli as c; c.build_app(); print(*sorted(set(sys.modules) & set(sys.argv[1].split())))"
    run = subprocess.run(
        [sys.executable, "-c", code, heavy], cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == ""
