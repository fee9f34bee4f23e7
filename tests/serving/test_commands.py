"""``tapeline serve`` and ``tapeline predict`` as a shell would run them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import world
from tests.serving.conftest import Served

PROGRAM = "import tapeline.cli.serve as s, typer; a = typer.Typer(); s.register(a); a()"


def tapeline(served: Served, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=world.environment(served.settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_predict_with_a_bar_from_the_command_line(served: Served, tmp_path: Path) -> None:
    history = world.bar_history(1, 60)
    world.put_bars(served.store, "tapeline", "AAA", history, 59)
    bar = {"symbol": "AAA", "event": "2013-03-01T21:00:00+00:00"}
    bar |= {name: float(history.columns[name][59]) for name in world.BARS}
    lines = tmp_path / "bars.jsonl"
    lines.write_text(json.dumps(bar) + "\n")
    for given in (json.dumps(bar), f"@{lines}"):
        done = tapeline(
            served, "predict", "AAA", "BBB", "--bar", given, "--target", served.server.target, "--json", "--features"
        )
        assert done.returncode == 0, done.stderr
        known, unknown = json.loads(done.stdout)
        expected, _ = history.batch(world.DAILY, 60)
        names = [f"daily_small:{name}" for name in world.DAILY.plan.outputs]
        assert [known["features"][name] for name in names] == expected[-1].tolist()
        assert known["views"][0]["origin"] == "LIVE"
        assert unknown["status"] == "NO_FEATURES"
    table = tapeline(served, "predict", "AAA", "--target", served.server.target)
    assert "small@1.0.0" in table.stdout


@pytest.mark.parametrize(
    ("bar", "message"),
    [
        ("{", "a bar cannot be read"),
        ('{"open": 1}', "a bar has no symbol"),
        ('{"symbol": "AAA", "event": "2013-03-01T21:00:00"}', "has no time zone"),
        ("@/nowhere/bars", "cannot be read"),
    ],
)
def test_predict_names_what_is_wrong_with_a_bar(served: Served, bar: str, message: str) -> None:
    done = tapeline(served, "predict", "AAA", "--bar", bar, "--target", served.server.target)
    assert done.returncode != 0
    assert message in done.stderr.replace("\n", " ")


def test_predict_without_a_server(served: Served) -> None:
    done = tapeline(served, "predict", "AAA", "--target", "127.0.0.1:1")
    assert done.returncode != 0
    assert "no server answers" in done.stderr


def test_serve_prepares_and_refuses(served: Served) -> None:
    prepared = tapeline(served, "serve", "small", "--prepare")
    assert prepared.returncode == 0, prepared.stderr
    assert f"prepared: small@1.0.0, bundle {served.bundle_sha256}" in prepared.stdout
    assert tapeline(served, "serve", "small", "--host", "0.0.0.0").returncode == 2
