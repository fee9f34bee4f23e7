"""The queueing network of the streams, event by event in simulated time.

A producer sends a block to the Redis server of its partition, which appends it to the partition's stream. A worker that has
nothing to do is handed everything that waits in its partitions, up to a limit; computes for a time that grows with the
number of events; writes one online value for each distinct symbol, spread over the servers; and reads again. Every server
and every worker does one thing at a time, in the order in which it comes. Where a partition's backlog is full its producer
waits, in order.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numba import njit

from benchmarks.scaling.costs import Costs
from benchmarks.scaling.market import Floats, Integers, distinct_symbols

ENTRIES_PER_READ = 64
"""Blocks of one partition that a worker takes at once."""
EVENTS_PER_BATCH = 20_000
_ACKNOWLEDGED_AFTER_S = 0.1
_GRID = 2.0 ** np.arange(0.0, 16.5, 0.5)
_ADDED, _WAITS, _READ, _COMPUTED, _WRITE, _ACKNOWLEDGE = range(6)


@dataclass(frozen=True)
class Layout:
    """How partitions are spread.

    Attributes
    ----------
    worker_of, shard_of
        int64 (P,): of each partition; those of one worker lie on one shard, since it reads them with one command.
    workers, shards
        How many there are.
    """

    worker_of: Integers
    shard_of: Integers
    workers: int
    shards: int

    @classmethod
    def even(cls, partitions: int, workers: int, shards: int) -> Layout:
        """By number, as workers share partitions, whatever the load of each."""
        worker = np.arange(partitions, dtype=np.int64) % workers
        return cls(worker, worker % shards, workers, shards)


@dataclass(frozen=True)
class Outcome:
    """What happened.

    Attributes
    ----------
    visible_s
        float64 (B,): when the features of each block's events could be read; NaN if never.
    worker_busy_s, shard_busy_s
        float64: how long each worked.
    batches, values
        How many batches were read, and online values written.
    backlog_max
        int64 (P,): most blocks that waited in each partition's stream.
    held
        Blocks whose producer had to wait for room.
    end_s
        When the last block became visible.
    """

    visible_s: Floats
    worker_busy_s: Floats
    shard_busy_s: Floats
    batches: int
    values: float
    backlog_max: Integers
    held: int
    end_s: float


def run_network(
    costs: Costs,
    layout: Layout,
    sent_s: Floats,
    partition: Integers,
    events: Integers,
    symbol_shares: Floats,
    partition_of_symbol: Integers,
    *,
    backlog_entries_max: int = 100_000,
    entries_per_read: int = ENTRIES_PER_READ,
    events_per_batch: int = EVENTS_PER_BATCH,
) -> Outcome:
    """Send blocks through the network until all of them are visible.

    Parameters
    ----------
    costs
        What things take.
    layout
        Where partitions are.
    sent_s, partition, events
        The blocks, (B,), in order of time.
    symbol_shares, partition_of_symbol
        (S,): how often each symbol occurs, for the number of values that a batch writes.
    backlog_entries_max, entries_per_read, events_per_batch
        Limits.
    """
    worker_of_symbol = layout.worker_of[partition_of_symbol]
    distinct = np.stack([distinct_symbols(symbol_shares[worker_of_symbol == w], _GRID) for w in range(layout.workers)])
    bytes_of = costs.block_bytes + costs.event_bytes * events
    numbers = np.array(
        [
            costs.read_call_s, costs.read_byte_s, costs.write_value_s, costs.acknowledge_entry_s, costs.round_trip_s,
            costs.batch_s, costs.event_s, min(1.0, costs.rows_per_event), _ACKNOWLEDGED_AFTER_S,
        ]
    )  # fmt: skip
    limits = np.array([backlog_entries_max, entries_per_read, events_per_batch], dtype=np.int64)
    visible, worker_busy, shard_busy, most, counts = _simulate(
        sent_s, partition, events, costs.add_entry_s + costs.add_byte_s * bytes_of, bytes_of, layout.worker_of,
        layout.shard_of, layout.workers, layout.shards, distinct, numbers, limits,
    )  # fmt: skip
    return Outcome(
        visible, worker_busy, shard_busy, int(counts[0]), counts[1], most, int(counts[2]), float(visible.max())
    )


@njit(cache=False)
def _distinct(table: Floats, count: float) -> float:
    """Between two places of the grid, which are half an octave apart."""
    place = 2.0 * np.log2(max(count, 1.0))
    low = min(int(place), len(table) - 2)
    part = min(place - low, 1.0)
    return table[low] * (1.0 - part) + table[low + 1] * part


@njit(cache=False)
def _simulate(
    sent, partition, events, add_s, bytes_of, worker_of, shard_of, workers, shards, distinct, numbers, limits
):
    read_call_s, read_byte_s, write_value_s, acknowledge_s, round_trip_s = numbers[:5]
    batch_s, event_s, values_per_event, acknowledged_after_s = numbers[5:]
    room, entries_max, events_max = limits
    blocks, partitions = len(sent), len(worker_of)
    half = round_trip_s / 2.0

    shard_free, shard_busy = np.zeros(shards), np.zeros(shards)
    worker_busy, working = np.zeros(workers), np.zeros(workers, dtype=np.bool_)
    # The blocks of a partition stand in their order; those before `taken` were read, those before `added` wait in the stream.
    order = np.argsort(partition, kind="mergesort")
    first = np.searchsorted(partition[order], np.arange(partitions + 1))
    arrived, added, taken = first[:-1].copy(), first[:-1].copy(), first[:-1].copy()
    asked = first[:-1].copy()
    most = np.zeros(partitions, dtype=np.int64)
    mine = np.argsort(worker_of, kind="mergesort")
    mine_first = np.searchsorted(worker_of[mine], np.arange(workers + 1))
    turn = np.zeros(workers, dtype=np.int64)

    visible = np.full(blocks, np.nan)
    # What a worker has in hand: from and to which place of each of its partitions.
    hand_from, hand_to = first[:-1].copy(), first[:-1].copy()
    hand_events, hand_blocks = np.zeros(workers), np.zeros(workers)
    replies, reply_s = np.zeros(workers, dtype=np.int64), np.zeros(workers)

    heap = [(np.inf, 0, 0, 0.0)]
    coming = 0
    batches, values, held = 0.0, 0.0, 0.0
    while True:
        next_s = sent[coming] if coming < blocks else np.inf
        if heap[0][0] == np.inf and next_s == np.inf:
            break
        if next_s <= heap[0][0]:
            p = partition[coming]
            coming += 1
            arrived[p] += 1
            if asked[p] - taken[p] >= room:
                held += 1.0
            else:
                heapq.heappush(heap, (next_s + half, _ADDED, p, float(order[asked[p]])))
                asked[p] += 1
            continue
        now, kind, number, more = heapq.heappop(heap)
        if kind == _ADDED:
            s = shard_of[number]
            shard_free[s] = max(shard_free[s], now) + add_s[int(more)]
            shard_busy[s] += add_s[int(more)]
            heapq.heappush(heap, (shard_free[s], _WAITS, number, more))
        elif kind == _WAITS:
            added[number] += 1
            most[number] = max(most[number], added[number] - taken[number])
            w = worker_of[number]
            if not working[w]:  # its read has been waiting at the server
                working[w] = True
                heapq.heappush(heap, (now, _READ, w, 0.0))
        elif kind == _READ:
            s = shard_of[mine[mine_first[number]]]
            start = max(shard_free[s], now)
            size, count, entries = 0.0, 0.0, 0.0
            own = mine_first[number + 1] - mine_first[number]
            for step in range(own):
                # Each read begins with another partition, so that none is left out while batches are full.
                p = mine[mine_first[number] + (turn[number] + step) % own]
                hand_from[p] = taken[p]
                last = min(added[p], taken[p] + entries_max)
                while taken[p] < last and (count < events_max or entries == 0.0):
                    block = order[taken[p]]
                    size += bytes_of[block]
                    count += events[block]
                    entries += 1.0
                    taken[p] += 1
                hand_to[p] = taken[p]
                while asked[p] < arrived[p] and asked[p] - taken[p] < room:  # producers that waited for room
                    heapq.heappush(heap, (now + half, _ADDED, p, float(order[asked[p]])))
                    asked[p] += 1
            turn[number] += 1
            cost_s = read_call_s + read_byte_s * size
            shard_free[s] = start + cost_s
            shard_busy[s] += cost_s
            if entries == 0.0:
                working[number] = False
                continue
            hand_events[number], hand_blocks[number] = count, entries
            batches += 1.0
            work_s = batch_s + event_s * count
            worker_busy[number] += work_s
            heapq.heappush(heap, (shard_free[s] + half + work_s, _COMPUTED, number, 0.0))
        elif kind == _COMPUTED:
            wanted = _distinct(distinct[number], hand_events[number] * values_per_event)
            wanted = min(wanted, hand_events[number] * values_per_event)
            values += wanted
            replies[number], reply_s[number] = shards, now
            for s in range(shards):
                heapq.heappush(heap, (now + half, _WRITE, number * shards + s, wanted / shards))
        elif kind == _WRITE:
            w, s = number // shards, number % shards
            shard_free[s] = max(shard_free[s], now) + write_value_s * more
            shard_busy[s] += write_value_s * more
            replies[w] -= 1
            reply_s[w] = max(reply_s[w], shard_free[s] + half)
            if replies[w] == 0:
                for place in range(mine_first[w], mine_first[w + 1]):
                    p = mine[place]
                    for at in range(hand_from[p], hand_to[p]):
                        visible[order[at]] = reply_s[w]
                    hand_from[p] = hand_to[p]
                heapq.heappush(heap, (reply_s[w] + half, _READ, w, 0.0))
                own = shard_of[mine[mine_first[w]]]
                heapq.heappush(heap, (reply_s[w] + acknowledged_after_s, _ACKNOWLEDGE, own, hand_blocks[w]))
        else:
            shard_free[number] = max(shard_free[number], now) + acknowledge_s * more
            shard_busy[number] += acknowledge_s * more
    return visible, worker_busy, shard_busy, most, np.array([batches, values, held])
