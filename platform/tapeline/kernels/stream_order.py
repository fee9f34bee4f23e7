"""The rows of a stream: which can be taken, which simply continue their symbols, and these by symbol; each in one pass over a block.

A block's rows are one matrix, a line for each of the ``ROW_`` columns. The tables of a lane have one entry a symbol: the key of its last
row, its available time, the position in the stream up to which it stands (entry time, then entry number and place), two moments
from which on something other than a row must be looked at: an event time at which a split takes effect, an available time at
which one becomes known; and whether it is set aside: its rows are recorded, and nothing is computed with them.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

SKIPPED, TAKEN, RECORDED, LATE = 0, 1, 2, 3
"""Already contained; continues its symbol; is recorded but computed with nothing; changes what was computed."""

SEEN, EVENT, SEQUENCE, AVAILABLE, MS, PART, EFFECT, KNOWN, USED_EVENT, USED_SEQUENCE, ASIDE, SYMBOL_COLUMNS = range(12)
"""Columns of a symbol's entry; ``USED_`` is the key of the last row that states were computed with."""

(
    ROW_NAME, ROW_PARTITION, ROW_MS, ROW_PART, ROW_EVENT, ROW_SEQUENCE, ROW_AVAILABLE, ROW_CHANGE, ROW_DEADLINE,
    ROW_USABLE, ROW_PLACE, ROW_CODE, ROW_COLUMNS,
) = range(13)  # fmt: skip
"""Of a row: its symbol among the block's, its partition and position, its key and available time, whether it is marked as a
correction, from when on it comes too late for its bar, whether features are computed with it, its symbol's place in the
lane, and what it is."""

TRADES, BOOK_EVENTS, BARS = 1, 3, 4
"""Kinds whose records hold something of their own to be judged."""

WORDS = 4
"""Words of eight bytes before a record's values: symbol, change, side and extra in one; event; sequence; available."""


@njit(error_model="numpy", cache=True, nogil=True)
def judge(words: Integers, kind: int, time_max: int, earliest: int, actions: int, codes: NDArray[np.uint8]) -> bool:
    """Why records cannot be taken, as the places in ``codec.FAULTS``; whether any cannot.

    Parameters
    ----------
    words
        int64 (N, W): records as they are in memory.
    kind
        The kind of events.
    time_max, earliest
        Times and sequences lie below and above these.
    actions
        Number of actions that a book event may have.
    codes
        uint8 (N,), written.
    """
    found = False
    for i in range(len(words)):
        head, event, sequence, available = words[i, 0], words[i, 1], words[i, 2], words[i, 3]
        side = (head >> 24) & 0xFF
        code = 0
        if ((head >> 16) & 0xFF) > 2:
            code = 1
        elif side not in (0, 1, 255):
            code = 2
        elif event <= earliest or event >= time_max:
            code = 3
        elif sequence < 0 or sequence >= time_max:
            code = 4
        elif available < event or available >= time_max:
            code = 5
        elif kind == BARS:
            start = words[i, WORDS : WORDS + 1].view(np.float64)[0]
            if not (-time_max < start < event) or start != np.floor(start):
                code = 6
        elif kind == BOOK_EVENTS and ((head >> 32) & 0xFFFFFFFF) >= actions:
            code = 7
        codes[i] = code
        found = found or code != 0
    return found


