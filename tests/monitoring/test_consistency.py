"""The proof: what a real server served, replayed from the offline store, and what the job says when that is disturbed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psycopg
import pytest
import redis
from tapeline.core.settings import Settings
from tapeline.core.timestamps import from_us
from tapeline.datasets.vintage import safe_horizon
from tapeline.monitoring.consistency import Cause, ConsistencyReport, verify
from tapeline.storage.keys import entity_key_sorted, view_prefix
from tapeline_client import Bar, Client, EntityStatus, Trades

from tests.serving import world

BARS_STORED, TRADES_STORED = 58, 800


class Scene:
    """A database with raw rows of two symbols, computed and materialized, and a server over it."""

    def __init__(self, settings: Settings, store: redis.Redis, client: Client) -> None:
        self.settings, self.store, self.client = settings, store, client
        self.bars = {
            "AAA": world.bar_history(1, 60),
            "BBB": world.bar_history(2, 60, split_at=59),
        }
        self.trades = world.trade_history(3, 900)

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.settings.postgres_url, options="-c timezone=UTC")

    def live_bars(self, symbol: str) -> list[Bar]:
        history = self.bars[symbol]
        return [
            Bar(
                event_us=int(history.event_us[i]),
                **{name: float(history.columns[name][i]) for name in world.BARS},
            )
            for i in range(BARS_STORED, 60)
        ]

    def live_trades(self) -> Trades:
        part = slice(TRADES_STORED, 900)
        h = self.trades
        return Trades(h.event_us[part], h.sequence[part], h.price[part], h.size[part])

    def verify(self, **choice: int) -> ConsistencyReport:
        expected = self.client.model_info()
        for _ in range(100):
            if self.client.model_info().served_log.waiting == 0:
                break
            time.sleep(0.05)
        assert expected.served_log.dropped == 0
        with self.connect() as connection:
            return verify(connection, **choice)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("consistency")


@pytest.fixture
def scene(settings: Settings, tmp_path: Path) -> Iterator[Scene]:
    views = (world.DAILY, world.INTRADAY)
    with redis.Redis.from_url(settings.redis_url) as store:
        scene = Scene(settings, store, Client())
        with scene.connect() as connection:
            for symbol, history in scene.bars.items():
                world.insert_bars(connection, symbol, history, range(BARS_STORED))
                world.insert_trades(connection, symbol, scene.trades, TRADES_STORED)
        world.compute(settings, store, views)
        for spec in views:
            world.materialize(settings, store, spec)
        world.register_model(settings, tmp_path, views)
        with world.running_server(settings, tmp_path) as server, Client(server.target) as client:
            scene.client = client
            yield scene


def _record_split(scene: Scene, symbol: str, position: int) -> None:
    start = from_us(int(scene.bars[symbol].start_us[position]))
    with scene.connect() as connection:
        connection.execute(
            "INSERT INTO tapeline.corporate_actions (symbol, kind, event_timestamp, available_timestamp, ratio, source)"
            " VALUES (%s, 'split', %s, %s, 2, 'test')",
            [symbol, start, start],
        )


def test_clean_run_has_no_mismatch(scene: Scene) -> None:
    """Store values, live bars over a split that nobody names, live trades, unknown symbols: all replay to the same bits."""
    _record_split(scene, "BBB", 59)
    world.compute(scene.settings, scene.store, [world.DAILY])  # publishes it
    answers = scene.client.predict(["AAA", "BBB", "NOBODY"])
    answers += scene.client.predict(
        ["AAA", "BBB"],
        live_bars={"AAA": scene.live_bars("AAA"), "BBB": scene.live_bars("BBB")},
        live_trades={"AAA": scene.live_trades()},
    )
    assert [a.status for a in answers] == [EntityStatus.OK] * 2 + [EntityStatus.NO_FEATURES] + [EntityStatus.OK] * 2
    report = scene.verify()
    assert report.vectors == 5
    assert report.values == 25
    assert report.by_origin == {"store": 12, "none": 5, "live": 8}
    assert report.mismatches == []


def test_corrupted_online_value_is_found_and_named(scene: Scene) -> None:
    key = view_prefix("tapeline", world.DAILY.name, 1) + entity_key_sorted(["AAA"])
    value = bytearray(scene.store.get(key))
    value[-16] ^= 1  # the last bit of the second feature from the end
    scene.store.set(key, bytes(value))
    scene.client.predict(["AAA", "BBB"])
    report = scene.verify()
    assert report.unexplained == 1
    [found] = report.mismatches
    assert (found.entity, found.view, found.feature, found.cause) == ("AAA", "daily_small", "rsi_14", Cause.UNKNOWN)
    assert found.served != found.expected


def test_corrupted_state_is_found(scene: Scene) -> None:
    """A state of other numbers, well-formed as it is, gives live features that history does not."""
    world.put_bars(scene.store, "tapeline", "AAA", world.bar_history(9, 60), BARS_STORED)
    scene.client.predict(["AAA"], live_bars={"AAA": scene.live_bars("AAA")})
    report = scene.verify()
    assert report.unexplained == 3
    assert {m.origin for m in report.mismatches} == {"live"}


@pytest.mark.parametrize("case", ["recorded later", "available later"])
def test_live_rows_are_judged_by_what_was_known(scene: Scene, case: str) -> None:
    """A correction that nobody had recorded yet, or that nobody could have used yet, makes no served value wrong."""
    history = scene.bars["AAA"]
    live = {"AAA": scene.live_bars("AAA")}
    if case == "recorded later":
        scene.client.predict(["AAA"], live_bars=live)
        scene.verify()
    history.columns["close"][40] *= 1.01
    with scene.connect() as connection:
        later = case == "available later"
        world.insert_bars(connection, "AAA", history, [40], available_us=world.NOW_US + (1 if later else -1))
    if case == "available later":
        scene.client.predict(["AAA"], live_bars=live)
    report = scene.verify()
    assert report.by_origin["live"] == 3
    assert report.mismatches == []


def test_late_correction_is_attributed(scene: Scene) -> None:
    scene.client.predict(["AAA"])
    assert scene.verify().mismatch_count == 0
    history = scene.bars["AAA"]
    history.columns["close"][BARS_STORED - 1] *= 1.001
    with scene.connect() as connection:
        world.insert_bars(connection, "AAA", history, [BARS_STORED - 1], available_us=world.NOW_US - 1)
    world.compute(scene.settings, scene.store, [world.DAILY])
    report = scene.verify()
    assert set(report.causes) == {Cause.CORRECTION}
    assert report.unexplained == 0


def test_a_report_can_be_had_again_as_of_a_moment(scene: Scene) -> None:
    """As recorded before a correction there is no mismatch, however much is corrected afterwards."""
    scene.client.predict(["AAA"])
    assert scene.verify().mismatch_count == 0
    with scene.connect() as connection:
        before_us = safe_horizon(connection)
    history = scene.bars["AAA"]
    history.columns["close"][BARS_STORED - 2] *= 1.01
    with scene.connect() as connection:
        world.insert_bars(connection, "AAA", history, [BARS_STORED - 2], available_us=world.NOW_US - 1)
    world.compute(scene.settings, scene.store, [world.DAILY])
    scene.client.predict(["AAA"])  # served after the moment: not looked at
    now, then = scene.verify(), scene.verify(as_of_us=before_us)
    assert now.vectors > then.vectors == 1
    assert now.mismatch_count > then.mismatch_count == 0


def test_late_row_is_attributed(scene: Scene) -> None:
    scene.client.predict(["AAA"])
    with scene.connect() as connection:
        world.insert_bars(connection, "AAA", scene.bars["AAA"], [BARS_STORED], available_us=world.NOW_US - 1)
    world.compute(scene.settings, scene.store, [world.DAILY])
    assert set(scene.verify().causes) == {Cause.LATE_ROW}


def test_online_store_behind_is_lag(scene: Scene) -> None:
    """A row was computed but not materialized; and an entity that was never materialized at all."""
    with scene.connect() as connection:
        world.insert_bars(connection, "AAA", scene.bars["AAA"], [BARS_STORED])
    world.compute(scene.settings, scene.store, [world.DAILY])
    scene.store.delete(view_prefix("tapeline", world.DAILY.name, 1) + entity_key_sorted(["BBB"]))
    scene.client.predict(["AAA", "BBB"])
    report = scene.verify()
    assert set(report.causes) == {Cause.LAG}
    assert {m.entity for m in report.mismatches} == {"AAA", "BBB"}


def test_live_rows_on_a_state_from_before_a_correction_are_lag(scene: Scene) -> None:
    """The correction was recorded, but no back-fill has taken it into the state yet."""
    history = scene.bars["AAA"]
    history.columns["close"][40] *= 1.01
    with scene.connect() as connection:
        world.insert_bars(connection, "AAA", history, [40], available_us=world.NOW_US - 1)
    scene.client.predict(["AAA"], live_bars={"AAA": scene.live_bars("AAA")})
    report = scene.verify()
    assert report.mismatch_count > 0
    assert set(report.causes) == {Cause.LAG}


def test_a_split_that_was_not_published_is_named(scene: Scene) -> None:
    """It was recorded, but no back-fill has run since: the next one will know of it, so the two differ by it."""
    _record_split(scene, "BBB", 59)
    scene.client.predict(["BBB"], live_bars={"BBB": scene.live_bars("BBB")})
    report = scene.verify()
    assert report.mismatch_count > 0
    assert set(report.causes) == {Cause.ACTION}


def test_a_split_that_only_the_caller_knows_is_named(scene: Scene) -> None:
    bars = scene.live_bars("BBB")
    scene.client.predict(["BBB"], live_bars={"BBB": [bars[0], replace(bars[1], split_ratio=2.0)]})
    report = scene.verify()
    assert report.mismatch_count > 0
    assert set(report.causes) == {Cause.ACTION}
    _record_split(scene, "BBB", 59)
    with scene.connect() as connection:
        connection.execute("UPDATE tapeline.corporate_actions SET created_timestamp = '2000-01-01'")
    assert scene.verify().mismatch_count == 0  # it was right: had the store known it, the features would be the same


def test_a_value_from_after_the_rule_is_no_lag(scene: Scene) -> None:
    """A stored row that the rule may not take yet was served as if it were known: nothing may excuse that."""
    scene.client.predict(["AAA"])
    scene.verify()
    with scene.connect() as connection:
        connection.execute(
            "UPDATE tapeline.served_vectors SET request_timestamp = request_timestamp - interval '3 days'"
        )
    report = scene.verify()
    assert report.unexplained == report.mismatch_count == 5


def test_a_live_value_where_there_was_no_state_is_found(scene: Scene) -> None:
    scene.client.predict(["NOBODY"], live_bars={"NOBODY": scene.live_bars("AAA")})
    assert scene.verify().mismatch_count == 0
    with scene.connect() as connection:
        connection.execute("UPDATE tapeline.served_vectors SET vector = %s", [np.full(5, 1.5, dtype="<f8").tobytes()])
    report = scene.verify()
    assert report.unexplained == 3 + 2


def test_values_of_after_the_replay_clock_are_named(scene: Scene, tmp_path: Path) -> None:
    earlier_us = int(scene.bars["AAA"].event_us[BARS_STORED - 3]) + 1
    settings = scene.settings.model_copy(update={"clock": from_us(earlier_us).isoformat()})
    with world.running_server(settings, tmp_path) as server, Client(server.target) as client:
        [answer] = client.predict(["AAA"])
    assert answer.status is EntityStatus.NO_FEATURES
    report = scene.verify()
    assert set(report.causes) <= {Cause.AHEAD}
    assert report.causes[Cause.AHEAD] == 3


def test_command(scene: Scene) -> None:
    """Exit code 0 and JSON on a clean run; 1 on an unexplained difference, whatever else there is."""
    scene.client.predict(["AAA"])
    scene.verify()

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                sys.executable,
                "-c",
                "import tapeline.cli.verify as s, typer; a = typer.Typer(); s.register(a); a()",
                *arguments,
            ],
            env=world.environment(scene.settings),
            check=False,
            capture_output=True,
            text=True,
        )

    clean = run("verify", "--json")
    assert clean.returncode == 0, clean.stderr
    assert json.loads(clean.stdout)["mismatches"] == 0
    with scene.connect() as connection:
        connection.execute("UPDATE tapeline.served_vectors SET vector = %s", [np.full(5, 1.5, dtype="<f8").tobytes()])
    broken = run("verify", "--json")
    assert broken.returncode == 1, broken.stderr
    assert json.loads(broken.stdout)["unexplained"] == 5
    assert json.loads(run("verify", "--since", "2999-01-01T00:00:00Z", "--json").stdout)["vectors"] == 0
