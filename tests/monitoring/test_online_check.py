"""The online store against the offline one, each difference planted on purpose in real stores."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psycopg
import pytest
import redis
from tapeline.core.settings import Settings
from tapeline.datasets.vintage import safe_horizon
from tapeline.features.request import FeatureRequest
from tapeline.monitoring.findings import Cause
from tapeline.monitoring.online_check import OnlineReport, compare_online
from tapeline.storage.materialized import Materialized, write_materialized
from tapeline.storage.packed import Layout, encode_many, row_times

from tests.monitoring.log_world import STORED, VIEW, LogWorld
from tests.serving import world

SYMBOLS = ("AAA", "BBB", "CCC")
WIDTH = len(VIEW.columns)


@pytest.fixture
def log(settings: Settings, connection: psycopg.Connection, tmp_path: Path) -> Iterator[LogWorld]:
    with redis.Redis.from_url(settings.redis_url) as store:
        yield LogWorld.make(settings, store, connection, tmp_path, SYMBOLS)


def compared(log: LogWorld, **choices: object) -> OnlineReport:
    choices = {"now_us": world.NOW_US, "looks": 1} | choices
    return compare_online(log.connection, log.store, log.settings.project, **choices)


def causes(log: LogWorld, **choices: object) -> dict[str, Cause]:
    """The cause of each entity's differences."""
    found = compared(log, **choices).found
    assert found.vectors == len(SYMBOLS)
    return {each.entity: each.cause for each in found.mismatches}


def brought(log: LogWorld) -> None:
    """Note, as materialization does, that everything recorded so far and visible by the clock is in Redis."""
    time.sleep(0.02)
    known = Materialized(end_us=world.NOW_US, recorded_us=safe_horizon(log.connection))
    write_materialized(log.store, log.settings.project, VIEW.name, VIEW.version, known)


def put(log: LogWorld, symbol: str, values: np.ndarray, *, layout: Layout | None = None, **times: int) -> None:
    """Write a value over the one that is there, with some of its times changed."""
    place = row_times(log.store.get(log.key(symbol)))._replace(**times)
    layout = layout or Layout.of_floats(VIEW.name, VIEW.version, VIEW.columns)
    [packed] = encode_many(layout, np.array([place]), values[np.newaxis])
    log.store.set(log.key(symbol), packed)


def test_stores_that_agree(log: LogWorld) -> None:
    report = compared(log)
    assert (report.found.vectors, report.found.values, report.found.mismatch_count) == (3, 3 * WIDTH, 0)
    assert report.found.by_view == {(f"{VIEW.name}@1", None): 3 * WIDTH}
    assert (report.expired, report.looks) == (0, 1)
    assert compared(log, views=["another"]).found.vectors == 0
    some = compared(log, entities=2).found
    assert some.vectors == 2


def test_what_came_after_the_last_materialization_is_lag_and_what_came_late_is_late(log: LogWorld) -> None:
    brought(log)
    log.record("AAA", STORED, available_us=world.NOW_US - 1)  # its time had been read
    assert causes(log) == {"AAA": Cause.LATE_ROW}
    log.record("BBB", STORED, available_us=world.NOW_US + 5)  # its time is still to come
    assert causes(log, now_us=world.NOW_US + 10) == {"AAA": Cause.LATE_ROW, "BBB": Cause.LAG}
    log.store.delete(f"tl:{log.settings.project}:materialized:{{{VIEW.name}@1}}")
    assert causes(log) == {"AAA": Cause.LAG}, "nobody knows what had been read"
    [found] = [each for each in compared(log).found.mismatches if each.feature == VIEW.columns[0]]
    assert found.used.event_us < found.recorded.event_us == log.bars["AAA"].event_us[STORED]
    assert (found.origin, found.request_id) == ("online", None)
    log.materialize()
    assert causes(log, now_us=world.NOW_US + 10) == {}


def test_a_correction_that_is_not_online_yet(log: LogWorld) -> None:
    brought(log)
    log.record("AAA", STORED - 1, close=1.01, available_us=world.NOW_US - 1)
    assert causes(log) == {"AAA": Cause.CORRECTION}


