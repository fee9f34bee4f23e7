from __future__ import annotations

import json

import pytest
import typer
from tapeline.cli import export as export_commands
from tapeline.cli import train as train_commands
from tapeline.core.errors import EmptyDataError, NaiveTimestampError, ParameterError
from tapeline.core.settings import get_settings
from tapeline.core.timestamps import DAY_US, to_us
from typer.testing import CliRunner

from tests.datasets.market import sessions_from
from tests.training.folders import random_walks, write_dataset


@pytest.fixture
def run(database, tmp_path, monkeypatch):
    monkeypatch.setenv("TAPELINE_POSTGRES_URL", database)
    monkeypatch.setenv("TAPELINE_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    app = typer.Typer()
    export_commands.register(app)
    train_commands.register(app)

    def invoke(*arguments: str):
        result = CliRunner().invoke(app, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    yield invoke
    get_settings.cache_clear()


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        (("AAPL", None, "MSFT", "session", None, None), ParameterError, "twice"),
        (("rows.csv", None, None, "5m", None, None), ParameterError, "file of entity rows"),
        (("rows.csv", "SELECT 1", None, "session", None, None), ParameterError, "one of the two"),
        (("absent.parquet", None, None, "session", None, None), ParameterError, "does not exist"),
        (("all", None, None, "session", "2013-01-01T00:00:00", None), NaiveTimestampError, "--start"),
        (("all", None, None, "change", "2013-01-01", None), ParameterError, "range"),
        (("AAPL", None, None, "change", "2013-01-01", "2013-01-02"), ParameterError, "no symbols"),
    ],
)
def test_choices_that_contradict(options, error, match):
    with pytest.raises(error, match=match):
        export_commands.asked_entities(*options)


def test_days_and_moments():
    chosen = export_commands.asked_entities("AAPL, MSFT", None, None, "session", "2013-01-02", "2013-01-02")
    day = to_us("2013-01-02T00:00:00+00:00")
    assert (chosen.symbols, chosen.start_us, chosen.end_us) == (("AAPL", "MSFT"), day, day + DAY_US - 1)
    assert export_commands.asked_entities("all", None, None, "5m", None, None).symbols is None
    changes = export_commands.asked_entities("all", None, None, "change", "2013-01-02", "2013-01-02")
    assert (changes.start_us, changes.end_us) == (day, day + DAY_US - 1)
    assert export_commands.asked_entities("all", "SELECT 1", None, "session", None, None).text == "SELECT 1"


def test_training_without_a_registry_and_an_empty_one(run, tmp_path):
    sessions = sessions_from("2008-01-02", 420)
    write_dataset(tmp_path / "d", sessions, *random_walks(sessions, symbols=2))
    (tmp_path / "c.json").write_text(
        json.dumps({"calibration_folds": 1, "resamples": 100, "parameters": {"rounds": 5, "min_data_in_leaf": 20}})
    )
    arguments = ["train", "--data", str(tmp_path / "d"), "--model", "toy", "--config", str(tmp_path / "c.json")]
    with pytest.raises(EmptyDataError, match="too few"):
        run(*arguments, "--json")
    arguments += ["--train-steps", "200", "--test-steps", "60", "--no-register", "--out", str(tmp_path / "b")]
    result = json.loads(run(*arguments, "--json").stdout)
    assert result["version"] is None
    assert set(result["metrics"]) >= {"model", "baselines", "against_best_baseline", "verdict", "calibration_curve"}
    assert (tmp_path / "b" / "model.onnx").is_file()
    assert json.loads(run("models", "list", "--json").stdout) == []
