"""The leakage gate over every view of ``feature_repo``, by its command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tapeline import cli
from tapeline.core.settings import get_settings
from tapeline.features.catalogue import VIEWS
from typer.testing import CliRunner

from tests.training import leakcheck_market as market

REPOSITORY = Path(__file__).parents[2] / "feature_repo"


@pytest.mark.slow
@pytest.mark.timeout(2_400)  # compiles every plan of the catalogue, where no earlier run has
@pytest.mark.filterwarnings("ignore")  # Feast's
def test_every_view_of_the_repository_is_clean(connection, database, redis_url, tmp_path, monkeypatch, request):
    market.daily(connection, 500, source="us-daily")
    market.trades(connection, source="cme-trades", calendar="CMES")
    market.fill(connection, *VIEWS)
    repository = tmp_path / "feature_repo"
    shutil.copytree(REPOSITORY, repository, ignore=shutil.ignore_patterns("__pycache__"))
    settings = {"TAPELINE_POSTGRES_URL": database, "TAPELINE_REDIS_URL": redis_url, "FEAST_USAGE": "False"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    request.addfinalizer(get_settings.cache_clear)

    def run(*arguments: str | Path, code: int = 0) -> str:
        done = subprocess.run(arguments, cwd=repository, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    def command(service: str, units: int) -> list[str]:
        sizes = {"entities": 2, "moments": 16, "futures": 2, "units": units}
        options = [text for name, size in sizes.items() for text in (f"--{name}", str(size))]
        return ["leakcheck", service, "--repo", str(repository), "--json", *options]

    run(Path(sys.executable).with_name("feast"), "apply")
    seen: set[str] = set()
    for service in ("daily_full", "intraday_full", "daily_with_last_price"):
        # In this process: Feast alone takes seconds to start.
        done = CliRunner().invoke(cli.build_app(), command(service, 300))
        assert done.exit_code == 0, done.output
        report = json.loads(done.stdout)
        assert report["passed"]
        assert report["faults"] == []
        print(json.dumps(report["checks"], indent=1), report["seconds"])
        planted = {check["view"]: check["cases"] for check in report["checks"] if check["check"] == "planted signal"}
        assert all(planted.values()), "a signal was planted in each view"
        seen |= {check["view"] for check in report["checks"]}
    assert {f"{spec.name}@{spec.version}" for spec in VIEWS} <= seen
    assert "last_price_position" in seen, "on-demand views too"
    connection.execute("UPDATE features.daily_candles__v1 SET available_timestamp = event_timestamp")
    connection.commit()
    message = run(sys.executable, "-m", "tapeline", *command("daily_full", 150), code=1)
    assert "FeatureCheckError" in message
    assert "daily_candles@1" in message
