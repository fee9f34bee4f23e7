"""Where the universal tests are taken from, and that nothing unexplained passes for explained."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.universal.explained import EXPLAINED
from tests.universal.run import Outcome, _judge
from tests.universal.source import TESTS, NoSourceError, copy_tests


def checkout(folder: Path) -> Path:
    place = folder / "checkout"
    (place / TESTS).mkdir(parents=True)
    (place / TESTS / "conftest.py").write_text("# theirs\n")
    (place / "sdk/python/feast").mkdir()
    (place / "sdk/python/feast/__init__.py").write_text("")
    return place


def git_repository(folder: Path) -> Path:
    place = checkout(folder)
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "all"]):
        subprocess.run(["git", *words], cwd=place, check=True)
    return place / ".git"


def archive(folder: Path) -> Path:
    target = folder / "feast.tar.gz"
    with tarfile.open(target, "w:gz") as opened:
        opened.add(checkout(folder), "feast-0.67.0")
    return target


@pytest.mark.parametrize("make", [checkout, git_repository, archive])
def test_tests_are_taken_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make) -> None:
    monkeypatch.setenv("FEAST_SOURCE", str(make(tmp_path)))
    target = tmp_path / "target"
    target.mkdir()
    copy_tests(target)
    assert [path.relative_to(target).as_posix() for path in target.rglob("*.py")] == ["tests/conftest.py"]


def test_a_source_without_tests_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEAST_SOURCE", str(tmp_path / "nowhere"))
    with pytest.raises(NoSourceError, match="nowhere"):
        copy_tests(tmp_path)


def outcomes() -> list[Outcome]:
    explained = [Outcome(f"{e.test}[Tapeline]", e.outcome, f"… {e.says} …") for e in EXPLAINED["tapeline"]]
    return [Outcome("test_one::test_a", "passed", ""), *explained]


def test_what_is_explained_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert _judge("tapeline", outcomes()) == 0
    assert EXPLAINED["tapeline"][0].reason in capsys.readouterr().out


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param([*outcomes(), Outcome("test_one::test_b", "failed", "assert 1 == 2")], id="a failure"),
        pytest.param([*outcomes(), Outcome("test_one::test_b", "skipped", "not today")], id="a skip"),
        pytest.param(outcomes()[:1], id="explained, but it passed"),
        pytest.param([Outcome(o.test, o.result, "another error") for o in outcomes()], id="another error"),
        pytest.param(outcomes()[1:], id="nothing passed"),
    ],
)
def test_anything_else_is(seen: list[Outcome]) -> None:
    assert _judge("tapeline", seen) == 1
