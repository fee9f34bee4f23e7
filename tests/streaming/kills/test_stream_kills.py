"""A few of the trials that `make soak` counts to a thousand of."""

from __future__ import annotations

from pathlib import Path

from tests.streaming.kills.roles import EVENTS
from tests.streaming.kills.trial import Servers, Trials


def test_whatever_is_killed_nothing_is_lost_and_nothing_is_there_twice(tmp_path: Path) -> None:
    servers = Servers()
    try:
        outcome = Trials(servers, 1, tmp_path / "trials").run(kills=2)
    finally:
        servers.close()
    assert outcome.kills + outcome.missed == 2
    assert outcome.kills >= 1
    assert outcome.events == 2 * EVENTS
    assert outcome.values > 1_000