@njit(error_model="numpy", cache=True, nogil=True)
def unpack(
    words: Integers,
    entries: Integers,
    symbols: Integers,
    kind: int,
    ahead_us: int,
    late_code: int,
    rows: Integers,
    codes: NDArray[np.uint8],
) -> bool:
    """Columns of the records of some entries; whether any record is available too long after its entry was sent.

    Parameters
    ----------
    words
        int64 (N, W): the records of all entries, one after another.
    entries
        int64 (E, 5): events, partition, time in ms, position of the first event, and where its symbols begin in ``symbols``.
    symbols
        int64: for each entry's symbols, one after another, their places in the block.
    kind
        The kind of events.
    ahead_us
        How long after its entry was sent an event may be available.
    late_code
        What to write into ``codes`` of one that is later.
    rows
        int64 (ROW_COLUMNS, N), written but for the deadline, the place and the code.
    codes
        uint8 (N,): faults so far.
    """
    found = False
    at = 0
    for e in range(len(entries)):
        latest_us = entries[e, 2] * 1_000 + ahead_us
        for k in range(entries[e, 0]):
            head = words[at, 0]
            rows[ROW_NAME, at] = symbols[entries[e, 4] + (head & 0xFFFF)]
            rows[ROW_PARTITION, at] = entries[e, 1]
            rows[ROW_MS, at] = entries[e, 2]
            rows[ROW_PART, at] = entries[e, 3] + k
            rows[ROW_EVENT, at] = words[at, 1]
            rows[ROW_SEQUENCE, at] = words[at, 2]
            rows[ROW_AVAILABLE, at] = words[at, 3]
            rows[ROW_CHANGE, at] = (head >> 16) & 0xFF
            usable = 1
            if kind == TRADES:
                trade = words[at, WORDS : WORDS + 2].view(np.float64)
                usable = int(0.0 < trade[0] < np.inf and 0.0 <= trade[1] < np.inf)
            rows[ROW_USABLE, at] = usable
            if codes[at] == 0 and words[at, 3] > latest_us:
                codes[at] = late_code
                found = True
            at += 1
    return found


@njit(error_model="numpy", cache=True, nogil=True)
def _contained(entry: Integers, ms: int, part: int) -> bool:
    return bool(ms < entry[MS] or (ms == entry[MS] and part <= entry[PART]))


@njit(error_model="numpy", cache=True, nogil=True)
def _changes(rows: Integers, i: int, entry: Integers, known_us: int) -> bool:
    """Whether a row changes what was computed before it."""
    if rows[ROW_CHANGE, i] != 0 or (rows[ROW_USABLE, i] != 0 and rows[ROW_DEADLINE, i] <= known_us):
        return True
    if entry[SEEN] == 0:
        return False
    event_us = rows[ROW_EVENT, i]
    return bool(event_us < entry[EVENT] or (event_us == entry[EVENT] and rows[ROW_SEQUENCE, i] <= entry[SEQUENCE]))


@njit(error_model="numpy", cache=True, nogil=True)
def _mark(dirty: Integers, rows: Integers, i: int) -> None:
    """Note that the kept state of a row's symbol lacks it."""
    place = rows[ROW_PLACE, i]
    if dirty[place, 0] == 0:
        dirty[place, 0] = rows[ROW_MS, i]
        dirty[place, 1] = rows[ROW_PART, i]


@njit(error_model="numpy", cache=True, nogil=True)
def admit(start: int, end: int, rows: Integers, table: Integers, dirty: Integers) -> int:
    """Take rows from ``start`` on up to the first that does not simply continue its symbol; returns its place.

    Parameters
    ----------
    start, end
        Where to begin, and where to stop.
    rows
        int64 (ROW_COLUMNS, N): available times are raised to that of the symbol's row before, codes written.
    table
        int64 (symbols, SYMBOL_COLUMNS), brought up to date. A row that nothing is computed with counts for the order of keys, too: no
        two rows of one key are ever taken as if they were different.
    dirty
        int64 (symbols, 2): positions of the first rows that kept states do not contain.
    """
    for i in range(start, end):
        place = rows[ROW_PLACE, i]
        entry = table[place]
        ms, part = rows[ROW_MS, i], rows[ROW_PART, i]
        if _contained(entry, ms, part):
            rows[ROW_CODE, i] = SKIPPED
            continue
        known_us = rows[ROW_AVAILABLE, i]
        if entry[SEEN] != 0:
            known_us = max(known_us, entry[AVAILABLE])
        if _changes(rows, i, entry, known_us) or rows[ROW_EVENT, i] >= entry[EFFECT] or known_us >= entry[KNOWN]:
            return i
        rows[ROW_AVAILABLE, i] = known_us
        rows[ROW_CODE, i] = RECORDED
        if rows[ROW_USABLE, i] != 0:
            entry[AVAILABLE] = known_us
            if entry[ASIDE] == 0:
                rows[ROW_CODE, i] = TAKEN
                entry[USED_EVENT] = rows[ROW_EVENT, i]
                entry[USED_SEQUENCE] = rows[ROW_SEQUENCE, i]
        elif entry[SEEN] == 0:  # nothing is available with it
            entry[AVAILABLE] = -(2**62)
        entry[SEEN] = 1
        entry[EVENT] = rows[ROW_EVENT, i]
        entry[SEQUENCE] = rows[ROW_SEQUENCE, i]
        entry[MS] = ms
        entry[PART] = part
        _mark(dirty, rows, i)
    return end