def test_entities_that_are_not_online(log: LogWorld) -> None:
    """Never brought; or gone after they had outlived the view, when readers saw nothing of them anyway."""
    log.store.delete(log.key("AAA"))
    assert causes(log) == {"AAA": Cause.LAG}
    later_us = world.NOW_US + VIEW.ttl_us
    assert causes(log, now_us=later_us) == {"AAA": Cause.EXPIRED}
    assert compared(log, now_us=later_us).expired == 2
    log.store.flushdb()
    assert causes(log, views=[VIEW.name]) == dict.fromkeys(SYMBOLS, Cause.LAG)
    report = compared(log)
    assert (report.found.vectors, report.not_online) == (0, [f"{VIEW.name}@1"])
    brought(log)  # lost since
    assert causes(log) == dict.fromkeys(SYMBOLS, Cause.LAG)


def test_values_of_another_version(log: LogWorld) -> None:
    """Of another layout, or what another version computed for the same event."""
    other = replace(VIEW, version=2, features=(FeatureRequest.of("SMA", timeperiod=9), *VIEW.features[1:]))
    other = replace(other, features=(*VIEW.features[1:], FeatureRequest.of("MOM", timeperiod=2)))
    world.compute(log.settings, log.store, [other])
    names = [name for name in VIEW.columns if name in other.columns]
    assert len(names) == WIDTH - 1
    put(log, "AAA", np.ones(2), layout=Layout.of_floats(VIEW.name, VIEW.version, ("x", "y")))
    event_us = row_times(log.store.get(log.key("BBB"))).event_us
    with log.connection.transaction():  # the other version's table has other values for the same features
        log.connection.execute(
            f"UPDATE features.\"{other.table}\" SET {names[0]} = 0.25 WHERE symbol = 'BBB'"
            " AND event_timestamp = to_timestamp(%s / 1e6)",
            (event_us,),
        )
    values = log.online("BBB")[0]
    values[VIEW.columns.index(names[0])] = 0.25
    put(log, "BBB", values)
    assert causes(log) == {"AAA": Cause.VERSION, "BBB": Cause.VERSION}


def test_numbers_that_nobody_computed(log: LogWorld) -> None:
    values, view = log.online("AAA")
    values[1] = np.nextafter(values[1], 0.0)
    put(log, "AAA", values)
    put(log, "BBB", log.online("BBB")[0], event_us=view["event_us"] + 1)  # a row that PostgreSQL does not have
    log.store.set(log.key("CCC"), b"no packed value")
    report = compared(log)
    assert {each.cause for each in report.found.mismatches} == {Cause.UNKNOWN}
    by_entity = {symbol: [m.feature for m in report.found.mismatches if m.entity == symbol] for symbol in SYMBOLS}
    assert by_entity["AAA"] == [VIEW.columns[1]]
    assert len(by_entity["BBB"]) == 1, "the values are those of another row"
    assert len(by_entity["CCC"]) == WIDTH


def test_rows_of_after_a_replayed_clock(log: LogWorld) -> None:
    earlier_us = int(log.bars["AAA"].event_us[STORED - 2]) + 1
    assert set(causes(log, now_us=earlier_us).values()) == {Cause.AHEAD}


def test_a_difference_that_passes_is_not_believed(log: LogWorld) -> None:
    """Between the first look and the next, a materialization brings what was missing."""
    log.store.delete(log.key("AAA"))
    timer = threading.Timer(0.1, log.materialize)
    timer.start()
    try:
        report = compared(log, looks=3, settle_s=1.0)
    finally:
        timer.join()
    assert (report.found.mismatch_count, report.looks) == (0, 2)


def test_the_sample_does_not_depend_on_order(log: LogWorld) -> None:
    """The same seed takes the same entities, whichever of them are online."""
    chosen = {}
    for seed in range(6):
        report = compared(log, entities=1, seed=seed, now_us=world.NOW_US - 400 * 86_400_000_000)
        chosen[seed] = {each.entity for each in report.found.mismatches}
        assert len(chosen[seed]) == 1
        log.store.delete(log.key("ZZZ"))
    assert len(set.union(*chosen.values())) > 1


def test_command(log: LogWorld, tmp_path: Path) -> None:
    values, _ = log.online("AAA")
    put(log, "AAA", values + 1)
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "tapeline",
            "verify-online",
            "--json",
            "--looks",
            "1",
            "--report",
            str(tmp_path / "o.html"),
        ],
        env=world.environment(log.settings),
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1, run.stderr
    told = json.loads(run.stdout)
    assert (told["entities"], told["values"], told["unexplained"]) == (3, 3 * WIDTH, WIDTH)
    assert "AAA" in (tmp_path / "o.html").read_text()
