"""The simulation of streams against what is known of queues."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.scaling.capacity import Setting, carried, flow, limits, smallest
from benchmarks.scaling.costs import Costs
from benchmarks.scaling.latency import latency_at, opening_of, weighted
from benchmarks.scaling.market import Market, Opening, blocks_of, distinct_symbols
from benchmarks.scaling.measure import fitted
from benchmarks.scaling.network import Layout, run_network
from benchmarks.scaling.theory import NOTHING, one_worker, simulated_wait

COSTS = replace(
    NOTHING, add_entry_s=4e-6, add_byte_s=3e-9, read_call_s=2e-5, read_byte_s=1e-9, write_value_s=1e-5,
    acknowledge_entry_s=1e-6, round_trip_s=1e-4, batch_s=3e-4, event_s=4e-6, event_bytes=57, block_bytes=20, raw_row_s=4e-5,
    feature_row_s=7e-5, value_bytes=1_700, state_bytes=36_000, rows_per_event=0.1,
)  # fmt: skip
MARKET = Market(2_000, 0.9)


@pytest.mark.parametrize("load", [0.3, 0.8])
@pytest.mark.parametrize("sizes", [(1,), (1, 1, 1, 10)], ids=["M/D/1", "M/G/1"])
def test_the_mean_wait_at_a_worker_is_that_of_theory(load: float, sizes: tuple[int, ...]) -> None:
    found, known = simulated_wait(load, 200_000, sizes=sizes)
    assert found == pytest.approx(known, rel=0.06)


def test_a_redis_server_does_one_thing_at_a_time_in_order() -> None:
    rng, load, service = np.random.default_rng(3), 0.7, 1e-3
    sent = np.cumsum(rng.exponential(service / load, 100_000))
    outcome = run_network(
        replace(NOTHING, add_entry_s=service), Layout.even(1, 1, 1), sent, np.zeros(len(sent), dtype=np.int64),
        np.ones(len(sent), dtype=np.int64), np.ones(1), np.zeros(1, dtype=np.int64),
    )  # fmt: skip
    added = np.empty(len(sent))
    free = 0.0
    for number, moment in enumerate(sent.tolist()):  # Lindley's recursion
        free = added[number] = max(free, moment) + service
    assert (outcome.visible_s >= added - 1e-9).all()
    # Reading and writing cost nothing here, but wait for what is under way: not where a departure leaves nobody, 1 - ρ of them.
    assert np.mean(outcome.visible_s <= added + 1e-9) == pytest.approx(1 - load, abs=0.02)
    assert outcome.shard_busy_s[0] == pytest.approx(service * len(sent))


def sent_blocks(seed: int = 1, *, rate: float = 2e5, seconds: float = 0.5):
    rng = np.random.default_rng(seed)
    return blocks_of(rate, MARKET.partition_shares(24), 0.002, seconds, rng, None)


@pytest.mark.parametrize("room", [1, 3, 100_000])
def test_every_block_becomes_visible_once_in_order_and_all_work_is_accounted_for(room: int) -> None:
    layout = Layout.even(24, 4, 2)
    sent, partition, events = sent_blocks(
        rate=1.5e6, seconds=0.2
    )  # more than the workers can take: they catch up after it
    outcome = run_network(
        COSTS, layout, sent, partition, events, MARKET.shares, MARKET.partition_of(24), backlog_entries_max=room
    )
    assert np.isfinite(outcome.visible_s).all()
    assert (outcome.visible_s > sent + COSTS.round_trip_s).all()
    for one in range(24):  # a partition's blocks keep their order
        assert (np.diff(outcome.visible_s[partition == one]) >= 0).all()
    worked = COSTS.batch_s * outcome.batches + COSTS.event_s * events.sum()
    assert outcome.worker_busy_s.sum() == pytest.approx(worked)
    assert (outcome.worker_busy_s <= outcome.end_s).all()
    assert outcome.backlog_max.max() <= room
    assert (outcome.held > 0) == (room < 100)
    # Of the servers: every block added, read and acknowledged, every value written; and reads that found nothing besides.
    size = COSTS.block_bytes * len(sent) + COSTS.event_bytes * events.sum()
    least = (COSTS.add_entry_s + COSTS.acknowledge_entry_s) * len(sent) + (COSTS.add_byte_s + COSTS.read_byte_s) * size
    least += COSTS.write_value_s * outcome.values + COSTS.read_call_s * outcome.batches
    idle_reads = (outcome.shard_busy_s.sum() - least) / COSTS.read_call_s
    assert idle_reads == pytest.approx(round(idle_reads), abs=1e-3)
    assert 0 <= round(idle_reads) <= outcome.batches + layout.workers


def test_a_run_is_repeatable_and_waits_grow_with_the_load() -> None:
    setting = Setting(24, 4, 2, 0.002)
    some = [latency_at(COSTS, MARKET, setting, 4e5, load, duration_s=0.4) for load in (0.2, 0.6, 1.0, 1.6)]
    assert some[0] == latency_at(COSTS, MARKET, setting, 4e5, 0.2, duration_s=0.4)
    assert [one.p99_s for one in some] == sorted(one.p99_s for one in some)
    assert [one.worker_busy for one in some] == sorted(one.worker_busy for one in some)
    assert some[0].p50_s > COSTS.round_trip_s + COSTS.batch_s


def test_the_fluid_limit_is_what_the_simulation_tends_to() -> None:
    setting = Setting(24, 4, 2, 0.001)
    costs = replace(COSTS, batch_s=3e-3)  # cycles are long against the time in which producers collect
    found = flow(costs, MARKET, setting, 3e5)
    rng = np.random.default_rng(5)
    sent, partition, events = blocks_of(3e5, MARKET.partition_shares(24), 0.001, 1.0, rng, None)
    outcome = run_network(costs, setting.layout, sent, partition, events, MARKET.shares, MARKET.partition_of(24))
    assert outcome.batches / outcome.end_s == pytest.approx((1 / found.cycle_s).sum(), rel=0.1)
    assert outcome.values / outcome.end_s == pytest.approx(found.values, rel=0.1)
    assert np.allclose(outcome.worker_busy_s / outcome.end_s, found.worker_busy, rtol=0.1)
    assert len(sent) == pytest.approx(found.blocks, rel=0.02)


def test_what_is_carried_is_carried_and_more_is_not() -> None:
    rate = 4e5
    setting = smallest(COSTS, MARKET, rate)
    assert setting is not None
    most = carried(COSTS, MARKET, setting, rate)
    assert most >= 1.0
    assert flow(COSTS, MARKET, setting, rate).shard_busy.max() <= 0.7
    exhausted = min(load for name, load, _ in limits(COSTS, MARKET, setting, rate) if "PostgreSQL" not in name)
    inside = latency_at(COSTS, MARKET, setting, rate, 1.0, duration_s=0.6)
    beyond = latency_at(COSTS, MARKET, setting, exhausted, 1.5, duration_s=0.6)
    assert inside.p99_s < 0.03
    assert beyond.p99_s > 5 * inside.p99_s
    assert smallest(replace(COSTS, event_s=1.0), MARKET, rate) is None  # a single symbol is too much for a worker


def test_an_opening_makes_a_backlog_that_drains() -> None:
    setting = Setting(24, 4, 2, 0.002)
    costs = replace(COSTS, event_s=8e-6)
    opened = opening_of(costs, MARKET, setting, 2e5, Opening(0.3, 4.0, 0.1), duration_s=2.5)
    calm = opened.backlog[opened.time_s < 0.3].mean()
    assert opened.backlog.max() > 5 * calm
    assert opened.backlog[-1] < 3 * calm
    assert 0.05 < opened.drained_s < 2.0
    assert opened.rate.max() == pytest.approx(8e5, rel=0.2)


def test_distinct_symbols_and_quantiles_agree_with_counting() -> None:
    rng = np.random.default_rng(2)
    shares = Market(500, 1.0).shares
    counted = np.mean([len(np.unique(rng.choice(500, 200, p=shares))) for _ in range(400)])
    assert distinct_symbols(shares, np.array([200.0]))[0] == pytest.approx(counted, rel=0.02)
    values, weights = rng.random(200), rng.integers(1, 9, 200)
    spread = np.sort(np.repeat(values, weights))
    for quantile in (0.5, 0.99):
        wanted = spread[int(np.ceil(quantile * len(spread))) - 1]
        assert weighted(values, weights, quantile) == wanted


def test_a_workers_costs_are_found_from_its_times() -> None:
    events = np.array([16.0, 64.0, 1_024.0, 4_096.0, 16_384.0])
    batches = np.array([1.0, 2.0, 2.0, 3.0, 5.0])
    noise = 1 + 0.02 * np.random.default_rng(1).normal(size=5)
    batch_s, event_s = fitted(events, (4e-4 * batches + 1.6e-5 * events) * noise, batches)
    assert event_s == pytest.approx(1.6e-5, rel=0.1)
    assert batch_s == pytest.approx(4e-4, rel=0.3)


def test_one_block_alone_takes_what_its_steps_take() -> None:
    costs: Costs = replace(COSTS, rows_per_event=1.0)
    outcome = one_worker(costs, np.array([1.0]), np.array([1]))
    size = costs.block_bytes + costs.event_bytes
    steps = costs.add_entry_s + costs.add_byte_s * size + costs.read_call_s + costs.read_byte_s * size
    steps += costs.batch_s + costs.event_s + costs.write_value_s + 2 * costs.round_trip_s
    assert outcome.visible_s[0] - 1.0 == pytest.approx(steps)
