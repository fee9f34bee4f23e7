"""A lineage hash changes with what a value depends on and with nothing else; the difference is said in words."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tapeline.features.lineage import lineage_changes, lineage_hash
from tapeline.features.request import FeatureRequest
from tapeline.features.view import FeatureViewSpec, SessionBars

SPEC = FeatureViewSpec(
    "daily",
    1,
    SessionBars("us", "XNYS"),
    (FeatureRequest.of("SMA", timeperiod=3), FeatureRequest.of("RSI", timeperiod=5)),
    10,
    "text",
)


@pytest.mark.parametrize(
    "same", [{"name": "other"}, {"version": 2}, {"ttl_us": 99}, {"description": "other"}], ids=lambda s: next(iter(s))
)
def test_what_does_not_change_values_does_not_change_the_hash(same: dict) -> None:
    assert replace(SPEC, **same).lineage_hash == SPEC.lineage_hash


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": SessionBars("eu", "XNYS")}, "rows: source was 'us', is 'eu'"),
        ({"rows": SessionBars("us", "XLON")}, "rows: calendar was 'XNYS', is 'XLON'"),
        ({"features": SPEC.features[:1]}, "RSI(timeperiod=5) was removed"),
        ({"features": (*SPEC.features, FeatureRequest.of("OBV"))}, "OBV() was added"),
        ({"features": SPEC.features[::-1]}, "the order of features changed"),
    ],
)
def test_each_change_is_named(change: dict, words: str) -> None:
    other = replace(SPEC, **change)
    assert other.lineage_hash != SPEC.lineage_hash
    assert words in lineage_changes(SPEC.definition(), SPEC.plan.hash, other.definition(), other.plan.hash)


def test_a_changed_kernel_changes_the_hash_and_is_named() -> None:
    definition = SPEC.definition()
    assert lineage_hash(definition, "a" * 64) != lineage_hash(definition, "b" * 64)
    (words,) = lineage_changes(definition, "a" * 64, definition, "b" * 64)
    assert "kernels' code changed" in words
