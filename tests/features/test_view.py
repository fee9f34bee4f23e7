"""View specifications: what they refuse, and that they come back from JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from tapeline.core.errors import ParameterError, UnknownNameError
from tapeline.features.catalogue import VIEWS, view
from tapeline.features.lineage import lineage_changes
from tapeline.features.request import FeatureRequest
from tapeline.features.timeframes import TimeFrame
from tapeline.features.view import FeatureViewSpec, LongerBars, SessionBars, TradeBars, TradedBars, Trades

ROWS = SessionBars("s", "XNYS")
SMA = FeatureRequest.of("SMA", timeperiod=3)
LONG = FeatureRequest.of("KST", frame="1h/session/partial", last_within="90m")


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
        (("daily", 1, ROWS, (LONG,), 0), "kst_signal_.* has 68 characters, more than 63"),
    ],
)
def test_impossible_views_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        FeatureViewSpec(*arguments)


@pytest.mark.parametrize(
    ("rows", "arguments", "message"),
    [
        (TradeBars, (0,), "width_us is 0"),
        (TradedBars, ("money", 5.0), "'money' bars of 5.0"),
        (TradedBars, ("dollar", 0.0), "'dollar' bars of 0.0"),
        (TradedBars, ("tick", float("nan")), "bars of nan"),
        (LongerBars, (TimeFrame.parse("1h/partial"),), "cannot be 1h/partial"),
    ],
)
def test_impossible_rows_are_refused(rows: type, arguments: tuple, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        rows("s", "CMES", *arguments)


def test_rows_of_trades_survive_json_and_have_moments() -> None:
    spec = FeatureViewSpec("ticks", 1, Trades("s", "CMES"), (FeatureRequest.of("TICK_RULE"),), 0)
    read = FeatureViewSpec.from_definition(json.loads(json.dumps(spec.definition())))
    assert (read, read.lineage_hash, read.plan.moments) == (spec, spec.lineage_hash, True)


@pytest.mark.parametrize(
    "rows",
    [
        TradedBars("s", "CMES", "volume", 1000.0),
        LongerBars("s", "XNYS", TimeFrame.parse("1h/session")),
        LongerBars("s", "XNYS", TimeFrame.parse("week")),
    ],
    ids=str,
)
def test_every_kind_of_rows_and_frame_survives_json_and_is_in_the_lineage(rows: TradedBars | LongerBars) -> None:
    weekly = FeatureRequest.of("SMA", frame="week", timeperiod=3)
    spec = FeatureViewSpec("other", 1, rows, (SMA, weekly), 0, dividends=True)
    read = FeatureViewSpec.from_definition(json.loads(json.dumps(spec.definition())))
    assert read == spec
    assert read.lineage_hash == spec.lineage_hash
    assert spec.plan.moments == isinstance(rows, TradedBars)
    assert spec.columns == ("sma_3", "sma_3_week")
    others = [
        replace(spec, dividends=False),
        replace(spec, features=(SMA, FeatureRequest.of("SMA", frame="month", timeperiod=3))),
        replace(spec, rows=SessionBars("s", rows.calendar)),
    ]
    assert len({spec.lineage_hash, *(other.lineage_hash for other in others)}) == 4
    words = [lineage_changes(spec.definition(), "a", other.definition(), "b") for other in others]
    assert words[0] == ["prices are no longer adjusted for dividends"]
    assert "SMA(timeperiod=3) of week was removed" in words[1]
    assert any(word.startswith("rows: kind was") for word in words[2])


@pytest.mark.parametrize(
    "damage",
    [
        {"rows": {}},
        {"rows": {"kind": "ticks", "source": "s", "calendar": "XNYS"}},
        {"features": [{}]},
        {"version": "x"},
    ],
)
def test_malformed_definitions_are_refused(damage: dict) -> None:
    with pytest.raises(ParameterError):
        FeatureViewSpec.from_definition({**VIEWS[0].definition(), **damage})


def test_views_are_found_by_name_and_version() -> None:
    assert view("daily_technical") is view("daily_technical@2") is view("daily_technical", 2)
    with pytest.raises(UnknownNameError, match="Did you mean daily_technical"):
        view("daily_tecnical")
    with pytest.raises(UnknownNameError, match="daily_technical@2"):
        view("daily_technical@9")
    with pytest.raises(UnknownNameError):
        view("daily_technical@newest")


def test_reading_a_specification_brings_no_frame_library() -> None:
    code = (
        "import sys; from tapeline.features.catalogue import VIEWS; from tapeline.storage import state_codec;"
        "print([m for m in ('pandas', 'polars', 'pyarrow', 'psycopg', 'exchange_calendars') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
