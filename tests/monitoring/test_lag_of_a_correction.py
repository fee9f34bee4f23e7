"""A correction that the back-fill has taken in and nobody has materialized yet."""

from __future__ import annotations

from tapeline.monitoring.consistency import Cause

from tests.monitoring.test_consistency import BARS_STORED, Scene, home, scene
from tests.serving import world

__all__ = ["home", "scene"]  # fixtures


def test_a_row_that_only_its_values_tell_from_its_correction_is_lag(scene: Scene) -> None:
    """The corrected input was published before the last bar, so the last row's own times are those it had before."""
    history = scene.bars["AAA"]
    history.columns["close"][40] *= 1.01
    published_us = int(history.event_us[BARS_STORED - 1])
    with scene.connect() as connection:
        world.insert_bars(connection, "AAA", history, [40], available_us=published_us)
    world.compute(scene.settings, scene.store, [world.DAILY])
    scene.client.predict(["AAA"])
    report = scene.verify()
    assert report.mismatch_count > 0
    assert set(report.causes) == {Cause.LAG}
