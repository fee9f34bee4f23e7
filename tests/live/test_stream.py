"""From the venue to the tables: through the stream, a worker, the command, and a process that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import redis
from tapeline.live.gaps import GapReason, GapState, list_gaps
from tapeline.live.outcome import Outcome
from tapeline.live.recording import read_recording
from tapeline.live.replaying import replay_recording
from tapeline.streaming.plan import StreamPlan
from tapeline.streaming.worker import Worker

from tests.live.market import FIRST_US
from tests.live.venue import Faults
from tests.live.world import (
    SYMBOLS,
    Listener,
    expected,
    make_source,
    make_venue,
    places,
    sent_rows,
    truth_of_trades,
    without_available,
)
from tests.streaming.world import EACH, VOLUME, require_same

VIEWS = (VOLUME, EACH)


class MarketClock:
    """Goes on from the market's first moment."""

    def __init__(self) -> None:
        self._began = time.monotonic_ns()

    def now_us(self) -> int:
        return FIRST_US + (time.monotonic_ns() - self._began) // 1_000


def test_what_was_missed_and_filled_is_in_tables_and_features_as_if_nothing_had_been(
    database: str, redis_url: str
) -> None:
    faults = Faults()
    venue = make_venue("binance", 600, seed=21, faults=faults)
    faults.drop.add(places(venue, "trade", 100))
    faults.skip.update({places(venue, "trade", 200, pair=True), places(venue, "trade", 320, pair=True)})
    faults.swap.add(places(venue, "trade", 420, pair=True))
    truth = truth_of_trades(venue, SYMBOLS["binance"])
    with venue.running(expected("binance")), psycopg.connect(database) as connection:
        source = make_source("binance", venue, source="tape", calendar="XNYS", lag="1us")
        with Listener(source, database, redis_url, clock=MarketClock()) as listener:
            listener.until(lambda: listener.runner.connections.connected > 0)
            worker = Worker(listener.plan, VIEWS, redis=listener.client, connect=lambda: psycopg.connect(database))

            def whole() -> bool:
                worker.step(block_ms=1)
                return venue.done.is_set() and listener.runner.seen.trades == len(truth) and stored() == truth

            def stored() -> list[tuple[object, ...]]:
                with connection.transaction():
                    rows = connection.execute(
                        "SELECT symbol, (extract(epoch FROM event_timestamp) * 1000000)::bigint, sequence,"
                        " float8send(price) || float8send(size), side FROM tapeline.trades ORDER BY 1, 2, 3"
                    ).fetchall()
                return [(*row[:3], row[3][7::-1] + row[3][:7:-1], row[4], "") for row in rows]

            listener.until(whole, seconds=60)
            listener.end()
            worker.drain()
            worker.close()
            assert worker.counters.late >= 2
            assert require_same(connection, listener.client, listener.plan, VIEWS) > 2 * len(truth)
            late = connection.execute("SELECT count(*) FROM tapeline.stream_repairs").fetchone()
            assert late is not None
            assert late[0] >= 2


def test_a_consumer_that_stands_still_bounds_memory_and_loses_nothing(database: str, redis_url: str) -> None:
    venue = make_venue("binance", 1_500, seed=22)
    with venue.running(expected("binance")):
        source = make_source(
            "binance", venue, channels=["trades", "book", "quotes"], limits={"waiting_events_max": 200},
            timing={"silence_s": 5.0},
        )  # fmt: skip
        with redis.Redis.from_url(redis_url) as client:
            limit = client.config_get("maxmemory")["maxmemory"]
            client.config_set("maxmemory", "1")  # it refuses every write
            try:
                listener = Listener(source, database, redis_url)
                client.config_set("maxmemory", limit)
                with listener:
                    listener.until(lambda: listener.runner.counters.sent > 0)
                    client.config_set("maxmemory", "1")
                    listener.until(lambda: listener.runner.counters.stalled > 0)
                    time.sleep(0.3)
                    assert listener.runner.counters.waiting_max < 500
                    assert not venue.done.is_set() or listener.runner.seen.frames < 1_500
                    client.config_set("maxmemory", limit)
                    trades = truth_of_trades(venue, SYMBOLS["binance"])
                    listener.until(lambda: venue.done.is_set() and listener.runner.seen.trades >= len(trades))
                    listener.end()
                    assert listener.error is None
                    rows = sent_rows(client, listener.plan)
                    assert listener.runner.counters.delivery_retries > 0
            finally:
                client.config_set("maxmemory", limit)
    assert without_available(rows["trades"]) == trades


