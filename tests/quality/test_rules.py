"""Each rule breaks exactly where it should, the factors are what their definitions say, and thresholds act."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandera.polars as pa
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.core.errors import ConfigurationError, ParameterError, UnknownNameError
from tapeline.core.settings import Settings
from tapeline.core.timestamps import DAY_US, HOUR_US
from tapeline.features.bounds import bounds_of
from tapeline.features.catalogue import VIEWS
from tapeline.features.request import FeatureRequest
from tapeline.features.timeframes import TimeFrame
from tapeline.indicators import all_indicators
from tapeline.quality import definition as definitions
from tapeline.quality.block import Block, Expectations, numbered
from tapeline.quality.definition import QualityDefinition, definition_of, quality_rules
from tapeline.quality.rules import examine
from tapeline.quality.score import assess, decay, weighted

from tests.quality.blocks import LAG_US, NOW_US, SPEC, START_US, block, numbers

DEFAULT = QualityDefinition()


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "_DEFINED", {})


def put(made: Block, row: int, column: int, value: float) -> Block:
    values = made.values.copy()
    values[row, column] = value
    return replace(made, values=values)


def moved(made: Block, name: str, row: int, value: int) -> Block:
    changed = getattr(made, name).copy()
    changed[row] = value
    return replace(made, **{name: changed})


def test_sound_rows_break_nothing_and_score_one() -> None:
    found = assess(block(), DEFAULT, NOW_US)
    assert found.faults == ()
    assert found.score == 1.0
    assert found.factors == {"completeness": 1.0, "freshness": 1.0, "reliability": 1.0, "validity": 1.0}
    assert found.counts.cells_expected == found.counts.cells_filled == 2 * (8 + 6)


FAULTS: list[tuple[str, Callable[[Block], Block], int, dict[str, int], str]] = [
    ("finite", lambda b: put(b, 5, 0, np.inf), 1, {"sma_3": 1}, "AAA at 2010-01-09T21:00:00\\+00:00: sma_3 is inf"),
    ("range", lambda b: put(b, 15, 1, 100.1), 1, {"rsi_4": 1}, "BBB .*: rsi_4 is 100.1, it can be 0 to 100"),
    ("range", lambda b: put(put(b, 5, 1, -1), 5, 0, -2), 1, {"sma_3": 1, "rsi_4": 1}, "sma_3 is -2, it can be at least 0"),
    ("early_value", lambda b: put(b, 1, 0, 1.0), 1, {"sma_3": 1}, "sma_3 is 1 in row 2 .*, due from row 3 on"),
    ("gap", lambda b: put(b, 7, 1, np.nan), 1, {"rsi_4": 1}, "rsi_4 is missing in row 8 .*, due from row 5 on"),
    ("available_before_event", lambda b: moved(b, "available_us", 3, START_US), 1, {}, "AAA at 2010-01-07"),
    ("event_in_future", lambda b: moved(moved(b, "event_us", 9, NOW_US + 1), "available_us", 9, NOW_US + 9), 1, {}, "2020"),
    ("key_twice", lambda b: moved(moved(b, "event_us", 4, START_US + 5 * DAY_US), "available_us", 4, START_US + 5 * DAY_US + LAG_US), 1, {}, "AAA at 2010-01-09"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "spoil", "rows", "features", "example"), FAULTS, ids=[f[0] for f in FAULTS])
def test_each_rule_names_its_rows(
    rule: str, spoil: Callable[[Block], Block], rows: int, features: dict[str, int], example: str
) -> None:
    found = assess(spoil(block()), DEFAULT, NOW_US)
    fault = {fault.rule: fault for fault in found.faults}[rule]
    assert (fault.rows, fault.features) == (rows, features)
    assert re.search(example, fault.examples[0])
    assert found.counts.rows_valid == len(found.block) - (0 if rule == "gap" else rows)
    assert found.factors["completeness"] == (27 / 28 if rule == "gap" else 1.0)
    assert found.verdict(overridden=False) == "warned"


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 19), st.integers(0, 1), st.sampled_from([np.nan, np.inf, -5.0, 50.0, 101.0])),
        max_size=6,
    )
)
def test_counts_are_those_of_a_plain_loop(changes: list[tuple[int, int, float]]) -> None:
    made = block()
    for row, column, value in changes:
        made = put(made, row, column, value)
    found = examine(made, DEFAULT, NOW_US)
    expected = filled = 0
    invalid = set()
    for row in range(len(made)):
        for column, (warm_up, low, high) in enumerate([(3, 0, np.inf), (5, 0, 100)]):
            value, number = made.values[row, column], made.row_number[row]
            expected += number >= warm_up
            filled += number >= warm_up and not np.isnan(value)
            if not np.isnan(value) and number < warm_up:
                invalid.add(row)
            if np.isinf(value) or value < low - 1e-6 or value > high + 1e-4:
                invalid.add(row)
    assert (found.cells_expected, found.cells_filled) == (expected, filled)
    assert set(np.flatnonzero(found.invalid).tolist()) == invalid


def test_withdrawn_rows_warm_nothing_up_and_retracted_ones_are_not_expected() -> None:
    late = put(put(block(), 2, 0, np.nan), 4, 1, np.nan)
    assert {fault.rule for fault in examine(late, DEFAULT, NOW_US).faults} == {"gap"}
    assert examine(replace(late, withdrawn=np.array([1, 0])), DEFAULT, NOW_US).faults == ()
    gone = put(put(block(), 8, 0, np.nan), 8, 1, np.nan)
    found = examine(moved(gone, "retracted", 8, True), DEFAULT, NOW_US)
    assert (found.faults, found.cells_expected) == ((), 2 * 14 - 2)


def test_a_longer_frame_is_due_from_its_first_value_on() -> None:
    spec = replace(SPEC, features=(FeatureRequest.of("SMA", timeperiod=2, frame="week"),))
    values = np.array([np.nan, np.nan, 5.0, np.nan, 6.0] * 2)[:, None]
    made = replace(block(5), expected=Expectations.of(spec, LAG_US), values=values)
    found = examine(made, DEFAULT, NOW_US)
    assert (found.cells_expected, found.cells_filled) == (6, 4)
    assert [(fault.rule, fault.rows) for fault in found.faults] == [("gap", 2)]
    assert TimeFrame.parse("week").unit == "week"


def test_numbers_count_keys_after_those_that_were_there() -> None:
    entity = np.array([0, 0, 0, 1, 0])
    event = np.array([10, 20, 20, 10, 10])
    available = np.array([11, 21, 30, 11, 12])
    number, known = numbered(entity, event, np.zeros(5, np.int64), available, np.array([7, 0]))
    assert number.tolist() == [8, 9, 9, 1, 8]
    assert known.tolist() == [False, False, True, False, True]


def test_late_and_corrected_rows_are_not_reliable() -> None:
    made = moved(block(), "available_us", 5, START_US + 5 * DAY_US + LAG_US + 1)
    again = moved(made, "event_us", 19, int(made.event_us[18]))  # a second version of the key before it
    again = numbers(moved(again, "available_us", 19, int(made.available_us[18]) + HOUR_US))
    found = assess(again, DEFAULT, NOW_US)
    assert (found.counts.rows_late, found.counts.rows_corrected, found.counts.rows_reliable) == (1, 1, 18)
    assert found.factors["reliability"] == 0.9
    tolerant = assess(again, replace(DEFAULT, late_us=1), NOW_US)
    assert (tolerant.counts.rows_late, tolerant.counts.rows_reliable) == (0, 19)


@pytest.mark.parametrize(("behind", "value"), [(0, 1.0), (1, 1.0), (6, 0.5), (11, 0.25)])
def test_an_entity_that_stops_early_is_less_fresh(behind: int, value: float) -> None:
    made = block(20)
    kept = np.flatnonzero((made.entity == 0) | (made.row_number <= 20 - behind))
    names = ("entity", "event_us", "sequence", "available_us", "row_number", "known", "retracted", "values")
    part = replace(made, **{name: getattr(made, name)[kept] for name in names})
    assert assess(part, DEFAULT, NOW_US).freshness == pytest.approx((1.0 + value) / 2)
    assert decay(behind, 5.0) == value


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(definitions.FACTORS), st.floats(0.1, 9), min_size=1),
    st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_the_score_is_a_mean_of_the_factors(weights: dict[str, float], values: list[float]) -> None:
    factors = dict(zip(definitions.FACTORS, values, strict=True))
    score = weighted(factors, weights)
    used = [factors[name] for name in weights]
    assert min(used) - 1e-9 <= score <= max(used) + 1e-9
    assert weighted(factors, {name: 3 * weight for name, weight in weights.items()}) == pytest.approx(score)


def test_actions_and_thresholds_decide() -> None:
    bad = put(block(), 15, 1, 100.1)
    off = assess(bad, replace(DEFAULT, actions={"range": "off"}), NOW_US)
    assert (off.faults, off.verdict(overridden=False)) == ((), "passed")
    refused = assess(bad, replace(DEFAULT, actions={"range": "block"}), NOW_US)
    assert (refused.verdict(overridden=False), refused.verdict(overridden=True)) == ("blocked", "overridden")
    message = str(refused.as_error())
    for part in ("20 rows of small@3 were refused", "rule range", "in 1 row, of rsi_4", "BBB at 2010-01-09", "Nothing was written",
                 "TAPELINE_QUALITY_OVERRIDE=small@3"):  # fmt: skip
        assert part in message
    low = assess(bad, replace(DEFAULT, block_below=0.99), NOW_US)
    assert low.refusals == ("score 0.980 is below 0.99",)
    assert assess(bad, replace(DEFAULT, warn_below=0.99), NOW_US).is_low


def test_own_rules_see_nulls_and_name_their_rows() -> None:
    @quality_rules("small", 3, action="warn", actions={"calm": "block"})
    class Rules(pa.DataFrameModel):
        rsi_4: float = pa.Field(nullable=True, ge=0, le=48)
        sma_3: float

        @pa.dataframe_check(name="calm")
        def calm(cls, data):
            return data.lazyframe.select(
                pl.col("sma_3").is_null() | (pl.col("sma_3") < 59) | (pl.col("symbol") == "BBB")
            )

    found = assess(block(), definition_of("small", 3), NOW_US)
    rules = {fault.rule: fault for fault in found.faults}
    assert set(rules) == {"rsi_4: less_than_or_equal_to(48)", "sma_3: not_nullable", "calm"}
    assert rules["rsi_4: less_than_or_equal_to(48)"].examples == (
        "AAA at 2010-01-13T21:00:00+00:00: rsi_4 is 49", "BBB at 2010-01-13T21:00:00+00:00: rsi_4 is 49",
    )  # fmt: skip
    assert (rules["sma_3: not_nullable"].rows, rules["calm"].rows, rules["calm"].action) == (4, 1, "block")
    assert definition_of("small", 3).sha256 != definition_of("small", 2).sha256 == QualityDefinition().sha256


def test_rules_of_a_version_go_before_those_of_the_view() -> None:
    quality_rules("small", warn_below=0.5)(pa.DataFrameSchema({"sma_3": pa.Column(float, nullable=True)}))
    quality_rules("small", 3, warn_below=0.25)(pa.DataFrameSchema({"rsi_4": pa.Column(float, nullable=True)}))
    assert [definition_of("small", version).warn_below for version in (2, 3)] == [0.5, 0.25]
    with pytest.raises(ParameterError, match="small@3 has quality rules already"):
        quality_rules("small", 3)(pa.DataFrameSchema({}))


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (pa.DataFrameSchema({"nowhere": pa.Column(float)}), "nowhere"),
        (pa.DataFrameSchema({"sma_3": pa.Column(int, nullable=True)}), "Int64"),
        (pa.DataFrameSchema({"sma_3": pa.Column(float, pa.Check(lambda data: 1 / 0), nullable=True)}), "ZeroDivision"),
    ],
)
def test_rules_that_do_not_fit_are_an_error_not_a_fault(schema: pa.DataFrameSchema, said: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"cannot be tried: .*{said}"):
        examine(block(), replace(DEFAULT, schema=schema), NOW_US)


def test_impossible_definitions_are_refused() -> None:
    for changes, error in (
        ({"weights": {"beauty": 1.0}}, UnknownNameError),
        ({"weights": {"validity": 0.0}}, ParameterError),
        ({"weights": {"validity": -1.0, "freshness": 2.0}}, ParameterError),
        ({"warn_below": 2.0}, ParameterError),
        ({"action": "shout"}, UnknownNameError),
        ({"half_life_rows": 0.0}, ParameterError),
    ):
        with pytest.raises(error):
            QualityDefinition(**changes)
    with pytest.raises(ParameterError, match="no pandera schema"):
        quality_rules("small")(dict)  # type: ignore[type-var]
    with pytest.raises(UnknownNameError, match="rnage"):
        quality_rules("small", actions={"rnage": "off"})(pa.DataFrameSchema({}))


def test_modules_of_rules_are_loaded_by_name(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rules_of_mine.py").write_text(
        "import pandera.polars as pa\nfrom tapeline.quality import quality_rules\n"
        "quality_rules('other', 1, warn_below=0.125)(pa.DataFrameSchema({}))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings = Settings(quality_modules="rules_of_mine")
    assert definition_of("other", 1, settings).warn_below == 0.125
    with pytest.raises(ConfigurationError, match=r"'rules_of_nobody' cannot be imported.*TAPELINE_QUALITY_MODULES"):
        definition_of("other", 1, Settings(quality_modules="rules_of_nobody"))


def test_no_thread_judges_by_a_module_of_rules_that_another_still_reads(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rules_read_slowly.py").write_text(
        "import time\ntime.sleep(0.5)\nimport pandera.polars as pa\nfrom tapeline.quality import quality_rules\n"
        "quality_rules('other', 1, warn_below=0.125)(pa.DataFrameSchema({}))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings = Settings(quality_modules="rules_read_slowly")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: definition_of("other", 1, settings).warn_below, range(4)))
    assert found == [0.125] * 4


def test_every_bound_is_of_an_output_that_exists() -> None:
    from tapeline.features.bounds import BOUNDS

    outputs = {output for indicator in all_indicators() for output in indicator.outputs}
    assert set(BOUNDS) <= outputs
    for spec in VIEWS:
        assert len(bounds_of(spec)) == len(spec.columns)
