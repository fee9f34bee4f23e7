"""Live rows of views over longer bars: after any of them, what batch gives over the same rows with a final flush."""

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
from tapeline.core.timestamps import DAY_US, MINUTE_US, from_us
from tapeline.features.request import FeatureRequest
from tapeline.features.timeframes import TimeFrame
from tapeline.features.view import FeatureViewSpec, LongerBars
from tapeline.monitoring.consistency import verify
from tapeline.storage.raw import append_rows
from tapeline_client import Bar, Client, ContinuityError, Origin, Prediction

from tests.serving import world
from tests.serving.conftest import logged

LIVE = 24
_of = FeatureRequest.of


def halves(sessions: int) -> world.BarHistory:
    """Half hours of the sessions before the clock, over a random walk."""
    calendar = world.sessions("XNYS")
    end = int(np.searchsorted(calendar.close_us, world.NOW_US, side="right"))
    opens, closes = calendar.open_us[end - sessions : end], calendar.close_us[end - sessions : end]
    start = np.concatenate([np.arange(o, c, 30 * MINUTE_US) for o, c in zip(opens, closes, strict=True)])
    walk = world.bar_history(5, len(start))
    return replace(walk, event_us=start + 30 * MINUTE_US, start_us=start, session=calendar.number_of(start))


def week_of(start_us: int, open_us: int) -> int:
    return (start_us // DAY_US + 3) // 7


def two_hours_of(start_us: int, open_us: int) -> int:
    return open_us + (start_us - open_us) // (120 * MINUTE_US)


CASES = {"week": (lambda: world.bar_history(4, 90), week_of), "2h/session": (lambda: halves(20), two_hours_of)}


@dataclass
class Scene:
    """A server over one view of AAA's longer bars; the last rows are not stored."""

    settings: Settings
    store: redis.Redis
    client: Client
    view: FeatureViewSpec
    rows: world.BarHistory

    @property
    def stored(self) -> int:
        return len(self.rows) - LIVE

    def live(self, count: int) -> list[Bar]:
        h = self.rows
        return [
            Bar(
                int(h.event_us[i]),
                **{name: float(h.columns[name][i]) for name in world.BARS},
                start_us=int(h.start_us[i]),
            )
            for i in range(self.stored, self.stored + count)
        ]

    def ask(self, bars: list[Bar]) -> Prediction:
        [answer] = self.client.predict(["AAA"], live_bars={"AAA": bars}, include_features=True)
        return answer

    def expected(self, frame: str, count: int) -> np.ndarray:
        """Rows grouped by hand, the unfinished group included, then the plan."""
        h, calendar = self.rows, world.sessions("XNYS")
        last = self.stored + count
        group = [CASES[frame][1](int(s), int(calendar.open_us[n])) for s, n in zip(h.start_us, h.session, strict=True)]
        of = pl.DataFrame({"group": group[:last], **{name: h.columns[name][:last] for name in world.BARS}})
        bars = of.group_by("group", maintain_order=True).agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum(),
        )
        columns = {name: bars[name].to_numpy() for name in world.BARS} | {"split_ratio": np.ones(len(bars))}
        event_us = np.arange(len(bars), dtype=np.int64)
        features, _ = self.view.plan.batch(
            event_us,
            np.zeros(len(bars), dtype=np.int64),
            event_us,
            np.column_stack([columns[name] for name in self.view.plan.inputs]),
            np.array([0, len(bars)]),
        )
        return features[-1]

    def ends(self, frame: str, count: int) -> bool:
        """Whether the last of some live rows finishes a longer bar."""
        i, h, calendar = self.stored + count - 1, self.rows, world.sessions("XNYS")
        close_us = int(calendar.close_us[h.session[i]])
        if frame == "week":
            return int(h.event_us[i]) // DAY_US % 7 == 1  # a Friday
        into_us = int(h.event_us[i] - calendar.open_us[h.session[i]])
        return int(h.event_us[i]) == close_us or into_us % (120 * MINUTE_US) == 0


