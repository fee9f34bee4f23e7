"""Settings that do not exist, or cannot be what they say, are refused with their name, place and nearest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tapeline.core.errors import ConfigurationError, NaiveTimestampError, TapelineError, UnknownNameError
from tapeline.core.settings import Settings, get_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.mark.parametrize(
    ("variables", "file", "error", "told"),
    [
        ({"TAPELINE_CLOK": "live"}, "", UnknownNameError, "'clok' (environment variable TAPELINE_CLOK). Did you mean clock?"),
        ({"TAPELINE_FOO": "1"}, "", UnknownNameError, "'foo' (environment variable TAPELINE_FOO). Known: artifacts"),
        ({}, "prjoect = 'x'", UnknownNameError, "'prjoect' (tapeline.toml). Did you mean project?"),
        ({}, "project = 'x", ConfigurationError, "no TOML"),
        ({}, "serve_port = 70000", ConfigurationError, "serve_port is 70000 (tapeline.toml)"),
        ({"TAPELINE_SERVE_PORT": "abc"}, "", ConfigurationError, "'abc' (environment variable TAPELINE_SERVE_PORT)"),
        ({"TAPELINE_CLOCK": "2013-03-01T21:20:00"}, "", NaiveTimestampError, "no time zone (setting clock)"),
        ({"TAPELINE_CLOCK": "noon"}, "", TapelineError, "'noon' is not an ISO 8601 timestamp (setting clock)"),
        ({"TAPELINE_CONFIG": "none.toml"}, "", ConfigurationError, "none.toml does not exist"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused(
    variables: dict[str, str], file: str, error: type[TapelineError], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    Path("tapeline.toml").write_text(file)
    with pytest.raises(error, match=re.escape(told)) as caught:
        get_settings()
    assert caught.value.exit_code == 2


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("tapeline.toml").write_text("project = 'file'\nserve_port = 7")
    monkeypatch.setenv("TAPELINE_PROJECT", "variable")
    assert (get_settings().project, get_settings().serve_port) == ("variable", 7)


@pytest.mark.parametrize("place", ["compose.yaml", "Makefile", "tests"])
def test_the_projects_own_variables_are_no_misspelt_settings(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ROOT / place
    files = [path] if path.is_file() else path.rglob("*.py")
    told = "".join(file.read_text() for file in files if file != Path(__file__))
    names = set(re.findall(r"TAPELINE_[A-Z_]+[A-Z]", told))
    assert names
    for name in names:
        if name.removeprefix("TAPELINE_").lower() not in Settings.model_fields and name != "TAPELINE_CONFIG":
            monkeypatch.setenv(name, "1")
    get_settings()


def test_a_changed_setting_is_checked_as_well() -> None:
    """A port of 99999 was taken modulo 65536 by the socket: served, but elsewhere."""
    assert get_settings().replaced(serve_port=0).serve_port == 0
    with pytest.raises(ConfigurationError, match=r"serve_port is 99999 \(given here\)"):
        get_settings().replaced(serve_port=99_999)
