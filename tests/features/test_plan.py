"""Plans: one compiled function in batch and stream, states as bytes, and clear errors."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tapeline.core.errors import (
    ContinuityError,
    IntegrityError,
    InvalidDataError,
    OutOfOrderError,
    ParameterError,
    UnknownNameError,
)
from tapeline.features import FeaturePlan, FeatureRequest

from tests.indicators.market import DAY_US, everything, goog, goog_features, msft, rows_of, same_bits, times

COUNT = 600


def _stream(
    plan: FeaturePlan, state: NDArray[np.float64], rows: NDArray[np.float64], first: int, end: int
) -> NDArray[np.float64]:
    out = np.empty((end - first, len(plan.outputs)))
    at = times(end)
    for i in range(first, end):
        plan.update(state, int(at[i]), 0, int(at[i]), rows[i], out[i - first])
    return out


def _two_entities() -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    plan = everything()
    rows = np.concatenate([rows_of(plan, goog())[:COUNT], rows_of(plan, msft())[: 2 * COUNT]])
    return np.concatenate([times(COUNT), times(2 * COUNT)]), rows, np.array([0, COUNT, 3 * COUNT])


def test_stream_equals_batch_bit_for_bit() -> None:
    plan = everything()
    rows = rows_of(plan, goog())
    streamed = _stream(plan, plan.new_state(), rows, 0, len(rows))
    assert same_bits(streamed, goog_features())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(goog()["close"])))
def test_a_saved_and_restored_state_continues_bit_for_bit(cut: int) -> None:
    plan, rows = everything(), rows_of(everything(), goog())
    at, sequence = times(len(rows)), np.zeros(len(rows), np.int64)
    head, ends = plan.batch(at[:cut], sequence[:cut], at[:cut], rows[:cut], np.array([0, cut]))
    saved = plan.save(ends[0])
    restored = plan.restore(saved)
    assert same_bits(restored, ends[0])
    assert plan.save(restored) == saved
    tail, _ = plan.batch(at[cut:], sequence[cut:], at[cut:], rows[cut:], np.array([0, len(rows) - cut]), restored[None])
    assert same_bits(np.concatenate([head, tail]), goog_features())
    assert plan.position(ends[0]).rows_seen == cut


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_the_number_of_threads_changes_nothing(threads: int) -> None:
    plan = everything()
    at, rows, offsets = _two_entities()
    sequence = np.zeros(len(at), np.int64)
    features, ends = plan.batch(at, sequence, at, rows, offsets, threads=threads)
    first, _ = plan.batch(at[:COUNT], sequence[:COUNT], at[:COUNT], rows[:COUNT], np.array([0, COUNT]), threads=1)
    assert same_bits(features[:COUNT], first)
    alone = at[COUNT:]
    second, end = plan.batch(alone, np.zeros_like(alone), alone, rows[COUNT:], np.array([0, len(alone)]), threads=1)
    assert same_bits(features[COUNT:], second)
    assert same_bits(ends[1], end[0])


def test_batches_may_run_in_several_threads_at_once() -> None:
    plan, rows = everything(), rows_of(everything(), goog())
    at, results = times(len(rows)), {}

    def run(number: int) -> None:
        results[number], _ = plan.batch(at, np.zeros_like(at), at, rows, np.array([0, len(rows)]))

    workers = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 4
    assert all(same_bits(result, goog_features()) for result in results.values())


def test_empty_entities_and_no_entities() -> None:
    plan = everything()
    none, no_rows = np.array([], np.int64), np.empty((0, len(plan.inputs)))
    features, ends = plan.batch(none, none, none, no_rows, np.array([0, 0, 0]))
    assert features.shape == (0, len(plan.outputs))
    assert same_bits(ends, np.stack([plan.new_state()] * 2))
    _, ends = plan.batch(none, none, none, no_rows, np.array([0]))
    assert ends.shape == (0, plan.state_size)


def test_a_computed_row_is_available_with_the_latest_of_its_inputs() -> None:
    plan, rows = everything(), rows_of(everything(), goog())[:5]
    at = times(5)
    available = at + np.array([10, 500 * DAY_US, 30, 40, 600 * DAY_US])
    out = np.empty(5, np.int64)
    _, ends = plan.batch(at, np.zeros_like(at), available, rows, np.array([0, 5]), available_out=out)
    assert out.tolist() == np.maximum.accumulate(available).tolist()
    position = plan.position(ends[0])
    assert (position.rows_seen, position.event_us, position.available_us) == (5, int(at[-1]), int(available[-1]))


def test_given_states_are_left_as_they_are() -> None:
    plan, rows = everything(), rows_of(everything(), goog())[:50]
    at, fresh = times(50), plan.new_state()[None]
    before = fresh.copy()
    plan.batch(at, np.zeros_like(at), at, rows, np.array([0, 50]), fresh)
    assert same_bits(fresh, before)


def test_sequences_and_times_beyond_2_to_the_53_are_exact() -> None:
    plan, state, out = everything(), everything().new_state(), np.empty(len(everything().outputs))
    row, huge = rows_of(plan, goog())[0], 2**62 + 1
    plan.update(state, -5, huge, -5, row, out)
    plan.update(state, -5, huge + 1, -9, row, out)
    position = plan.position(plan.restore(plan.save(state)))
    assert (position.event_us, position.sequence, position.available_us) == (-5, huge + 1, -5)
    with pytest.raises(ContinuityError):
        plan.update(state, -5, huge + 1, -5, row, out)


@pytest.mark.parametrize(("event", "sequence"), [(10, 3), (10, 2), (9, 99)])
def test_a_row_that_does_not_follow_is_refused_and_changes_nothing(event: int, sequence: int) -> None:
    plan, state, out = everything(), everything().new_state(), np.empty(len(everything().outputs))
    row = rows_of(plan, goog())[0]
    plan.update(state, 10, 3, 10, row, out)
    before = plan.save(state)
    with pytest.raises(ContinuityError, match="newer than the state"):
        plan.update(state, event, sequence, 10, row, out)
    assert plan.save(state) == before


def test_rows_out_of_order_name_entity_and_row() -> None:
    plan = everything()
    at, rows, offsets = _two_entities()
    at[COUNT + 7] = at[COUNT + 6]
    with pytest.raises(OutOfOrderError, match=f"entity 1, row {COUNT + 7}"):
        plan.batch(at, np.zeros_like(at), at, rows, offsets)


def test_a_batch_must_continue_its_states() -> None:
    plan = everything()
    at, rows, offsets = _two_entities()
    _, ends = plan.batch(at, np.zeros_like(at), at, rows, offsets)
    with pytest.raises(ContinuityError, match="entity 0, row 0"):
        plan.batch(at, np.zeros_like(at), at, rows, offsets, ends)


@pytest.mark.parametrize("ratio", [0.0, -2.0, np.nan, np.inf])
def test_an_impossible_split_is_refused(ratio: float) -> None:
    plan, out = everything(), np.empty(len(everything().outputs))
    rows = rows_of(plan, goog())[:3].copy()
    rows[2, -1] = ratio
    state = plan.new_state()
    before = plan.save(state)
    with pytest.raises(InvalidDataError, match="split_ratio"):
        plan.update(state, 1, 0, 1, rows[2], out)
    assert plan.save(state) == before
    with pytest.raises(InvalidDataError, match="entity 0, row 2"):
        plan.batch(times(3), np.zeros(3, np.int64), times(3), rows, np.array([0, 3]))


def test_arrays_that_do_not_fit_are_refused() -> None:
    plan, state = everything(), everything().new_state()
    row, out = rows_of(plan, goog())[0], np.empty(len(everything().outputs))
    wrong = [
        (state[:-1], row, out),
        (state, row[:-1], out),
        (state, row, out[:-1]),
        (state.astype(np.float32), row, out),
        (state, row, out[::2]),
        (state, row[None], out),
        (state, "abc", out),
        ([0.0], row, out),
    ]
    for case in wrong:
        with pytest.raises(ParameterError):
            plan.update(case[0], 1, 0, 1, case[1], case[2])  # type: ignore[arg-type]
    locked = state.copy()
    locked.setflags(write=False)
    with pytest.raises(ParameterError, match="writable"):
        plan.update(locked, 1, 0, 1, row, out)
    assert same_bits(state, plan.new_state())
    for offsets in ([0, 2], [1, 3], [0, 3, 2], []):
        with pytest.raises(ParameterError, match="offsets"):
            plan.batch(times(3), np.zeros(3, np.int64), times(3), np.tile(row, (3, 1)), np.array(offsets, np.int64))
    with pytest.raises(ParameterError, match="rows"):
        plan.batch(times(3), np.zeros(3, np.int64), times(3), np.tile(row, (2, 1)), np.array([0, 3]))


def test_rows_may_be_lists_or_read_only_views() -> None:
    plan, out = everything(), np.empty(len(everything().outputs))
    row = rows_of(plan, goog())[0]
    plan.update(plan.new_state(), 1, 0, 1, row, out)
    view = np.frombuffer(row.tobytes())
    for given_row in (view, row.tolist()):
        other = np.empty_like(out)
        plan.update(plan.new_state(), 1, 0, 1, given_row, other)  # type: ignore[arg-type]
        assert same_bits(out, other)


def test_bytes_of_another_plan_or_damaged_ones_are_refused() -> None:
    plan = everything()
    other = FeaturePlan.of([FeatureRequest.of("SMA", timeperiod=3)])
    saved = plan.save(plan.new_state())
    with pytest.raises(IntegrityError, match="another feature plan"):
        other.restore(saved)
    flipped = saved[:-1] + bytes([saved[-1] ^ 1])
    for damaged in (flipped, saved[:-8], saved[:10], b"", b"XXXX" + saved[4:], saved + bytes(8)):
        with pytest.raises(IntegrityError):
            plan.restore(damaged)
    with pytest.raises(ParameterError):
        plan.save(other.new_state())


def test_requests_check_names_and_bounds() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean RSI"):
        FeatureRequest("RSII")
    with pytest.raises(UnknownNameError, match="timeperiod"):
        FeatureRequest.of("RSI", timeperiods=3)
    for value in (1, 2.5, 10_001, -3, True, float("nan")):
        with pytest.raises(ParameterError, match="RSI"):
            FeatureRequest.of("RSI", timeperiod=value)
    with pytest.raises(ParameterError, match="twice"):
        FeaturePlan.of([FeatureRequest("RSI"), FeatureRequest.of("RSI", timeperiod=14)])
    with pytest.raises(ParameterError, match="at least one"):
        FeaturePlan.of([])


def test_columns_name_output_and_parameters() -> None:
    assert FeatureRequest.of("RSI", timeperiod=14).columns == ("rsi_14",)
    assert FeatureRequest("MACD").columns == ("macd_12_26_9", "macd_signal_12_26_9", "macd_hist_12_26_9")
    assert FeatureRequest.of("BBANDS", nbdevup=2.5, nbdevdn=-1).columns[0] == "bbands_upper_20_2p5_m1"
    assert FeatureRequest.of("PPO", matype=0).columns == ("ppo_12_26_0",)
    assert FeatureRequest("OBV").columns == ("obv",)
    request = FeatureRequest.of("STOCH", slowk_period=4, fastk_period=7)
    assert FeatureRequest.from_definition(request.definition()).columns == request.columns


def test_a_plan_takes_only_the_columns_it_needs_and_splits() -> None:
    assert FeaturePlan.of([FeatureRequest("SMA")]).inputs == ("close", "split_ratio")
    assert FeaturePlan.of([FeatureRequest("OBV"), FeatureRequest("GAP")]).inputs == (
        "open", "close", "volume", "split_ratio",
    )  # fmt: skip


def test_common_parts_are_shared() -> None:
    one = FeaturePlan.of([FeatureRequest("MACD")])
    both = FeaturePlan.of([FeatureRequest("MACD"), FeatureRequest.of("EMA", timeperiod=26)])
    assert both.state_size == one.state_size


def test_the_hash_is_of_meaning_and_order() -> None:
    def of(*requests: FeatureRequest) -> str:
        return FeaturePlan.of(requests).hash

    sma, rsi = FeatureRequest.of("SMA", timeperiod=5), FeatureRequest("RSI")
    assert of(sma, rsi) == of(FeatureRequest.of("SMA", timeperiod=5), FeatureRequest.of("RSI", timeperiod=14))
    assert len({of(sma), of(rsi), of(sma, rsi), of(rsi, sma), of(FeatureRequest.of("SMA", timeperiod=6))}) == 5


def test_the_plan_of_another_process_is_loaded_from_disk_and_agrees(tmp_path: Path) -> None:
    """Twice in fresh processes: the first compiles, the second must take the machine code from the cache."""
    program = """
import sys, numpy as np
from tapeline.features import FeaturePlan, FeatureRequest
plan = FeaturePlan.of([FeatureRequest.of("SMA", timeperiod=3), FeatureRequest.of("EMA", timeperiod=2)])
out = np.empty((6, 2)); state = plan.new_state()
for i in range(6):
    plan.update(state, i, 0, i, np.array([float(i * i + 1), 1.0]), out[i])
print(plan.hash, out.tobytes().hex(), plan._module.section_0.cache_hits, plan._module.section_1.cache_hits)
"""
    environment = {"TAPELINE_HOME": str(tmp_path), "PATH": "/usr/bin"}
    first, second = (
        subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
        .stdout.split()
        for _ in range(2)
    )  # fmt: skip
    assert first[:2] == second[:2]
    assert first[2:] == ["0", "0"]
    assert second[2:] == ["1", "1"]
    kernels = tmp_path / "kernels"
    assert kernels.stat().st_mode & 0o077 == 0
