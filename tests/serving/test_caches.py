"""What a caching server answers is what one without caches answers, whatever is written and wherever the clock stands."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import redis
from tapeline.core.errors import TapelineError
from tapeline.core.settings import Settings
from tapeline.core.timestamps import DAY_US, MINUTE_US
from tapeline.storage.actions import actions_key
from tapeline.storage.keys import entity_key_sorted, view_prefix
from tapeline.storage.state_codec import state_key
from tapeline_client import Client, FeatureStatus, UnavailableError
from tapeline_serving.caching import ServerCaches
from tapeline_serving.engine.answers import Answer, decode_answer, encode_answer
from tapeline_serving.engine.engine import Engine
from tapeline_serving.engine.types import (
    EntityRequest,
    EntityStatus,
    LiveBars,
    LiveTrades,
    Origin,
    PredictRequest,
    ViewUse,
)
from tapeline_serving.loading import load
from tapeline_serving.store.address import RedisAddress
from tapeline_serving.store.connection import HEARD_S_MAX, RedisConnection

from tests.serving import world
from tests.serving.conftest import Served, Writer
from tests.serving.test_lifecycle import NOT_SERVING, SERVING, eventually, health, valkey

SYMBOLS = ("AAA", "BBB", "CCC")
STEPS = 400


def answer_of(vectors: Any, outputs: Any) -> tuple[Any, ...]:
    uses = [
        [
            (use.origin, use.event_us, use.available_us, use.sequence, use.partial, use.state_event_us, use.state_sequence,
             use.rows_seen, () if use.actions is None else (use.actions.splits, use.actions.dividends))
            for use in row
        ]
        for row in vectors.uses
    ]  # fmt: skip
    return (
        vectors.values.tobytes(),
        vectors.statuses.tobytes(),
        uses,
        [int(each) for each in vectors.overall],
        [np.asarray(output, dtype=np.float32).tobytes() for output in outputs],
    )


class Story:
    """Random writes, moments and questions."""

    def __init__(self, settings: Settings, store: redis.Redis, seed: int) -> None:
        self.chance = random.Random(seed)
        self.project = settings.project
        self.store = store
        self.now_us = world.NOW_US
        self.bars = {symbol: world.bar_history(number, 64) for number, symbol in enumerate(SYMBOLS)}
        self.trades = {symbol: world.trade_history(number, 900) for number, symbol in enumerate(SYMBOLS)}
        self.stops = dict.fromkeys(SYMBOLS, 0)

    def write(self) -> None:
        chance, symbol = self.chance, self.chance.choice(SYMBOLS)
        kind = chance.random()
        if kind < 0.5:  # of any time, older ones too: what Redis holds is what counts
            early = chance.random() < 0.25  # not warmed up: which of the undefined it is, only the state can tell
            self.stops[symbol] = chance.randint(3, 9) if early else chance.randint(50, 60)
            world.put_bars(self.store, self.project, symbol, self.bars[symbol], self.stops[symbol])
        elif kind < 0.75:
            world.put_trades(self.store, self.project, symbol, self.trades[symbol], chance.randint(600, 900))
        elif kind < 0.85:
            spec = chance.choice((world.DAILY, world.INTRADAY))
            part = (self.project, spec.name, spec.version)
            keys = (view_prefix(*part) + entity_key_sorted([symbol]), state_key(*part, symbol))
            self.store.delete(*chance.sample(keys, chance.randint(1, 2)))
        elif kind < 0.95:
            event_us = int(self.bars[symbol].start_us[chance.randint(55, 62)])
            known_us = event_us - chance.randint(0, 3) * DAY_US
            world.put_split(self.store, self.project, symbol, event_us, 2.0, known_us=known_us)
        else:
            self.store.delete(actions_key(self.project, symbol))
        self.store.ping()  # after a pipeline, too, Redis has told everybody

    def move(self) -> None:
        """To just before a moment at which something turns, or on by a little, and so over it; sometimes back."""
        chance = self.chance
        if chance.random() < 0.6:
            self.now_us += chance.choice((1, MINUTE_US // 2, 2 * MINUTE_US))
            return
        symbol = chance.choice(SYMBOLS)
        turn_us = int(self.bars[symbol].event_us[max(self.stops[symbol], 1) - 1])
        turn_us += chance.choice((0, world.DAILY.ttl_us, world.INTRADAY.ttl_us, DAY_US))
        self.now_us = chance.choice((world.NOW_US, turn_us - MINUTE_US, turn_us - 1, turn_us))

    def question(self) -> list[EntityRequest]:
        symbols = self.chance.sample(SYMBOLS, self.chance.randint(1, 3))
        return [self.entity(symbol) for symbol in symbols]

    def entity(self, symbol: str) -> EntityRequest:
        kind = self.chance.random()
        if kind < 0.6:
            return EntityRequest(symbol)
        if kind < 0.9:
            history, first = self.bars[symbol], self.stops[symbol]
            last = min(first + self.chance.randint(1, 2), len(history))
            if last > first and int(history.event_us[last - 1]) <= self.now_us:
                columns = {name: history.columns[name][first:last].tolist() for name in world.BARS}
                times = history.event_us[first:last].tolist()
                return EntityRequest(symbol, has_bars=True, bars=LiveBars(None, times, times, columns))
            return EntityRequest(symbol)
        ticks = self.trades[symbol]
        part = slice(890, 895)
        given = LiveTrades(
            ticks.event_us[part], ticks.event_us[part], ticks.sequence[part], ticks.price[part], ticks.size[part]
        )
        return EntityRequest(symbol, has_trades=True, trades=given)


async def ask(engine: Engine, entities: list[EntityRequest], now_us: int) -> Any:
    request = PredictRequest(entities, "", now_us, now_us)
    try:
        with engine.begin(request) as reading:
            return answer_of(*await engine.predict(request, reading))
    except TapelineError as error:
        return type(error), str(error)


@contextmanager
def registered(settings: Settings, tmp_path: Path, **changes: Any) -> Iterator[Settings]:
    """Settings with caches, and a model over both views."""
    with psycopg.connect(str(settings.postgres_url)):
        world.register_model(settings, tmp_path, (world.DAILY, world.INTRADAY))
    yield settings.replaced(**({"cache": "shared"} | changes))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["process", "shared"])
def test_answers_are_those_without_caches(settings: Settings, tmp_path: Path, kind: str, seed: int) -> None:
    async def main(caching: Settings) -> None:
        address = RedisAddress.parse(str(settings.redis_url))
        deployment = load(settings, "small")
        plain = RedisConnection(address)
        assert await plain.start()
        reference = Engine(deployment.plan, deployment.model, plain)
        tracked = [RedisConnection(address) for _ in range(2)]
        servers = [ServerCaches(caching, "small", each, str(settings.redis_url)) for each in tracked]
        engines = []
        for connection, caches in zip(tracked, servers, strict=True):
            assert await connection.start()
            await caches.start()
            engines.append(caches.deploy(deployment.plan, deployment.model))
        with Writer.from_url(str(settings.redis_url)) as store:
            story = Story(settings, store, seed)
            answered = 0
            for step in range(STEPS):
                if step < 10 or story.chance.random() < 0.15:
                    story.write()
                if story.chance.random() < 0.3:
                    story.move()
                entities = story.question()
                for caches in servers:
                    caches._clock.move_to(story.now_us)
                expected = await ask(reference, entities, story.now_us)
                for engine in engines:
                    assert await ask(engine, entities, story.now_us) == expected, step
                answered += not isinstance(expected[0], type)
        assert answered > STEPS / 2
        one = servers[0]
        assert one._predictions.statistics.hits_memory > STEPS / 10
        assert one.store.statistics.hit_rate > 0.5
        if kind == "shared":
            # How many depends on how busy Redis is: what does not come in time is a miss.
            assert servers[1]._predictions.statistics.hits_shared > 0
        for connection, caches in zip(tracked, servers, strict=True):
            await caches.close()
            await connection.close()
        await plain.close()

    with registered(settings, tmp_path, cache=kind, clock="2013-03-01T21:30:00+00:00") as caching:
        asyncio.run(main(caching))


def test_an_answer_is_read_back_bit_for_bit(settings: Settings, tmp_path: Path) -> None:
    with registered(settings, tmp_path):
        plan = load(settings, "small").plan
    count = len(plan.feature_names)
    values = np.linspace(-1e300, 1e300, count)
    values[0] = np.frombuffer(b"\x01\x00\x00\x00\x00\x00\xf8\x7f", dtype=np.float64)[0]  # a NaN of its own
    uses = [ViewUse(Origin.LIVE, 5, 6, 0, True, -3, 2**62, 7), ViewUse()]
    answer = Answer(
        values, np.arange(count, dtype=np.uint8), uses, EntityStatus.DEGRADED, np.array([0.1, np.nan], dtype=np.float32)[: len(plan.manifest.outputs)]
    )  # fmt: skip
    data = encode_answer(answer)
    read = decode_answer(plan, data)
    assert read is not None
    assert encode_answer(read) == data
    assert (read.uses, read.overall, read.values.tobytes()) == (uses, answer.overall, values.tobytes())
    for damaged in (b"", data[:-1], data + b"\0", b"\xff" + data[1:], data[:-51] + b"\xff" + data[-50:]):
        assert decode_answer(plan, damaged) is None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def metrics(port: int) -> dict[str, float]:
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    return {name: float(value) for name, value in re.findall(r"^([^#\s]\S*) (\S+)$", text, re.MULTILINE)}


def lookups(port: int, cache: str, outcome: str) -> float:
    return metrics(port)[f'tapeline_cache_lookups_total{{cache="{cache}",outcome="{outcome}"}}']


def shared_predictions(store: redis.Redis) -> list[bytes]:
    found = store.scan_iter("tl:tapeline:cache:predictions:*")
    return [key for key in found if not key.endswith(b":lock")]


@pytest.mark.timeout(180)
def test_servers_share_predictions_and_what_is_popular(settings: Settings, tmp_path: Path) -> None:
    """The second server finds what the first computed; one of a new version, later, is warm before it is asked."""
    world.register_model(settings, tmp_path)
    history = world.bar_history(1, 60)
    ports = [free_port() for _ in range(3)]
    more = {"TAPELINE_CACHE": "shared", "TAPELINE_CACHE_STATUS_S": "1"}
    with Writer.from_url(str(settings.redis_url)) as store:
        for symbol in SYMBOLS:
            world.put_bars(store, "tapeline", symbol, history, 58)

        def server(number: int) -> Any:
            return world.running_server(settings, tmp_path, "small", "--metrics-port", str(ports[number]), **more)

        with server(0) as first, server(1) as second, Client(first.target) as one, Client(second.target) as two:
            answer = one.predict(["AAA", "BBB"], include_features=True)
            again = one.predict(["BBB", "AAA"], include_features=True)
            assert [each.features for each in reversed(again)] == [each.features for each in answer]
            assert (lookups(ports[0], "predictions", "misses"), lookups(ports[0], "predictions", "hits_memory")) == (
                2,
                2,
            )
            assert lookups(ports[0], "features", "hits_memory") == 2
            assert eventually(lambda: len(shared_predictions(store)) == 2)
            assert [each.outputs for each in two.predict(["AAA", "BBB"])] == [each.outputs for each in answer]
            assert lookups(ports[1], "predictions", "hits_shared") == 2

            world.put_bars(store, "tapeline", "AAA", history, 59)
            for client in (one, two):
                (newer,) = client.predict(["AAA"], include_features=True)
                assert newer.views[0].event_us == int(history.event_us[58])
                expected = history.batch(world.DAILY, 59)[0][-1]
                assert np.array(list(newer.features.values())).tobytes() == expected.tobytes()

            assert one.model_info() is not None
            one.model_info()
            assert lookups(ports[0], "model", "hits_memory") == 1
            assert eventually(lambda: metrics(ports[0]).get("tapeline_deployment_current") == 1.0)
            assert metrics(ports[0])["tapeline_deployment_usable"] == 1.0

            graph = world.register_model(
                settings, tmp_path, (world.DAILY,), "small", until_us=world.NOW_US + 31 * DAY_US
            )
            assert eventually(lambda: metrics(ports[0])["tapeline_deployment_current"] == 0.0)
            assert "is version" in first.log_text()
            one.predict(["AAA"])
            second.process.send_signal(signal.SIGTERM)
            first.process.send_signal(signal.SIGTERM)
            assert first.process.wait(20) == second.process.wait(20) == 0

        with server(2) as third, Client(third.target) as client:
            assert eventually(lambda: "2 popular entities are warm" in third.log_text())
            misses = lookups(ports[2], "predictions", "misses")
            assert misses == 2, "nothing of the version before is a hit"
            (newest,) = client.predict(["AAA"])
            assert newest.bundle_sha256 == graph
            assert lookups(ports[2], "predictions", "misses") == misses


@pytest.mark.timeout(120)
def test_without_the_shared_cache_a_server_answers_all_the_same(settings: Settings, tmp_path: Path) -> None:
    world.register_model(settings, tmp_path)
    history = world.bar_history(1, 60)
    port = free_port()
    more = {"TAPELINE_CACHE": "shared", "TAPELINE_CACHE_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    with (
        Writer.from_url(str(settings.redis_url)) as store,
        world.running_server(settings, tmp_path, "small", "--metrics-port", str(port), **more) as server,
        Client(server.target) as client,
    ):
        world.put_bars(store, "tapeline", "AAA", history, 58)
        answers = [client.predict(["AAA"])[0].outputs for _ in range(3)]
        assert answers[0] == answers[1] == answers[2]
        assert lookups(port, "predictions", "hits_memory") == 2
        assert metrics(port)["tapeline_cache_shared_errors_total"] > 0
        assert client.model_info() is not None
        assert "the shared cache is away" in server.log_text()


@pytest.mark.timeout(120)
def test_a_redis_that_was_away_is_read_anew(settings: Settings, tmp_path: Path) -> None:
    """Away, nothing that is remembered is given; back with other contents, older ones too, those are what counts."""
    world.register_model(settings, tmp_path)
    history = world.bar_history(1, 60)
    there = tmp_path / "v.sock"
    settings = settings.replaced(redis_url=f"unix://{there}")
    with (
        world.running_server(settings, tmp_path, "small", TAPELINE_CACHE="process") as server,
        Client(server.target) as client,
    ):
        for stop in (59, 60, 58):
            with valkey(there), Writer.from_url(str(settings.redis_url)) as store:
                world.put_bars(store, "tapeline", "AAA", history, stop)
                assert eventually(lambda: health(server.target) == SERVING)
                for _ in range(3):
                    assert client.predict(["AAA"])[0].views[0].event_us == int(history.event_us[stop - 1])
            with pytest.raises(UnavailableError):
                client.predict(["AAA"])
            assert eventually(lambda: health(server.target) == NOT_SERVING)


@pytest.mark.timeout(120)
def test_a_redis_that_hangs_is_not_answered_for(settings: Settings, tmp_path: Path) -> None:
    world.register_model(settings, tmp_path)
    history = world.bar_history(1, 60)
    there = tmp_path / "v.sock"
    settings = settings.replaced(redis_url=f"unix://{there}")
    with (
        valkey(there) as process,
        world.running_server(settings, tmp_path, "small", TAPELINE_CACHE="process") as server,
        Client(server.target) as client,
        Writer.from_url(str(settings.redis_url)) as store,
    ):
        world.put_bars(store, "tapeline", "AAA", history, 58)
        assert client.predict(["AAA"])[0].outputs == client.predict(["AAA"])[0].outputs
        process.send_signal(signal.SIGSTOP)
        time.sleep(2 * HEARD_S_MAX)
        with pytest.raises(UnavailableError):
            client.predict(["AAA"])
        process.send_signal(signal.SIGCONT)
        assert eventually(lambda: health(server.target) == SERVING)
        assert client.predict(["AAA"])[0].outputs


def test_why_a_value_is_undefined_is_asked_every_time(served: Served) -> None:
    """The reason stands in the state, which is no part of what an answer from stored values is remembered by."""
    world.put_bars(served.store, "tapeline", "AAA", world.bar_history(1, 3), 3)
    for _ in range(2):
        (warming,) = served.client.predict(["AAA"])
        assert warming.issues["daily_small:rsi_14"] is FeatureStatus.NOT_WARMED_UP
    served.store.delete(state_key("tapeline", world.DAILY.name, world.DAILY.version, "AAA"))
    (unknown,) = served.client.predict(["AAA"])
    assert unknown.issues["daily_small:rsi_14"] is FeatureStatus.UNDEFINED