@njit(error_model="numpy", cache=True, nogil=True)
def late_run(start: int, end: int, rows: Integers, table: Integers, dirty: Integers) -> int:
    """The rows from ``start`` on that :func:`admit` would not take, one after another; returns the place behind them.

    What changes something computed is available after everything that was visible before it: one µs later than the
    symbol's last row, if it does not say later. Parameters as of :func:`admit`.
    """
    for i in range(start, end):
        entry = table[rows[ROW_PLACE, i]]
        if _contained(entry, rows[ROW_MS, i], rows[ROW_PART, i]):
            rows[ROW_CODE, i] = SKIPPED
            continue
        known_us = rows[ROW_AVAILABLE, i]
        if entry[SEEN] != 0:
            known_us = max(known_us, entry[AVAILABLE])
        changes = _changes(rows, i, entry, known_us)
        if not changes and rows[ROW_EVENT, i] < entry[EFFECT] and known_us < entry[KNOWN]:
            return i
        if changes and entry[SEEN] != 0:
            known_us = max(known_us, entry[AVAILABLE] + 1)
        rows[ROW_CODE, i] = LATE
        rows[ROW_AVAILABLE, i] = known_us
        entry[AVAILABLE] = known_us
        entry[MS] = rows[ROW_MS, i]
        entry[PART] = rows[ROW_PART, i]
        _mark(dirty, rows, i)
    return end


@njit(error_model="numpy", cache=True, nogil=True)
def arrange(
    start: int,
    end: int,
    rows: Integers,
    words: Integers,
    counts: Integers,
    places: Integers,
    offsets: Integers,
    times: Integers,
    values: Floats,
) -> int:
    """Rows that were taken, by symbol and within each in their order; returns the number of symbols.

    Parameters
    ----------
    start, end
        Which rows to look at.
    rows
        int64 (ROW_COLUMNS, N).
    words
        int64 (N, W): their records.
    counts
        int64 (2, names): zeros.
    places, offsets
        int64 (names,) and (names + 1,), written: the symbols' places in the lane, and where each one's rows begin.
    times
        int64 (3, M), written: event, sequence and available of M rows.
    values
        float64 (M, W - WORDS), written.
    """
    for i in range(start, end):
        if rows[ROW_CODE, i] == TAKEN:
            counts[0, rows[ROW_NAME, i]] += 1
    groups, total = 0, 0
    for name in range(counts.shape[1]):
        count = counts[0, name]
        counts[0, name] = total
        counts[1, name] = groups
        if count:
            offsets[groups] = total
            groups += 1
        total += count
    offsets[groups] = total
    reading = words.view(np.float64)
    for i in range(start, end):
        if rows[ROW_CODE, i] == TAKEN:
            name = rows[ROW_NAME, i]
            at = counts[0, name]
            counts[0, name] += 1
            places[counts[1, name]] = rows[ROW_PLACE, i]
            times[0, at] = rows[ROW_EVENT, i]
            times[1, at] = rows[ROW_SEQUENCE, i]
            times[2, at] = rows[ROW_AVAILABLE, i]
            for column in range(values.shape[1]):
                values[at, column] = reading[i, WORDS + column]
    return groups
