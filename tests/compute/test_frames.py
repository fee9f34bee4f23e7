"""Weeks from days in two ways, as rows and as a time frame, filled from the same stored bars."""

from __future__ import annotations

import math

import numpy as np
import psycopg
from tapeline.compute import backfill
from tapeline.compute.sessions import session_times
from tapeline.core.timestamps import DAY_US, to_us
from tapeline.features.request import FeatureRequest
from tapeline.features.timeframes import TimeFrame
from tapeline.features.view import FeatureViewSpec, LongerBars, SessionBars

from tests.compute.oracle import Row, Scenario, picked, read_table, record

of = FeatureRequest.of
WEEKS = FeatureViewSpec(
    "weeks", 1, LongerBars("days", "XNYS", TimeFrame.parse("week")), (of("SMA", timeperiod=2), of("RETURN")), 0
)
DAYS = FeatureViewSpec(
    "days",
    1,
    SessionBars("days", "XNYS"),
    (of("SMA", frame="week", timeperiod=2), of("RETURN", frame="week"), of("RETURN", frame="week/partial")),
    0,
)
LAG_US = 60_000_000


def _sessions() -> list[tuple[int, int]]:
    """Opens and closes from a Monday over fourteen weeks, Good Friday and half days among them."""
    times = session_times("XNYS")
    first = int(np.searchsorted(times.open_us, to_us("2013-02-04T00:00:00+00:00")))
    return list(
        zip(times.open_us[first : first + 68].tolist(), times.close_us[first : first + 68].tolist(), strict=True)
    )


def _history() -> tuple[Scenario, list[float]]:
    rng = np.random.default_rng(9)
    close = (50 * np.exp(np.cumsum(rng.normal(0, 0.02, 68)))).tolist()
    rows = []
    for number, ((open_us, close_us), price) in enumerate(zip(_sessions(), close, strict=True)):
        values = (float(open_us), price, price + 1, price - 1, price, 10.0)
        late_us = 5 * DAY_US if number == 31 else 0  # one day arrives when its week is over
        rows.append(Row(int(number > 40), close_us, 0, close_us + LAG_US + late_us, False, values))
    return Scenario("A", tuple(rows), (), LAG_US), close


def _weeks(known: list[tuple[int, float]]) -> list[float]:
    """The last close of each ISO week."""
    weeks: dict[int, float] = {}
    for at_us, price in known:
        weeks[(at_us // DAY_US + 3) // 7] = price
    return list(weeks.values())


def test_weeks_as_rows_and_as_a_frame_show_what_was_known(connection: psycopg.Connection) -> None:
    scenario, _ = _history()
    with connection.transaction():
        connection.execute(
            "INSERT INTO tapeline.sources (source, kind, declared_lag_us) VALUES ('days', 'bars', %s)", (LAG_US,)
        )
    for run in range(2):
        record(connection, WEEKS, [scenario], run)
        for spec in (WEEKS, DAYS):
            assert backfill(connection, spec).rows_added > 5
            assert backfill(connection, spec).rows_added == 0
    tables = {spec.name: read_table(connection, spec)["A"] for spec in (WEEKS, DAYS)}
    compared = 0
    for moment_us in sorted({row.available_us for row in scenario.rows})[12:]:
        known = [(row.event_us, row.values[4]) for row in scenario.rows if row.available_us <= moment_us]
        last_us = known[-1][0]
        friday = (last_us // DAY_US + 3) % 7 == 4
        finished = _weeks(known) if friday else _weeks(known)[:-1]
        wanted = (sum(finished[-2:]) / 2, finished[-1] / finished[-2] - 1.0)
        for name in ("weeks", "days"):
            row = picked(tables[name], moment_us)
            assert row is not None
            np.testing.assert_allclose(row[4][:2], wanted, rtol=1e-12)
            compared += 1
        partial = _weeks(known)
        given = picked(tables["days"], moment_us)
        assert given is not None
        assert math.isclose(given[4][2], partial[-1] / partial[-2] - 1.0, rel_tol=1e-12)
    assert compared > 100
