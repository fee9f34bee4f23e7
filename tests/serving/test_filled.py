"""Last known values within an age limit: what is served is what batch gives, marked, logged, and replayed to the same bits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
import redis
from tapeline.core.errors import ModelNotReadyError
from tapeline.core.settings import Settings
from tapeline.core.timestamps import DAY_US
from tapeline.features.request import FeatureRequest
from tapeline.features.view import FeatureViewSpec, SessionBars
from tapeline.monitoring.consistency import ConsistencyReport, verify
from tapeline.registry import BundleManifest
from tapeline_client import Bar, Client, EntityStatus, FeatureStatus, Prediction
from tapeline_serving.engine.plan import ServingPlan

from tests.serving import world
from tests.serving.conftest import logged

_of = FeatureRequest.of
HELD = FeatureViewSpec(
    name="daily_held",
    version=1,
    rows=SessionBars("test-bars", "XNYS"),
    features=(_of("SMA", timeperiod=5, last_within="4d"), _of("RSI", timeperiod=14), _of("OBV", last_within="1d")),
    ttl_us=7 * DAY_US,
)
STORED = 58
NAN = float("nan")
FILLED, INVALID = FeatureStatus.FILLED, FeatureStatus.INVALID_INPUT


def _history(seed: int, *missing: int, split_at: int | None = None) -> world.BarHistory:
    history = world.bar_history(seed, 60, split_at=split_at)
    history.columns["close"][list(missing)] = NAN
    return history


# The last sessions are those of 2013-02-25 (Monday) to 03-01 (Friday).
HISTORIES = {
    "GOOD": _history(1),
    "LAST": _history(2, STORED - 1),  # OBV's day is over with the session's close a day before, to the second
    "LONG": _history(3, *range(STORED - 5, STORED)),
    "LIVE": _history(4, STORED, STORED + 1, split_at=STORED + 1),
}


def _served(answer: Prediction) -> np.ndarray:
    return np.array(list(answer.features.values()))


def _bars(history: world.BarHistory, count: int) -> list[Bar]:
    return [
        Bar(int(history.event_us[i]), **{name: float(history.columns[name][i]) for name in world.BARS})
        for i in range(STORED, STORED + count)
    ]


@pytest.fixture
def client(settings: Settings, store: redis.Redis, tmp_path: Path) -> Iterator[Client]:
    with psycopg.connect(settings.postgres_url) as connection:
        for symbol, history in HISTORIES.items():
            world.insert_bars(connection, symbol, history, range(STORED))
        world.insert_bars(connection, "NEWER", HISTORIES["LIVE"], range(60))
        connection.execute(
            "INSERT INTO tapeline.corporate_actions (symbol, kind, event_timestamp, available_timestamp, ratio, source)"
            " SELECT 'LIVE', kind, event_timestamp, available_timestamp, ratio, source FROM tapeline.corporate_actions"
        )
        connection.commit()
    world.compute(settings, store, [HELD])
    world.materialize(settings, store, HELD)
    world.register_model(settings, tmp_path, [HELD])
    with world.running_server(settings, tmp_path) as server, Client(server.target) as opened:
        yield opened


def _verify(client: Client, settings: Settings) -> ConsistencyReport:
    for _ in range(100):
        if client.model_info().served_log.waiting == 0:
            break
        time.sleep(0.05)
    with psycopg.connect(settings.postgres_url, options="-c timezone=UTC") as connection:
        return verify(connection)


def test_filled_values_are_those_of_batch_marked_logged_and_replayed(client: Client, settings: Settings) -> None:
    answers = client.predict(["GOOD", "LAST", "LONG", "NEWER"], include_features=True)
    answers += client.predict(["LIVE"], live_bars={"LIVE": _bars(HISTORIES["LIVE"], 2)}, include_features=True)
    good, last, long, newer, live = answers
    for answer, history, stop in (
        (good, HISTORIES["GOOD"], STORED),
        (last, HISTORIES["LAST"], STORED),
        (long, HISTORIES["LONG"], STORED),
        (newer, HISTORIES["LIVE"], 60),
        (live, HISTORIES["LIVE"], 60),
    ):
        expected = history.batch(HELD, stop)[0][-1]
        np.testing.assert_array_equal(_served(answer), expected)
    assert (good.status, good.issues) == (EntityStatus.OK, {})
    assert last.status is EntityStatus.DEGRADED
    assert last.issues == {"sma_5_last_4d": FILLED, "rsi_14": INVALID, "obv_last_1d": FILLED}
    assert last.features["sma_5_last_4d_age"] == last.features["obv_last_1d_age"] == 86_400.0
    # Five sessions without a price: the last one is a week old.
    assert set(long.issues.values()) == {INVALID}
    assert len(long.issues) == len(HELD.columns)
    # Two sessions without a price, the second after a split of 2: the average is in terms of the shares after it.
    assert newer.issues == live.issues
    assert live.issues["sma_5_last_4d"] is FILLED
    before = HISTORIES["LIVE"].batch(HELD, STORED)[0][-1]
    assert live.features["sma_5_last_4d"] == pytest.approx(before[0] / 2.0)
    assert live.features["sma_5_last_4d_age"] == 2 * 86_400.0
    assert live.issues["obv_last_1d"] is INVALID

    report = _verify(client, settings)
    assert (report.vectors, report.mismatches) == (5, [])
    statuses = {row["entity"]: list(row["statuses"]) for row in logged(settings)}
    assert statuses["LAST"] == [FILLED, FeatureStatus.OK, INVALID, FILLED, FeatureStatus.OK]
    assert statuses["GOOD"] == [FeatureStatus.OK] * 5


def test_a_prediction_on_nothing_but_filled_values_is_made() -> None:
    from tapeline_serving.engine.types import entity_status

    marks = np.array([FILLED, INVALID], dtype=np.uint8)
    assert entity_status(marks).name == "DEGRADED"
    assert entity_status(np.array([INVALID, INVALID], dtype=np.uint8)).name == "NO_FEATURES"


def test_a_bundle_that_records_another_limit_than_its_view_is_refused() -> None:
    manifest = world.make_manifest([HELD])
    assert [feature.last_within_us for feature in manifest.features] == [4 * DAY_US, None, None, DAY_US, None]
    plan = ServingPlan.of(manifest, "0" * 64, "tapeline")
    assert plan.views[0].held.tolist() == [0, 3]
    assert plan.views[0].ages.tolist() == [1, 4]
    changed = manifest.features[0].model_copy(update={"last_within_us": DAY_US})
    wrong = manifest.model_copy(update={"features": (changed, *manifest.features[1:])})
    with pytest.raises(ModelNotReadyError, match="sma_5_last_4d may be 86400000000 µs old"):
        ServingPlan.of(wrong, "0" * 64, "tapeline")


def test_a_model_need_not_take_the_age_to_be_served_with_the_mark() -> None:
    manifest = world.make_manifest([HELD])
    alone = manifest.model_copy(update={"features": (manifest.features[3], manifest.features[0])})
    view = ServingPlan.of(alone, "0" * 64, "tapeline").views[0]
    assert view.held.tolist() == [0, 1]
    assert view.ages.tolist() == [4, 1]


def test_manifests_without_a_limit_keep_their_address() -> None:
    manifest = world.make_manifest([world.DAILY])
    assert b"last_within_us" not in manifest.to_bytes()
    held = world.make_manifest([HELD])
    assert b"last_within_us" in held.to_bytes()
    again = BundleManifest.model_validate_json(held.to_bytes())
    assert again.address == held.address
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        BundleManifest.model_validate(replace_limit(held, 0))


def replace_limit(manifest: BundleManifest, limit_us: int) -> dict:
    """A manifest's JSON with another limit in its first feature."""
    content = manifest.model_dump(mode="json")
    content["features"][0]["last_within_us"] = limit_us
    return content
