"""What a worker and a producer tell Prometheus, and what `tapeline top` shows."""

from __future__ import annotations

import json
import time
import urllib.request

import numpy as np
import psycopg
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from tapeline.cli.top import draw, look
from tapeline.core.errors import ConfigurationError
from tapeline.core.settings import Settings
from tapeline.streaming.metrics import producer_metrics, serve, worker_metrics
from tapeline.streaming.producer import Producer
from tapeline.streaming.timing import BOUNDS_S, Timing
from tapeline.streaming.worker import Worker

from tests.streaming.world import VIEWS, add_source, plan, trades


def _scraped(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        sample.name
        + "".join(f" {value}" for key, value in sorted(sample.labels.items()) if key in {"outcome", "le"}): sample.value
        for family in families
        for sample in family.samples
    }


def test_counts_and_durations_are_told(database: str, redis_url: str) -> None:
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan(partitions=2)
        producer = Producer(client, stream)
        worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database), lease_ms=400)
        port, stop = serve(0, lambda: worker_metrics(worker))
        producing, stop_producing = serve(0, lambda: producer_metrics(producer))
        try:
            tape = trades(["A", "B"], 300, seed=1)
            producer.send(tape.chosen(np.arange(150)))
            worker.drain()
            before = look(client, connection, stream)
            producer.send(tape.chosen(np.arange(150, 300)))
            worker.drain()
            told = _scraped(port)
            counters = worker.counters
            assert told["tapeline_stream_events_total taken"] == counters.taken > 250
            assert told["tapeline_stream_events_total taken"] + told["tapeline_stream_events_total recorded"] == 300
            assert told["tapeline_stream_feature_rows_total"] == counters.feature_rows
            assert told["tapeline_stream_partitions"] == 2
            assert told["tapeline_stream_processing_seconds_count"] == 300
            assert told["tapeline_stream_latency_seconds_bucket +Inf"] == 300
            assert _scraped(producing)["tapeline_stream_sent_events_total"] == 300
            with pytest.raises(ConfigurationError, match=str(port)):
                serve(port, lambda: worker_metrics(worker))
            deadline = time.monotonic() + 10
            while (now := look(client, connection, stream)).workers[worker.leases.worker].get(
                "taken"
            ) != counters.taken:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            [row] = now.rows(before)
            assert row["events/s"] > 0
            assert row["lag entries"] == 0
            assert row["partitions"] == 2
            assert draw(now, before, "live").renderables
        finally:
            stop()
            stop_producing()
            worker.close()


def test_percentiles_are_bounds_that_so_many_stay_within() -> None:
    rng = np.random.default_rng(3)
    seconds = rng.lognormal(-7, 2, 10_000)
    timing, one = Timing(), Timing()
    timing.add_all(seconds)
    for value in seconds[:500].tolist():
        one.add(value)
    assert timing.count == 10_000
    for percent in (1, 50, 99, 99.9):
        exact = np.percentile(seconds, percent)
        assert exact <= timing.percentile(percent) * (1 + 1e-9)
        assert timing.percentile(percent) <= exact * 10**0.1 * 1.01
    later = timing.since(one.counts)
    assert later.count == 9_500
    assert np.isnan(Timing().percentile(50))
    timing.add(1e9)
    assert timing.counts[-1] == 1
    assert timing.percentile(100) == BOUNDS_S[-1]


def test_top_prints_once_for_scripts(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tapeline.cli.top import top

    with psycopg.connect(settings.postgres_url) as connection, redis.Redis.from_url(settings.redis_url) as client:
        add_source(connection)
        stream = plan(partitions=2, project="tapeline")
        worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(settings.postgres_url))
        Producer(client, stream).send(trades(["A"], 50, seed=2))
        worker.drain()
        monkeypatch.setattr("tapeline.core.settings.get_settings", lambda: settings)
        monkeypatch.setattr("tapeline.storage.postgres.get_settings", lambda: settings)
        monkeypatch.setattr("tapeline.storage.redis.get_settings", lambda: settings)
        top("live", "tape", partitions=2, every=0.2, once=True, as_json=True)
        told = json.loads(capsys.readouterr().out)
        assert [row["worker"] for row in told["workers"]] == [worker.leases.worker]
        assert [part["unacknowledged"] for part in told["partitions"]] == [0, 0]
        top("live", "tape", partitions=2, every=0.2, once=True, as_json=False)
        assert worker.leases.worker in capsys.readouterr().out
        worker.close()
