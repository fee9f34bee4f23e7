"""The point-in-time rule over arrays, for entity sets so dense that reading every row once is cheaper than looking up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class CandidateRows:
    """Rows of one view that some request might take, in any order.

    Attributes
    ----------
    key_ids
        int64 (N,): key of each row.
    event_us, available_us, created_us, sequence
        int64 (N,): its times and order. A view without an available column gives the event time, one without a
        created or sequence column, or a NULL there, the least int64.
    visible_us
        int64 (N,): the first moment at which a request may see it: never before its event and available times.
    """

    key_ids: NDArray[np.int64]
    event_us: NDArray[np.int64]
    available_us: NDArray[np.int64]
    created_us: NDArray[np.int64]
    sequence: NDArray[np.int64]
    visible_us: NDArray[np.int64]


def latest_visible(
    rows: CandidateRows, key_ids: NDArray[np.int64], times_us: NDArray[np.int64], ttl_us: int
) -> NDArray[np.int64]:
    """The row that the point-in-time rule picks for each request.

    The newest event that a request may see is not always the newest event before it: that one may not be available
    yet, or be a correction of an older one. So rows are first ranked by the rule's order (event, sequence, available,
    created), then put in the order in which they became visible; the running maximum of the rank is then the best row
    known at each moment, and a request takes the maximum at its own. That best row has the greatest event time of all
    visible ones, so if it is past its TTL, all are.

    Parameters
    ----------
    rows
        N candidates.
    key_ids, times_us
        int64 (R,): key and moment of each request.
    ttl_us
        How old an event may be; 0: no limit.

    Returns
    -------
    numpy.ndarray
        int64 (R,): index of the row, or -1.
    """
    if len(rows.key_ids) == 0 or len(times_us) == 0:
        return np.full(len(times_us), -1, dtype=np.int64)
    ranked = _rank_order(rows)
    rank = np.empty(len(ranked), dtype=np.int64)
    rank[ranked] = np.arange(len(ranked))

    place, ask = _places(rows.key_ids, rows.visible_us, key_ids, times_us)
    shown = np.argsort(place, kind="stable")
    # Ranks of a later key are all greater than those of an earlier one: the maximum starts anew with each key.
    best = np.maximum.accumulate(rank[shown])
    position = np.searchsorted(place[shown], ask, side="right") - 1
    answer = np.where(position >= 0, ranked[best[np.maximum(position, 0)]], -1)

    taken = np.maximum(answer, 0)
    answer[rows.key_ids[taken] != key_ids] = -1
    if ttl_us:
        answer[rows.event_us[taken] < times_us - ttl_us] = -1
    return answer.astype(np.int64)


def _rank_order(rows: CandidateRows) -> NDArray[np.int64]:
    """Indices of the rows by key, event, sequence, available, created."""
    place, _ = _places(rows.key_ids, rows.event_us, rows.key_ids[:0], rows.event_us[:0])
    order = np.argsort(place, kind="stable")
    ordered = place[order]
    same = ordered[1:] == ordered[:-1]
    if same.any():  # only rows of one key and event need the rest of the order
        tied = np.zeros(len(order), dtype=np.bool_)
        tied[1:] |= same
        tied[:-1] |= same
        at = np.flatnonzero(tied)
        among = order[at]
        finer = np.lexsort((rows.created_us[among], rows.available_us[among], rows.sequence[among], place[among]))
        order[at] = among[finer]
    return order


def _places(
    row_keys: NDArray[np.int64],
    row_times: NDArray[np.int64],
    request_keys: NDArray[np.int64],
    request_times: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One int64 for each (key, time), ordered by key, then time, the same for rows and requests."""
    times = np.concatenate((row_times, request_times))
    keys = np.concatenate((row_keys, request_keys))
    low, high = int(times.min()), int(times.max())
    span = high - low + 1
    if span * (int(keys.max()) + 1) > np.iinfo(np.int64).max:  # number the distinct times instead
        distinct, times = np.unique(times, return_inverse=True)
        low, span = 0, len(distinct)
    places = keys * np.int64(span) + (times - low)
    return places[: len(row_keys)], places[len(row_keys) :]
