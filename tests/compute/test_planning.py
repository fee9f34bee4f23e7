"""The plan of a back-fill: what is missing and why, and that the back-fill does just that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tapeline.compute import backfill, backfill_plan
from tapeline.core.errors import EmptyDataError, LineageError, UnknownNameError
from tapeline.core.timestamps import DAY_US
from tapeline.features.request import FeatureRequest

from tests.compute.oracle import (
    BARS,
    FIRST_US,
    LONGER,
    TRADED,
    TRADES,
    Row,
    Scenario,
    Split,
    bar_scenario,
    record,
    trade_scenario,
)

DAYS = 12


def _bar(day: int, *, run: int = 0, known_us: int | None = None, deleted: bool = False, close: float = 100.0) -> Row:
    event_us = FIRST_US + day * DAY_US
    values = (float(event_us - DAY_US // 4), close, close + 1, close - 1, close, 5.0)
    return Row(run, event_us, 0, event_us + 60 if known_us is None else known_us, deleted, values)


def test_each_reason_is_named_with_its_range(connection: psycopg.Connection[Any]) -> None:
    later_us = FIRST_US + 20 * DAY_US
    rows = [_bar(day) for day in range(DAYS) if day != 3]
    scenario = Scenario(
        "A",
        (
            *rows,
            _bar(DAYS, run=1), _bar(DAYS + 1, run=1),
            _bar(3, run=2, known_us=later_us),
            _bar(5, run=3, known_us=later_us + 1, close=90.0),
            _bar(7, run=4, known_us=later_us + 2, deleted=True),
        ),
        (Split(5, FIRST_US + 9 * DAY_US, later_us + 3, False, 2.0),),
    )  # fmt: skip
    cases: list[tuple[dict[str, int], int, int, int]] = [
        ({"never computed": 11}, 0, 11, 11),
        ({"new rows": 2}, DAYS, 2, 2),
        ({"late rows": 1}, 3, 1, 11),
        ({"corrections": 1}, 5, 1, 9),
        ({"retractions": 1}, 7, 1, 7),
        ({"splits & dividends": 1}, 9, 0, 4),  # the bar that ends with the split is on the old basis
    ]
    other = Scenario("B", (_bar(0),), ())
    for run, (reasons, first_day, raw_rows, about) in enumerate(cases):
        record(connection, BARS, [scenario, other], run)
        (missing,) = backfill_plan(connection, BARS, symbols=["A"])
        assert dict(missing.reasons) == reasons
        assert (missing.first_event_us - FIRST_US) // DAY_US == first_day
        assert missing.last_event_us == FIRST_US + (DAYS + 1 if run else DAYS - 1) * DAY_US
        assert (missing.raw_rows, missing.estimated_rows) == (raw_rows, about)
        assert missing.estimated_s > 0
        assert len(backfill_plan(connection, BARS)) == 2  # B is never computed here
        report = backfill(connection, BARS, symbols=["A"])
        assert report.rows_read == raw_rows
        if run < 2:
            assert report.rows_computed == about
        assert backfill_plan(connection, BARS, symbols=["A"]) == []
    data = backfill_plan(connection, BARS)[0].as_dict()
    assert (data["symbol"], data["first_event"], data["reasons"]) == (
        "B",
        "2010-01-04T00:00:00+00:00",
        {"never computed": 1},
    )


@pytest.mark.parametrize("kind", ["bars", "trades", "longer", "tick", "dollar", "each trade"])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_back_fill_does_what_the_plan_says(connection: psycopg.Connection[Any], kind: str, seed: int) -> None:
    spec = {"bars": BARS, "trades": TRADES, "longer": LONGER}.get(kind) or TRADED[kind]
    rng = np.random.default_rng(seed)
    make = bar_scenario if spec.rows.raw == "bars" else trade_scenario
    scenarios = [s for n in range(3) if (s := make(f"{kind}{seed}_{n}", rng, 3)).rows]
    for run in range(3):
        record(connection, spec, scenarios, run)
        symbols = [s.symbol for s in scenarios if s.recorded_by(run).rows]
        if not symbols:
            continue
        plan = backfill_plan(connection, spec, symbols=symbols)
        assert all(missing.reasons for missing in plan)
        report = backfill(connection, spec, symbols=symbols, raw_rows_max=4 if run == 2 else 1_000)
        assert report.entities_changed == len(plan)
        assert report.rows_read == sum(missing.raw_rows for missing in plan)
        assert backfill_plan(connection, spec, symbols=symbols) == []


def test_a_plan_writes_nothing_and_refuses_as_the_back_fill_does(connection: psycopg.Connection[Any]) -> None:
    with pytest.raises(EmptyDataError, match="tapeline ingest bars-source"):
        backfill_plan(connection, BARS)
    record(connection, BARS, [Scenario("AAPL", (_bar(0),), ())], 0)
    with pytest.raises(UnknownNameError, match="Did you mean AAPL"):
        backfill_plan(connection, BARS, symbols=["APPL"])
    assert len(backfill_plan(connection, BARS)) == 1
    assert connection.execute("SELECT count(*) FROM tapeline.feature_view_versions").fetchone() == (0,)
    connection.rollback()
    backfill(connection, BARS)
    changed = replace(BARS, features=(*BARS.features[1:], FeatureRequest.of("SMA", timeperiod=5)))
    with pytest.raises(LineageError, match="to 2"):
        backfill_plan(connection, changed)
    (missing,) = backfill_plan(connection, replace(changed, version=2))
    assert (missing.version, dict(missing.reasons)) == (2, {"never computed": 1})
