"""Live rows of views that are adjusted for dividends: what a real server gives is what batch gives, and replays to the same bits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import psycopg
import pytest
import redis
from tapeline.core.settings import Settings
from tapeline.core.timestamps import from_us
from tapeline.monitoring.consistency import Cause, verify
from tapeline.storage.actions import actions_key, decode_actions
from tapeline.storage.raw import append_rows
from tapeline_client import Bar, Client, EntityStatus, InvalidRequestError, Prediction, Trades

from tests.serving import world
from tests.serving.conftest import logged

STORED, TRADES_STORED = 58, 800
DAILY = replace(world.DAILY, name="daily_paid", dividends=True)
INTRADAY = replace(world.INTRADAY, name="intraday_paid", dividends=True)
VIEWS = (world.DAILY, DAILY, INTRADAY)


@dataclass
class Scene:
    """A server over three views of AAA's bars and trades, of which two are adjusted for dividends."""

    settings: Settings
    store: redis.Redis
    client: Client
    bars: world.BarHistory
    trades: world.TradeHistory
    asked: int = 0

    def act(self, symbol: str, event_us: int, known_us: int, *, ratio: float | None = None, cash: float | None = None):
        """Record an action, as an ingest would."""
        row = {"symbol": symbol, "kind": "split" if cash is None else "dividend", "ratio": ratio, "amount": cash}
        times = {"event_timestamp": from_us(event_us), "published_timestamp": from_us(known_us)}
        schema = {"ratio": pl.Float64, "amount": pl.Float64}
        with psycopg.connect(self.settings.postgres_url, options="-c timezone=UTC") as connection:
            append_rows(connection, "actions", pl.DataFrame([row | times], schema_overrides=schema), "test")

    def publish(self) -> None:
        world.compute(self.settings, self.store, VIEWS)

    def live_bars(self, **named: float) -> list[Bar]:
        """The sessions after the stored ones; named is said of the first."""
        rows = [
            Bar(int(self.bars.event_us[i]), **{name: float(self.bars.columns[name][i]) for name in world.BARS})
            for i in range(STORED, 60)
        ]
        return [replace(rows[0], **named), *rows[1:]]

    def ask(self, bars: list[Bar] | None = None) -> Prediction:
        part = slice(TRADES_STORED, 900)
        h = self.trades
        [answer] = self.client.predict(
            ["AAA"],
            live_bars={"AAA": bars or self.live_bars()},
            live_trades={"AAA": Trades(h.event_us[part], h.sequence[part], h.price[part], h.size[part])},
            include_features=True,
        )
        self.asked += 1
        return answer

    def verify(self) -> set[Cause]:
        """Causes of differences, once all that was served is logged."""
        for _ in range(200):
            if len(logged(self.settings)) == self.asked:
                break
            time.sleep(0.05)
        with psycopg.connect(self.settings.postgres_url, options="-c timezone=UTC") as connection:
            report = verify(connection)
        assert report.vectors == self.asked
        return set(report.causes)

    def expected(self, dividends: dict[int, float], split: dict[int, float] | None = None) -> np.ndarray:
        """What batch gives after all bars, with these dividends and splits by row."""
        count = len(self.bars)
        ratios = {"split_ratio": np.ones(count), "dividend_ratio": np.ones(count)}
        for row, ratio in (split or {}).items():
            ratios["split_ratio"][row] = ratio
        for row, cash in dividends.items():
            close = self.bars.columns["close"][row - 1] / ratios["split_ratio"][row]
            ratios["dividend_ratio"][row] = close / (close - cash)
        features, _ = replace(self.bars, columns=self.bars.columns | ratios).batch(DAILY, count)
        return features[-1]


def values(answer: Prediction, spec=DAILY) -> np.ndarray:
    return np.array([answer.features[f"{spec.name}:{name}"] for name in spec.plan.outputs])


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.tobytes() == np.ascontiguousarray(b).tobytes()


@pytest.fixture
def scene(settings: Settings, tmp_path: Path) -> Iterator[Scene]:
    bars, trades = world.bar_history(1, 60), world.trade_history(3, 900)
    with redis.Redis.from_url(settings.redis_url) as store:
        with psycopg.connect(settings.postgres_url, options="-c timezone=UTC") as connection:
            world.insert_bars(connection, "AAA", bars, range(STORED))
            world.insert_trades(connection, "AAA", trades, TRADES_STORED)
        world.compute(settings, store, VIEWS)
        world.register_model(settings, tmp_path, VIEWS)
        with world.running_server(settings, tmp_path) as server, Client(server.target) as client:
            yield Scene(settings, store, client, bars, trades)


