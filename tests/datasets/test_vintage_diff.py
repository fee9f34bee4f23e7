"""The cells that a vintage diff names are those in which two exports differ, and the causes are those that made them."""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tapeline.core.errors import ParameterError
from tapeline.datasets import Generated, export
from tapeline.datasets.labels import LabelSpec
from tapeline.datasets.vintage import safe_horizon
from tapeline.datasets.vintage_diff import VintageDiff, vintage_diff
from tapeline.datasets.vintage_sides import asked_side, exported_side

from tests.datasets.market import PLAN
from tests.datasets.recorded import SESSIONS, Event, begin, cells_by_hand, compute, open_source, record, settle, shown

LAST = len(SESSIONS.close_us) - 1
_numbers = itertools.count()

events = st.builds(
    Event,
    kind=st.sampled_from(["bar", "bar", "retraction", "split"]),
    symbol=st.integers(0, 1),
    session=st.integers(1, LAST),
    number=st.sampled_from([0.5, 2.0, 50.0, 55.5]),
    hours=st.sampled_from([None, 1, 30, 200]),
)


def named(path: Path) -> dict[tuple[Any, ...], tuple[Any, Any]]:
    """The cells of a diff's file, in the form of `cells_by_hand`."""
    cells = {}
    for row in pq.read_table(path).to_pylist():
        values = []
        for side, absent in (("before", "new"), ("after", "gone")):
            value = row[side] if row[side] is not None else row[f"{side}_text"]
            values.append("absent" if row["row"] == absent else shown(value))
        key = (row["symbol"], row["event_timestamp"], row["feature"])
        assert key not in cells
        cells[key] = tuple(values)
    return cells


@pytest.fixture
def market(connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    open_source(connection)
    return connection


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    missing=st.frozensets(st.tuples(st.integers(0, 1), st.integers(2, LAST)), max_size=4),
    early=st.lists(events, max_size=2),
    computed=st.booleans(),
    late=st.lists(events, max_size=4),
    labels=st.sampled_from([None, "direction:2d", "volatility:3d"]),
    kept=st.booleans(),
    given_rows=st.booleans(),
)
def test_the_cells_named_are_those_in_which_two_exports_differ(
    market, missing, early, computed, late, labels, kept, given_rows
) -> None:
    number = next(_numbers)
    symbols = [f"S{number}A", f"S{number}B"]
    begin(market, symbols, missing=missing, seed=number)
    for event in early:
        record(market, symbols, event)
    if computed:
        compute(market, symbols)
    settle(market)
    choice = {"labels": labels, "keep_without_label": kept}
    entities = Generated(tuple(symbols))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        before = export(market, PLAN, entities, folder / "before", **choice)
        for event in late:
            record(market, symbols, event)
        compute(market, symbols)
        if given_rows:
            entities = pq.read_table(folder / "before" / "entities")
        after = export(market, PLAN, entities, folder / "after", **choice)
        expected = cells_by_hand(folder / "before", folder / "after")

        stored = [exported_side(market, folder / name) for name in ("before", "after")]
        found = vintage_diff(market, *stored, parquet=folder / "folders.parquet")
        assert named(folder / "folders.parquet") == expected
        assert (found.rows_before, found.rows_after) == (before.row_count, after.row_count)
        assert found.cells == len(expected) == sum(found.by_cause.values()) == sum(found.by_feature.values())
        assert "unknown" not in found.by_cause
        if given_rows:
            vintage_diff(market, stored[0], stored[0].at(after.as_of_us), parquet=folder / "moment.parquet")
            assert named(folder / "moment.parquet") == expected
        else:
            spec = None if labels is None else LabelSpec.parse(labels)
            asked = [
                asked_side(market, PLAN, entities, m.as_of_us, labels=spec, keep_without_label=kept)
                for m in (before, after)
            ]
            vintage_diff(market, *asked, parquet=folder / "asked.parquet")
            assert named(folder / "asked.parquet") == expected


def diff_of(market: psycopg.Connection[Any], folder: Path, steps: list[Event], **choice: Any) -> VintageDiff:
    """What an export of two symbols and the same of afterwards differ in."""
    export(market, PLAN, Generated(("AAA", "BBB")), folder / "before", **choice)
    for event in steps:
        record(market, ["AAA", "BBB"], event)
    compute(market, ["AAA", "BBB"])
    side = exported_side(market, folder / "before")
    return vintage_diff(market, side, side.at(safe_horizon(market)))


@pytest.mark.parametrize(
    ("event", "cause", "changed"),
    [
        (Event("bar", 0, 10, 70.0, 30), "correction", {"open", "high", "low", "close"}),
        (Event("bar", 0, 8, 70.0, None), "late row", {"start_timestamp", "open", "high", "low", "close", "volume"}),
        (Event("retraction", 0, 10, 70.0, 30), "retraction", {"start_timestamp", "open", "high", "low", "close", "volume"}),
        (Event("split", 0, 10, 2.0, -30), "split", {"ratio"}),
    ],
)  # fmt: skip
def test_each_cause_is_named_with_its_row(market, tmp_path, event, cause, changed) -> None:
    begin(market, ["AAA", "BBB"], missing=frozenset({(0, 8)}), seed=1)
    found = diff_of(market, tmp_path, [event])
    assert set(found.by_cause) == {cause}
    [(change, cells)] = found.changes.items()
    assert (change.cause, change.entity, cells) == (cause, "AAA", found.cells)
    assert {name for name, _, _ in change.values} == changed
    moment = (SESSIONS.open_us if cause == "split" else SESSIONS.close_us)[event.session]
    assert change.event_us == moment
    assert cause in str(change)
    assert {cell.keys["symbol"] for cell in found.shown} == {"AAA"}


