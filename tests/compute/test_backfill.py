"""The back-fill as a whole: registration, going on, killed and repeated runs, Redis, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import psycopg
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tapeline.compute import backfill
from tapeline.core.errors import (
    DiskFullError,
    EmptyDataError,
    LineageError,
    ParameterError,
    UnavailableError,
    UnknownNameError,
)
from tapeline.core.timestamps import DAY_US, MINUTE_US, SECOND_US, from_us
from tapeline.features.request import FeatureRequest
from tapeline.storage.feature_tables import registered_views
from tapeline.storage.postgres import sibling
from tapeline.storage.snapshots import newest_states, publish_states
from tapeline.storage.state_codec import decode_state, state_key

from tests.compute.oracle import (
    BARS,
    FIRST_US,
    TRADES,
    Row,
    Scenario,
    bits,
    check_visible,
    features_of_bars,
    read_table,
    record,
)

DAYS = 40


def _history(symbol: str, runs: list[int]) -> Scenario:
    rng = np.random.default_rng(5)
    rows = []
    for day, run in enumerate(runs):
        event_us = FIRST_US + day * DAY_US
        close = 100 + float(rng.normal())
        values = (float(event_us - DAY_US // 4), close - 0.5, close + 1, close - 1, close, float(rng.integers(1, 99)))
        rows.append(Row(run, event_us, 0, event_us + 60, False, values))
    return Scenario(symbol, tuple(rows), ())


@given(cuts=st.lists(st.integers(1, DAYS - 1), max_size=4, unique=True).map(sorted))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_runs_cut_anywhere_give_bit_for_bit_what_one_gives(connection: psycopg.Connection, cuts: list[int]) -> None:
    symbol = "CUT" + "_".join(map(str, cuts))
    runs = [sum(day >= cut for cut in cuts) for day in range(DAYS)]
    scenario = _history(symbol, runs)
    for run in range(len(cuts) + 1):
        record(connection, BARS, [scenario], run)
        report = backfill(connection, BARS, symbols=[symbol])
        assert report.rows_computed == report.rows_added == runs.count(run)  # only what is new
    rows = sorted(read_table(connection, BARS)[symbol])
    expected = features_of_bars(BARS, [(r.event_us, 0, r.values) for r in scenario.rows], ())
    assert [bits(row[4]) for row in rows] == [bits(expected[(row[0], row[1])]) for row in rows]
    assert [(row[0], row[2]) for row in rows] == [(r.event_us, r.available_us) for r in scenario.rows]


@pytest.mark.parametrize("retracted_in", [0, 1])
def test_a_bar_that_a_retraction_left_open_gets_its_row_once(connection: psycopg.Connection, retracted_in: int) -> None:
    def trade(run: int, second: int, retracted_s: int | None = None) -> Row:
        at_us, late_us = FIRST_US + second * SECOND_US, 0 if retracted_s is None else (retracted_s - second) * SECOND_US
        return Row(run, at_us, 0, at_us + late_us, retracted_s is not None, (100.0 + second, 1.0))

    # The first bar loses a trade and gets a new row; the trade after it goes, too, so the state saved behind that has the bar open.
    rows = [trade(0, 10), trade(0, 20), trade(0, 130), trade(retracted_in, 20, 135), trade(retracted_in, 130, 135)]
    scenario = Scenario("A", (*rows, trade(retracted_in + 1, 200)), ())
    for run in range(retracted_in + 2):
        record(connection, TRADES, [scenario], run)
        backfill(connection, TRADES)
        check_visible(connection, TRADES, [scenario.recorded_by(run)])
    keys = sorted((row[0], row[2]) for row in read_table(connection, TRADES)["A"])
    end_us = FIRST_US + MINUTE_US
    assert keys == [(end_us, end_us), (end_us, FIRST_US + 135 * SECOND_US)]


def test_a_run_killed_before_its_commit_leaves_nothing_and_is_repeated(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(connection, BARS, [_history("A", [0] * DAYS)], 0)
    with monkeypatch.context() as patch:
        patch.setattr("tapeline.compute.writing.write_progress", _die)
        with pytest.raises(KeyboardInterrupt):
            backfill(connection, BARS)
    assert read_table(connection, BARS) == {}
    assert backfill(connection, BARS).rows_added == DAYS
    assert backfill(connection, BARS).rows_added == 0


def _die(*_: object) -> None:
    raise KeyboardInterrupt


def test_another_definition_under_the_same_version_is_refused_by_name(connection: psycopg.Connection) -> None:
    record(connection, BARS, [_history("A", [0] * 3)], 0)
    backfill(connection, BARS)
    changed = replace(BARS, features=(*BARS.features[1:], FeatureRequest.of("SMA", timeperiod=5)))
    with pytest.raises(LineageError, match=r"EMA\(timeperiod=2\) was removed; SMA\(timeperiod=5\) was added.*to 2"):
        backfill(connection, changed)
    assert backfill(connection, replace(changed, version=2)).registered
    assert [(r.view, r.version) for r in registered_views(connection)] == [("bars_view", 1), ("bars_view", 2)]


def test_refusals_say_what_to_do(connection: psycopg.Connection) -> None:
    with pytest.raises(EmptyDataError, match="tapeline ingest bars-source"):
        backfill(connection, BARS)
    record(connection, BARS, [_history("AAPL", [0] * 3)], 0)
    with pytest.raises(UnknownNameError, match="Did you mean AAPL"):
        backfill(connection, BARS, symbols=["APPL"])
    connection.execute("SELECT 1")
    with pytest.raises(ParameterError, match="transaction"):
        backfill(connection, BARS)


def test_the_newest_state_is_published_and_an_older_one_never_replaces_it(
    connection: psycopg.Connection, redis_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        scenario = _history("A", [0] * 5 + [1] * 5)
        key = state_key("p", BARS.name, 1, "A")
        for run in (0, 1):
            record(connection, BARS, [scenario], run)
            assert backfill(connection, BARS, redis=client, project="p").states_published == 1
            saved = decode_state(client.get(key), plan_hash=BARS.plan.hash)
            assert (saved.rows_seen, saved.event_us) == (5 * run + 5, FIRST_US + (5 * run + 4) * DAY_US)
        newest = newest_states(connection, BARS, ["A"])["A"]
        connection.rollback()
        for older in (
            replace(newest, available_us=newest.available_us - 1, event_us=newest.event_us + 1),
            replace(newest, recorded_us=newest.recorded_us - 1),
        ):
            assert publish_states(client, "p", BARS, {"A": older}) == 0
        retracted = replace(newest, available_us=newest.available_us + 1, event_us=newest.event_us - DAY_US)
        assert publish_states(client, "p", BARS, {"A": retracted}) == 1
        client.flushall()
        assert backfill(connection, BARS, redis=client, project="p").states_published == 1  # nothing new, but lost
        assert client.get(key) is not None


def test_what_is_recorded_after_a_vintage_changes_nothing_at_it(connection: psycopg.Connection) -> None:
    scenario = _history("A", [0] * 6)
    first = scenario.rows[2]
    wrong = replace(first, run=1, available_us=first.available_us + 9 * DAY_US, values=(first.values[0], 1, 3, 1, 2, 9))
    scenario = replace(scenario, rows=(*scenario.rows, wrong))
    record(connection, BARS, [scenario], 0)
    backfill(connection, BARS)
    before = sorted(read_table(connection, BARS)["A"])
    record(connection, BARS, [scenario], 1)
    assert backfill(connection, BARS).rows_added == 4  # the corrected day and the three after it
    after = sorted(read_table(connection, BARS)["A"])
    earlier = [row for row in after if row[2] < wrong.available_us]
    assert [(*row[:4], bits(row[4])) for row in earlier] == [(*row[:4], bits(row[4])) for row in before]
    assert {row[2] for row in after} - {row[2] for row in before} == {wrong.available_us}


def test_old_snapshots_are_thinned(connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tapeline.storage.snapshots.SNAPSHOTS_MAX", 10)
    monkeypatch.setattr("tapeline.storage.snapshots.SNAPSHOTS_KEPT", 4)
    scenario = _history("A", list(range(16)))
    for run in range(16):
        record(connection, BARS, [scenario], run)
        backfill(connection, BARS)
    row = connection.execute("SELECT count(*), max(event_timestamp) FROM tapeline.state_snapshots").fetchone()
    assert row is not None
    assert 4 <= row[0] <= 10
    assert row[1] == from_us(scenario.rows[-1].event_us)


@pytest.mark.parametrize("writers", [1, 3])
def test_what_is_written_does_not_depend_on_how_many_write(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, writers: int
) -> None:
    monkeypatch.setattr("tapeline.compute.writing.CELLS_PER_WRITER", 1)
    symbols = [f"S{n}" for n in range(7)]
    histories = [_history(symbol, [0] * (5 * n + 2)) for n, symbol in enumerate(symbols)]
    record(connection, BARS, histories, 0)
    report = backfill(connection, BARS, writers=writers)
    assert report.rows_added == sum(len(history.rows) for history in histories)
    row = connection.execute(
        "SELECT count(DISTINCT created_timestamp), count(DISTINCT (symbol, created_timestamp)),"
        " (SELECT count(*) FROM tapeline.backfill_progress), (SELECT count(DISTINCT entity) FROM tapeline.state_snapshots)"
        " FROM features.bars_view__v1"
    ).fetchone()
    assert row == (writers, 7, 7, 7)  # as many transactions as writers, and each entity in one
    connection.rollback()
    for history in histories:
        found = sorted(read_table(connection, BARS)[history.symbol])
        expected = features_of_bars(BARS, [(r.event_us, 0, r.values) for r in history.rows], ())
        assert [bits(r[4]) for r in found] == [bits(expected[(r[0], r[1])]) for r in found]
    assert backfill(connection, BARS, writers=writers).rows_added == 0


def test_a_writer_that_fails_leaves_its_entities_whole(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tapeline.compute.writing.CELLS_PER_WRITER", 1)
    record(connection, BARS, [_history(symbol, [0] * 9) for symbol in "ABC"], 0)
    connection.execute("CREATE TABLE refused AS SELECT 'B' AS entity")
    connection.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.entity IN (SELECT entity FROM refused) THEN
                RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON tapeline.backfill_progress FOR EACH ROW EXECUTE FUNCTION refuse();
    """)
    connection.commit()
    with pytest.raises(DiskFullError, match=r"no room.*features\.bars_view__v1"):
        backfill(connection, BARS, writers=3)
    assert {symbol: len(rows) for symbol, rows in read_table(connection, BARS).items()} == {"A": 9, "C": 9}
    connection.execute("DELETE FROM refused")
    connection.commit()
    assert backfill(connection, BARS, writers=3).rows_added == 9


@pytest.mark.parametrize("moment", ["feature_view_versions", "backfill_progress"])
def test_a_server_that_goes_away_is_named_and_the_run_can_be_repeated(
    connection: psycopg.Connection, moment: str
) -> None:
    record(connection, BARS, [_history("A", [0] * 9)], 0)
    connection.execute(f"""
        CREATE FUNCTION go_away() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_terminate_backend(pg_backend_pid());
            RETURN NEW;
        END $$;
        CREATE TRIGGER go_away BEFORE INSERT ON tapeline.{moment} FOR EACH ROW EXECUTE FUNCTION go_away();
    """)
    connection.commit()
    with sibling(connection) as own, pytest.raises(UnavailableError, match=r"PostgreSQL went away.*run it again"):
        backfill(own, BARS)
    connection.execute(f"DROP TRIGGER go_away ON tapeline.{moment}")
    connection.commit()
    assert backfill(connection, BARS).rows_added == 9
