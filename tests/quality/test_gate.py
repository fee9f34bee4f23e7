"""The gate in a back-fill: scores stand with the rows, and a refusal leaves nothing but its record."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pandera.polars as pa
import psycopg
import pytest
from tapeline.compute import backfill
from tapeline.core.errors import QualityError
from tapeline.core.settings import get_settings
from tapeline.core.timestamps import DAY_US, HOUR_US
from tapeline.quality import definition as definitions
from tapeline.quality import quality_rules
from tapeline.quality.freshness import Sessions
from tapeline.quality.report import view_quality
from tapeline.quality.score import Counts
from tapeline.quality.tables import blocks, scored_views, totals
from tapeline.storage.feature_tables import registered_views
from tapeline.storage.migrations import migrate

from tests.compute.oracle import BARS, FIRST_US, read_table, record
from tests.quality.test_statistics import history

LOW = pa.DataFrameSchema({"ema_2": pa.Column(float, pa.Check.le(101.0), nullable=True)}, name="low")


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "_DEFINED", {})


def recorded(connection: psycopg.Connection) -> list[tuple]:
    rows = connection.execute("SELECT verdict, rows, entities FROM tapeline.quality_scores ORDER BY id").fetchall()
    connection.commit()
    return rows


def counted(connection: psycopg.Connection, table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM tapeline.{table}").fetchone()
    connection.commit()
    return row[0]


def test_a_sound_backfill_scores_one_and_adds_a_block_for_what_is_new(connection: psycopg.Connection) -> None:
    record(connection, BARS, [history("A", 30), history("B", 30)], 0)
    report = backfill(connection, BARS)
    assert (report.quality, report.quality_warnings) == (0.8, (  # bars 60 µs late, the source declares no lag
        "bars_view@1: score 0.800 is below 0.9 (completeness 1.000, freshness 1.000, reliability 0.000, validity 1.000)",
    ))  # fmt: skip
    assert recorded(connection) == [("warned", 60, ["A", "B"])]
    assert backfill(connection, BARS).quality is None
    assert len(recorded(connection)) == 1
    counts, freshness, verdicts = totals(connection, "bars_view", 1)
    connection.commit()
    # Features of 2 rows have a value from the second (EMA), third (ATR), first (OBV), second (RETURN) row on.
    assert counts.cells_filled == counts.cells_expected == 2 * (4 * 30 - 4)
    assert (counts.rows, counts.rows_late, counts.rows_valid, freshness) == (60, 60, 60, 1.0)
    assert verdicts == {"warned": 1}


def test_a_declared_lag_makes_rows_reliable_and_a_correction_is_not(connection: psycopg.Connection) -> None:
    with connection.transaction():
        connection.execute(
            "INSERT INTO tapeline.sources (source, kind, declared_lag_us) VALUES ('bars-source', 'bars', 60)"
        )
    scenario = history("A", 30)
    record(connection, BARS, [scenario], 0)
    assert backfill(connection, BARS).quality == 1.0
    last = scenario.rows[-1]
    corrected = replace(last, run=1, available_us=last.available_us + HOUR_US, values=(*last.values[:4], 101.0, 9.0))
    record(connection, BARS, [replace(scenario, rows=(*scenario.rows, corrected))], 1)
    report = backfill(connection, BARS)
    assert report.rows_added == 1
    assert report.quality == pytest.approx(0.8)
    newest = blocks(connection, "bars_view", 1)[0]
    connection.commit()
    assert newest.counts == Counts(1, 4, 4, 0, 1, 0, 1)  # in particular: not in its warm-up, though alone in its block


def test_a_blocking_rule_refuses_the_batch_and_nothing_of_it_stays(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    quality_rules("bars_view", 1, action="block")(LOW)
    record(connection, BARS, [history("A", 30), history("B", 30, close=99.0)], 0)
    with pytest.raises(QualityError) as refused:
        backfill(connection, BARS)
    for part in ("60 rows of bars_view@1 were refused", "rule ema_2: less_than_or_equal_to(101.0)", "A at 2010-01-",
                 "Nothing was written", "TAPELINE_QUALITY_OVERRIDE=bars_view@1"):  # fmt: skip
        assert part in str(refused.value)
    assert read_table(connection, BARS) == {}
    for table in ("backfill_progress", "state_snapshots", "stale_statistics"):
        assert counted(connection, table) == 0
    assert recorded(connection) == [("blocked", 60, ["A", "B"])]
    assert backfill(connection, BARS, symbols=["B"]).rows_added == 30  # the other entity is sound
    monkeypatch.setenv("TAPELINE_QUALITY_OVERRIDE", "other, bars_view@1")
    get_settings.cache_clear()
    try:
        assert backfill(connection, BARS).rows_added == 30
    finally:
        monkeypatch.undo()
        get_settings.cache_clear()
    assert [verdict for verdict, *_ in recorded(connection)] == ["blocked", "warned", "overridden"]


def test_a_low_score_blocks_too_and_a_warning_is_logged(
    connection: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    quality_rules("bars_view", block_below=0.75)(LOW)
    record(connection, BARS, [history("A", 30, close=150.0)], 0)
    with pytest.raises(QualityError, match=r"score 0\.\d+ is below 0\.75"):
        backfill(connection, BARS)
    definitions._DEFINED.clear()
    quality_rules("bars_view")(LOW)
    with caplog.at_level(logging.WARNING, logger="tapeline.quality"):
        report = backfill(connection, BARS)
    assert report.rows_added == 30
    assert any("rule ema_2: less_than_or_equal_to(101.0)" in line for line in caplog.messages)
    assert tuple(caplog.messages) == report.quality_warnings


def test_a_run_killed_before_its_commit_leaves_no_score(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    record(connection, BARS, [history("A", 30)], 0)
    with monkeypatch.context() as patch:
        patch.setattr("tapeline.compute.writing.write_progress", die)
        with pytest.raises(KeyboardInterrupt):
            backfill(connection, BARS)
    assert recorded(connection) == []
    assert counted(connection, "stale_statistics") == 0


def test_a_report_sums_blocks_and_asks_the_clock_for_freshness(edition_database: tuple[str, str]) -> None:
    _, url = edition_database
    quality_rules("bars_view", half_life_rows=5)(LOW)
    with psycopg.connect(url) as connection:
        migrate(connection)
        for run, symbol in enumerate(("A", "B")):
            record(connection, BARS, [history(symbol, 30, run)], run)
            backfill(connection, BARS)
        assert scored_views(connection) == [("bars_view", 1)]
        registered = registered_views(connection)[0]
        connection.commit()
        closes = FIRST_US + np.arange(60) * DAY_US
        sessions = Sessions(closes - DAY_US // 4, closes)
        asked = {"registered": registered, "sessions": sessions, "settings": get_settings()}
        fresh = view_quality(connection, "bars_view", 1, at_us=int(closes[30]) + 60, **asked)
        assert (fresh.freshness.rows_behind, fresh.factors["freshness"]) == (1.0, 1.0)
        old = view_quality(connection, "bars_view", 1, at_us=int(closes[35]) + 60, **asked)
        assert (old.freshness.rows_behind, old.factors["freshness"]) == (6.0, 0.5)
        assert old.score == pytest.approx(fresh.score - 0.05)
        assert (old.counts.rows, old.verdicts) == (60, {"warned": 2})
        (rule,) = old.broken
        assert (rule.rule, rule.blocks) == ("ema_2: less_than_or_equal_to(101.0)", 2)
        assert rule.rows == old.counts.rows - old.counts.rows_valid
        before = view_quality(connection, "bars_view", 1, at_us=FIRST_US - 1, **asked)
        assert (before.freshness.newest, before.factors["freshness"]) == (None, 0.0)