def test_two_changes_before_a_cell_are_both_named(market, tmp_path) -> None:
    begin(market, ["AAA", "BBB"], missing=frozenset({(0, 8)}), seed=1)
    found = diff_of(market, tmp_path, [Event("bar", 0, 8, 70.0, None), Event("bar", 0, 10, 70.0, 1)])
    assert set(found.by_cause) == {"late row", "correction + late row"}
    assert {change.cause for change in found.changes} == {"late row", "correction"}


def test_what_was_recorded_before_and_computed_since(market, tmp_path) -> None:
    begin(market, ["AAA", "BBB"], missing=frozenset(), seed=1)
    record(market, ["AAA", "BBB"], Event("bar", 1, 10, 70.0, 30))
    settle(market)
    found = diff_of(market, tmp_path, [])
    assert set(found.by_cause) == {"back-fill"}
    [change] = found.changes
    assert (change.entity, change.event_us) == ("BBB", SESSIONS.close_us[10])


def test_labels_and_rows_that_come_and_go(market, tmp_path) -> None:
    begin(market, ["AAA", "BBB"], missing=frozenset({(0, LAST)}), seed=1)
    found = diff_of(
        market, tmp_path, [Event("bar", 0, LAST, 70.0, None), Event("retraction", 1, 10, 1.0, 2_000)],
        labels="direction:1d",
    )  # fmt: skip
    assert (found.rows_added, found.rows_removed) == (1, 2)
    assert found.by_cause["row now in the data set"] == found.rows_added * 5
    assert found.by_cause["row no longer in the data set"] == found.rows_removed * 5
    assert {type(cause) for cause in found.by_cause} == {str}
    assert {(change.cause, change.entity) for change in found.changes} == {("late row", "AAA"), ("retraction", "BBB")}


def test_another_version_of_the_view(market, tmp_path) -> None:
    begin(market, ["AAA", "BBB"], missing=frozenset(), seed=1)
    with market.transaction():
        market.execute("CREATE TABLE features.tiny__v2 AS SELECT *, sma_3 * 2 AS other FROM features.tiny__v1")
    view = PLAN.views[0]
    newer = replace(view, version=2, table="features.tiny__v2", features=("other", view.features[1]))
    export(market, PLAN, Generated(("AAA",)), tmp_path / "before")
    same_rows = pq.read_table(tmp_path / "before" / "entities")
    export(market, replace(PLAN, views=(newer,)), same_rows, tmp_path / "after")
    found = vintage_diff(market, *(exported_side(market, tmp_path / name) for name in ("before", "after")))
    assert set(found.by_feature) == {(view.output_names[0], "version")}
    assert found.cells == len(cells_by_hand(tmp_path / "before", tmp_path / "after")) > 10


def test_nothing_changed(market, tmp_path) -> None:
    begin(market, ["AAA", "BBB"], missing=frozenset(), seed=1)
    found = diff_of(market, tmp_path, [])
    assert (found.cells, found.shown, found.rows_before) == (0, [], found.rows_after)


def test_refusals(market, tmp_path) -> None:
    begin(market, ["AAA", "BBB"], missing=frozenset(), seed=1)
    side = asked_side(market, PLAN, Generated(("AAA",)), None)
    with pytest.raises(ParameterError, match="earlier one first"):
        vintage_diff(market, side, side.at(side.recipe.vintage_us - 1))
    labelled = asked_side(market, PLAN, Generated(("AAA",)), None, labels=LabelSpec.parse("direction:5d"))
    with pytest.raises(ParameterError, match="labels"):
        vintage_diff(market, side, labelled)
    (tmp_path / "there.parquet").touch()
    with pytest.raises(ParameterError, match="exists"):
        vintage_diff(market, side, side, parquet=tmp_path / "there.parquet")


def test_small_slices_give_the_same(market, tmp_path, monkeypatch) -> None:
    begin(market, ["AAA", "BBB"], missing=frozenset({(0, 8), (1, 3)}), seed=1)
    steps = [Event("bar", 0, 8, 70.0, None), Event("bar", 1, 10, 70.0, 1), Event("bar", 1, 3, 51.0, None)]
    whole = diff_of(market, tmp_path, steps, labels="direction:1d")
    monkeypatch.setattr("tapeline.datasets.vintage_diff.SLICE_ROWS", 7)
    side = exported_side(market, tmp_path / "before")
    sliced = vintage_diff(market, side, side.at(whole.after_us))
    assert sliced.by_feature == whole.by_feature
    assert sliced.changes == whole.changes
