"""An edition that cannot run here is skipped with a loud line, or fails where it is required."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CASE = "tests/storage/test_editions.py::test_migrations_apply_and_repeat[{}]"


@pytest.fixture
def bare_machine() -> Iterator[dict[str, str]]:
    """The environment of a machine with an empty cache and none of the tools that could fill it."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)  # PostgreSQL's account must be able to enter the cache, or another would be used
    (folder / "bin").mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in {"TAPELINE_REQUIRE_EDITIONS", "PATH"}}
    yield {**kept, "PATH": str(folder / "bin"), "XDG_CACHE_HOME": str(folder)}
    shutil.rmtree(folder)


def run(environment: dict[str, str], edition: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", CASE.format(edition)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_skip_is_loud(bare_machine: dict[str, str]) -> None:
    result = run(bare_machine, "apache")
    assert result.returncode == 0
    assert "1 skipped" in result.stdout or "s  " in result.stdout
    loud = [line for line in result.stdout.splitlines() if line.startswith("NOT TESTED")]
    assert len(loud) == 1
    assert "apache" in loud[0]
    assert "apt-get is not installed" in loud[0]


def test_where_editions_are_required_a_skip_is_a_failure(bare_machine: dict[str, str]) -> None:
    result = run({**bare_machine, "TAPELINE_REQUIRE_EDITIONS": "1"}, "apache")
    assert result.returncode == 1
    assert "TimescaleDB apache cannot run here" in result.stdout