def test_known_dividends_are_applied_at_the_clock_and_replay_to_the_same_bits(scene: Scene) -> None:
    """Beside a split of one day, and inside live trades; not the one that is announced later, nor where a view does not ask."""
    start = [int(us) for us in scene.bars.start_us]
    for name in ("open", "high", "low", "close"):
        scene.bars.columns[name][59] /= 2.0
    scene.act("AAA", start[59], start[50], ratio=2.0)
    scene.publish()
    split, plain = {59: 2.0}, scene.ask()
    assert same(values(plain), scene.expected({}, split))
    assert same(values(plain), values(plain, world.DAILY))
    scene.act("AAA", start[58], start[50], cash=2.0)
    scene.act("AAA", start[59], start[59] + 1, cash=0.75)
    scene.act("AAA", int(scene.trades.event_us[860]), start[50], cash=30.0)  # after the last bar, amid the trades
    scene.publish()
    key = actions_key("tapeline", "AAA")
    published = decode_actions(scene.store.get(key)).known_at(world.NOW_US)
    later = [(start[59], 3, world.NOW_US + 1, 1.0, 5.0)]
    rows = zip(published.event_us, (1, 0, 1, 1), [start[50]] * 4, published.ratio, published.dividend, strict=True)
    scene.store.delete(key)
    world.put_actions(scene.store, "tapeline", "AAA", [*rows, *later])
    first, last = scene.live_bars(dividend=2.0 + 1e-12)  # as it is known, but for rounding
    for rows in (None, [first, replace(last, split_ratio=2.0, dividend=0.75)]):
        answer = scene.ask(rows)
        assert answer.status is EntityStatus.OK
        assert same(values(answer), scene.expected({58: 2.0, 59: 0.75}, split))
        assert same(values(answer, world.DAILY), values(plain))
    assert values(answer)[0] < values(plain)[0]
    assert values(answer, INTRADAY)[0] < values(plain, INTRADAY)[0] - 1.0
    assert scene.verify() == set()
    daily, paid, _ = logged(scene.settings)[-1]["views"]
    assert (daily["splits"], daily.get("dividends")) == ([[start[59], 2.0]], None)
    assert paid["dividends"] == [[start[58], 2.0], [start[59], 0.75]]


def test_what_contradicts_a_known_dividend_is_refused(scene: Scene) -> None:
    """Another amount, the same one on another day; and a known one that is not below the close before it."""
    start = [int(us) for us in scene.bars.start_us]
    scene.act("AAA", start[58], start[50], cash=2.0)
    scene.publish()
    for amount in (0.0, 1.5):
        with pytest.raises(InvalidRequestError, match=r"dividend .* where a dividend of 2\.0 is known.*AAA, row 0"):
            scene.ask(scene.live_bars(dividend=amount))
    first, last = scene.live_bars()
    with pytest.raises(InvalidRequestError, match=r"that dividend is known to take effect at.*ingest actions"):
        scene.ask([first, replace(last, dividend=2.0)])
    with pytest.raises(InvalidRequestError, match="impossible dividend"):
        scene.ask(scene.live_bars(dividend=-1.0))
    scene.act("AAA", start[59], start[50], cash=500.0)
    scene.publish()
    with pytest.raises(InvalidRequestError, match=r"a dividend of 500\.0 is not below the close .*AAA, effective at"):
        scene.ask()


def test_a_dividend_that_one_side_alone_knows_is_named(scene: Scene) -> None:
    """The caller only: taken, and named until it is recorded; recorded only: named until it is published."""
    start = [int(us) for us in scene.bars.start_us]
    answer = scene.ask(scene.live_bars(dividend=2.0))
    assert same(values(answer), scene.expected({58: 2.0}))
    assert scene.verify() == {Cause.ACTION}
    scene.act("AAA", start[58], start[50], cash=2.0)
    with psycopg.connect(scene.settings.postgres_url) as connection:
        connection.execute("UPDATE tapeline.corporate_actions SET created_timestamp = '2000-01-01'")
    assert scene.verify() == set()  # it was right: had the store known it, the features would be the same
    assert same(values(scene.ask()), scene.expected({}))
    assert scene.verify() == {Cause.ACTION}
