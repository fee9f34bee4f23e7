"""View specifications: what they refuse, and that they come back from JSON."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tapeline.core.errors import ParameterError, UnknownNameError
from tapeline.features.catalogue import VIEWS, view
from tapeline.features.request import FeatureRequest
from tapeline.features.view import FeatureViewSpec, SessionBars, TradeBars

ROWS = SessionBars("s", "XNYS")
SMA = FeatureRequest.of("SMA", timeperiod=3)


@pytest.mark.parametrize("spec", VIEWS, ids=lambda spec: spec.name)
def test_a_definition_survives_json(spec: FeatureViewSpec) -> None:
    read = FeatureViewSpec.from_definition(json.loads(json.dumps(spec.definition())))
    assert read.definition() == spec.definition()
    assert read.columns == spec.columns
    assert read.lineage_hash == spec.lineage_hash
    assert spec.columns == spec.plan.outputs
    assert len(f"{spec.table}_key") <= 63  # a PostgreSQL identifier


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Daily", 1, ROWS, (SMA,), 0), "is not a view name"),
        (("x" * 49, 1, ROWS, (SMA,), 0), "is not a view name"),
        (("daily", 0, ROWS, (SMA,), 0), "version is 0"),
        (("daily", 1, ROWS, (SMA,), -1), "ttl_us is -1"),
        (("daily", 1, ROWS, (), 0), "no feature"),
        (("daily", 1, ROWS, (SMA, SMA), 0), "'sma_3' is made twice"),
        (("daily", 1, TradeBars("s", "CMES", 0), (SMA,), 0), "width_us is 0"),
    ],
)
def test_impossible_views_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        FeatureViewSpec(*arguments)


@pytest.mark.parametrize("damage", [{"rows": {}}, {"rows": {"kind": "ticks"}}, {"features": [{}]}, {"version": "x"}])
def test_malformed_definitions_are_refused(damage: dict) -> None:
    with pytest.raises(ParameterError):
        FeatureViewSpec.from_definition({**VIEWS[0].definition(), **damage})


def test_views_are_found_by_name_and_version() -> None:
    assert view("daily_technical") is view("daily_technical@1") is view("daily_technical", 1)
    with pytest.raises(UnknownNameError, match="Did you mean daily_technical"):
        view("daily_tecnical")
    with pytest.raises(UnknownNameError, match="daily_technical@1"):
        view("daily_technical@9")
    with pytest.raises(UnknownNameError):
        view("daily_technical@newest")


def test_reading_a_specification_brings_no_frame_library() -> None:
    code = (
        "import sys; from tapeline.features.catalogue import VIEWS; from tapeline.storage import state_codec;"
        "print([m for m in ('pandas', 'polars', 'pyarrow', 'psycopg', 'exchange_calendars') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
