"""Fixtures of the TimescaleDB editions, and the loud line about one that this machine cannot run."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.editions.cache import EditionUnavailable
from tests.editions.server import EDITIONS, EditionServer

_REQUIRED = "TAPELINE_REQUIRE_EDITIONS"
_unavailable: dict[str, str] = {}
_not_tested: dict[str, str] = {}


def not_tested(what: str, reason: str) -> None:
    """Have the run's summary name something that this machine cannot run."""
    _not_tested[what] = reason


class _Editions:
    """Starts each edition when a test first asks for it."""

    def __init__(self) -> None:
        self._running: dict[str, EditionServer] = {}

    def get(self, edition: str) -> EditionServer:
        if edition not in self._running and edition not in _unavailable:
            try:
                self._running[edition] = EditionServer(edition)
            except EditionUnavailable as reason:
                _unavailable[edition] = str(reason)
        if edition in self._running:
            return self._running[edition]
        message = f"TimescaleDB {edition} cannot run here: {_unavailable[edition]}"
        if os.environ.get(_REQUIRED) == "1":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)

    def close(self) -> None:
        for server in self._running.values():
            server.close()


@pytest.fixture(scope="session")
def _editions() -> Iterator[_Editions]:
    editions = _Editions()
    yield editions
    editions.close()


@pytest.fixture
def apache_database(_editions: _Editions) -> Iterator[str]:
    """URL of an empty database on TimescaleDB's Apache edition."""
    with _editions.get("apache").fresh_database() as url:
        yield url


@pytest.fixture
def community_database(_editions: _Editions) -> Iterator[str]:
    """URL of an empty database on TimescaleDB's Community edition."""
    with _editions.get("community").fresh_database() as url:
        yield url


@pytest.fixture(params=["none", *(pytest.param(edition, marks=pytest.mark.edition(edition)) for edition in EDITIONS)])
def edition_database(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Each edition in turn, plain PostgreSQL first: its name and the URL of an empty database."""
    fixture = "empty_database" if request.param == "none" else f"{request.param}_database"
    return request.param, request.getfixturevalue(fixture)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line each which edition went untested: a skip must not pass unseen."""
    editions = {f"TimescaleDB {edition}": reason for edition, reason in _unavailable.items()}
    for what, reason in (editions | _not_tested).items():
        terminalreporter.write_line(
            f"NOT TESTED: {what}. {reason}. ({_REQUIRED}=1 makes this a failure.)", red=True, bold=True
        )
    # Of what else could not be run, tests say so by a reason that begins like this.
    reasons = {
        str(report.longrepr[2]).removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", [])
    }
    for reason in sorted(reason for reason in reasons if reason.startswith("NOT TESTED: ")):
        terminalreporter.write_line(reason, red=True, bold=True)