@pytest.fixture(params=[(frame, paid) for frame in CASES for paid in (False, True)], ids=str)
def scene(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Iterator[Scene]:
    frame, paid = request.param
    rows = CASES[frame][0]()
    view = FeatureViewSpec(
        "longer",
        1,
        LongerBars("test-bars", "XNYS", TimeFrame.parse(frame)),
        (_of("SMA", timeperiod=3), _of("RETURN"), _of("VOLUME_Z", timeperiod=5)),
        ttl_us=90 * DAY_US,
        dividends=paid,
    )
    with redis.Redis.from_url(settings.redis_url) as store:
        with psycopg.connect(settings.postgres_url, options="-c timezone=UTC") as connection:
            world.insert_bars(connection, "AAA", rows, range(len(rows) - LIVE))
        world.compute(settings, store, [view])
        world.register_model(settings, tmp_path, [view])
        with world.running_server(settings, tmp_path) as server, Client(server.target) as client:
            yield Scene(settings, store, client, view, rows)


def values(scene: Scene, answer: Prediction) -> np.ndarray:
    return np.array([answer.features[name] for name in scene.view.plan.outputs])


def act(scene: Scene, row: int, *, ratio: float | None = None, cash: float | None = None) -> None:
    """Record an action that takes effect with a row."""
    start = from_us(int(scene.rows.start_us[row]))
    known = from_us(int(scene.rows.start_us[scene.stored - 5]))
    action = {"symbol": "AAA", "kind": "split" if cash is None else "dividend", "ratio": ratio, "amount": cash}
    times = {"event_timestamp": start, "published_timestamp": known}
    schema = {"ratio": pl.Float64, "amount": pl.Float64}
    with psycopg.connect(scene.settings.postgres_url, options="-c timezone=UTC") as connection:
        append_rows(connection, "actions", pl.DataFrame([action | times], schema_overrides=schema), "test")


def test_live_rows_of_longer_bars(scene: Scene) -> None:
    """Every number of rows; then over a split and a dividend; then what does not follow. All of it replays to the same bits."""
    frame, plain = scene.view.rows.frame.text, {}
    partial = 0
    for count in range(1, LIVE + 1):
        answer = scene.ask(scene.live(count))
        found = values(scene, answer)
        if not scene.view.dividends:
            assert found.tobytes() == scene.expected(frame, count).tobytes(), count
        [use] = answer.views
        assert (use.origin, use.event_us) == (Origin.LIVE, scene.live(count)[-1].event_us)
        assert use.partial == answer.partial == (not scene.ends(frame, count)), count
        partial += use.partial
        plain[count] = found
    assert 0 < partial < LIVE
    act(scene, scene.stored + 7, ratio=4.0)
    act(scene, scene.stored + 13, cash=0.5)
    world.compute(scene.settings, scene.store, [scene.view])
    adjusted = {count: values(scene, scene.ask(scene.live(count))) for count in range(1, LIVE + 1)}
    changed = [count for count in plain if plain[count].tobytes() != adjusted[count].tobytes()]
    assert changed == list(range(8, LIVE + 1))
    wrong = scene.live(9)
    for bars, message in (
        ([*wrong[:4], *wrong[5:]], "a bar starts at .*; expected one from .*bar 4"),
        (wrong[1:], "bar 0"),
        ([replace(bar, start_us=None) for bar in wrong], "without start_us nobody knows"),
    ):
        with pytest.raises(ContinuityError, match=message):
            scene.ask(bars)
    for _ in range(200):
        if len(logged(scene.settings)) == 2 * LIVE:
            break
        time.sleep(0.05)
    with psycopg.connect(scene.settings.postgres_url, options="-c timezone=UTC") as connection:
        # What was asked before the actions were recorded knew nothing of them.
        report = verify(connection)
        assert (report.vectors, report.mismatches) == (2 * LIVE, [])
        # Once the rows are stored, the back-fill gives the finished bars as the server gave them.
        world.insert_bars(connection, "AAA", scene.rows, range(scene.stored, len(scene.rows)))
    world.compute(scene.settings, scene.store, [scene.view])
    finished = [count for count in plain if scene.ends(frame, count)]
    with psycopg.connect(scene.settings.postgres_url, options="-c timezone=UTC") as connection:
        for count in finished:
            [row] = connection.execute(
                f'SELECT {", ".join(scene.view.plan.outputs)} FROM features."{scene.view.table}"'
                " WHERE event_timestamp = %s ORDER BY available_timestamp DESC LIMIT 1",
                (from_us(scene.live(count)[-1].event_us),),
            ).fetchall()
            assert np.array(row).tobytes() == adjusted[count].tobytes(), count
