"""Queues whose mean wait is known, sent through the simulated network: it must come out the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.scaling.costs import Costs
from benchmarks.scaling.market import Floats, Integers
from benchmarks.scaling.network import Layout, Outcome, run_network

NOTHING = Costs(
    add_entry_s=0, add_byte_s=0, read_call_s=0, read_byte_s=0, write_value_s=0, acknowledge_entry_s=0, round_trip_s=0,
    batch_s=0, event_s=0, encode_event_s=0, decode_event_s=0, kernel_event_s=0, raw_row_s=0, feature_row_s=0, event_bytes=0,
    block_bytes=0, entry_bytes=0, value_bytes=0, state_bytes=0, raw_row_bytes=0, feature_row_bytes=0,
)  # fmt: skip


def mean_wait(rate: float, service_s: Floats) -> float:
    """Mean wait of an M/G/1 queue: λ E[S²] / 2 (1 - ρ) (Pollaczek and Khinchine). Of equal services that is M/D/1."""
    return float(rate * np.mean(service_s**2) / (2 * (1 - rate * np.mean(service_s))))


def one_worker(costs: Costs, sent_s: Floats, events: Integers) -> Outcome:
    """Blocks at one worker that takes them one at a time."""
    partition = np.zeros(len(sent_s), dtype=np.int64)
    return run_network(
        costs,
        Layout.even(1, 1, 1),
        sent_s,
        partition,
        events,
        np.ones(1),
        np.zeros(1, dtype=np.int64),
        events_per_batch=1,
    )


def simulated_wait(load: float, blocks: int, *, sizes: tuple[int, ...] = (1,), seed: int = 7) -> tuple[float, float]:
    """Mean wait at a worker as simulated and as known, in seconds; a block of n events is served in n ms.

    Parameters
    ----------
    load
        Part of its time that the worker is busy.
    blocks
        How many come, as a Poisson process.
    sizes
        Events of blocks, each as likely; one size is M/D/1, several are M/G/1.
    seed
        Where chance begins.
    """
    rng = np.random.default_rng(seed)
    events = rng.choice(np.array(sizes), blocks).astype(np.int64)
    service = 1e-3 * events
    rate = load / float(np.mean(1e-3 * np.array(sizes)))
    sent = np.cumsum(rng.exponential(1 / rate, blocks))
    visible = one_worker(replace(NOTHING, event_s=1e-3), sent, events).visible_s
    return float(np.mean(visible - sent - service)), mean_wait(rate, 1e-3 * np.array(sizes, dtype=np.float64))