def _declaration(folder: Path, source: object) -> Path:
    """The declaration as JSON, which YAML contains."""
    path = folder / "source.yaml"
    path.write_text(json.dumps(source.model_dump(mode="json", exclude_none=True)))  # type: ignore[attr-defined]
    return path


def test_the_command_goes_on_after_a_kill_and_replays_what_it_recorded(
    database: str, redis_url: str, tmp_path: Path
) -> None:
    faults = Faults()
    venue = make_venue("binance", 500, seed=23, faults=faults)
    faults.skip.add(places(venue, "trade", 60, pair=True))
    truth = truth_of_trades(venue, SYMBOLS["binance"])
    recorded = tmp_path / "recorded"
    environment = os.environ | {
        "TAPELINE_HOME": os.environ.get("TAPELINE_HOME", str(tmp_path)),
        "TAPELINE_POSTGRES_URL": database,
        "TAPELINE_REDIS_URL": redis_url,
        "TAPELINE_PROJECT": "test",
    }

    def tapeline(*words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tapeline", "live", *words, "--json"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def is_filled(reason: GapReason) -> bool:
        with psycopg.connect(database) as connection:
            return any(gap.reason is reason for gap in list_gaps(connection, state=GapState.filled))

    def done(process: subprocess.Popen[str]) -> object:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        return json.loads(out)

    with venue.running(expected("binance")), redis.Redis.from_url(redis_url) as client:
        # Nobody is to notice the silence before the kill, however slow the machine is.
        source = make_source("binance", venue, timing={"silence_s": 600.0, "ping_s": 600.0})
        plan = StreamPlan(source.name, source.source, source.partitions, project="test")
        run = ("run", str(_declaration(tmp_path, source)), "--record", str(recorded))
        faults.silence.add(250)  # so that the kill comes in the middle
        killed = tapeline(*run)

        def is_in_the_middle() -> bool:
            return venue.position > 250 and is_filled(GapReason.sequence) and "trades" in sent_rows(client, plan)

        _until(lambda: is_in_the_middle() or killed.poll() is not None)
        killed.send_signal(signal.SIGKILL)
        killed.wait(30)
        before = sent_rows(client, plan)
        assert 0 < len(before["trades"]) < len(truth)
        [first] = read_recording(recorded)
        replayed = Outcome()
        replay_recording(first, send=replayed.add)
        kept = {row[:3] for row in replayed.trades}
        assert {row[:3] for row in before["trades"]} <= kept

        second = tapeline(*run)
        _until(lambda: len(sent_rows(client, plan).get("trades", ())) == len(truth) or second.poll() is not None)
        second.send_signal(signal.SIGTERM)
        totals = done(second)
        assert isinstance(totals, dict)
        assert totals["late"] > 0
        rows = sent_rows(client, plan)
        assert without_available(rows["trades"]) == truth

        gaps = done(tapeline("gaps", "--source", source.source, "--state", "filled"))
        assert isinstance(gaps, list)
        assert {"downtime", "sequence"} <= {gap["reason"] for gap in gaps}
        again = done(tapeline("replay", str(recorded), "--stream", "again", "--source", "again", "--partitions", "2"))
        assert isinstance(again, list)
        assert len(again) == 2
        sent = sent_rows(client, StreamPlan("again", "again", 2, project="test"))
        assert {kind: sent[kind] for kind in rows} == rows


def _until(check: object, seconds: float = 180.0) -> None:
    ends_s = time.monotonic() + seconds
    while not check():  # type: ignore[operator]
        assert time.monotonic() < ends_s
        time.sleep(0.05)
