"""What is to be said about each value of an online read: there, null, missing, or too old. Pure functions."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from tapeline.storage.packed import PackedRows


class FieldStatus(IntEnum):
    """What is to be said about one value of a read; the numbers are those of Feast's ``FieldStatus``."""

    PRESENT = 1
    NULL_VALUE = 2
    NOT_FOUND = 3
    OUTSIDE_MAX_AGE = 4


_PRESENT = bytes([FieldStatus.PRESENT])


def hidden(event_us: NDArray[np.int64], available_us: NDArray[np.int64], now_us: int) -> NDArray[np.bool_]:
    """Which rows readers do not find at a moment, by any clock: those that become available after it, and after their event."""
    return (available_us > now_us) & (available_us > event_us)


def row_statuses(
    rows: PackedRows, *, now_us: int | None = None, ttl_us: int = 0, hide_future: bool = False
) -> NDArray[np.uint8]:
    """One ``FieldStatus`` for each row, nulls of single columns apart.

    Parameters
    ----------
    now_us
        The injected clock's moment; none: age is not looked at.
    ttl_us
        Rows whose event is more than this before ``now_us`` are ``OUTSIDE_MAX_AGE``; 0: no limit.
    hide_future
        On a replayed clock, treat rows with an event time after ``now_us`` as ``NOT_FOUND``: at that moment they were
        not known. A row that becomes available only after ``now_us``, and after its event, is so on any clock: by the
        point-in-time rule no training row of this moment holds it.

    Returns
    -------
    uint8 (N,)
    """
    statuses = np.frombuffer(bytearray(_PRESENT * len(rows.found)), dtype=np.uint8)
    if now_us is not None:
        event_us, available_us = rows.times[:, 0], rows.times[:, 2]
        if ttl_us:
            statuses[event_us < now_us - ttl_us] = FieldStatus.OUTSIDE_MAX_AGE
        early = available_us > now_us
        if early.any():
            statuses[hidden(event_us, available_us, now_us)] = FieldStatus.NOT_FOUND
        if hide_future:
            statuses[early | (event_us > now_us)] = FieldStatus.NOT_FOUND
    if rows.any_null:
        statuses[~rows.found] = FieldStatus.NOT_FOUND
    return statuses


def field_statuses(rows: PackedRows, of_rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (N, columns): the row's status, or ``NULL_VALUE`` where a row that is present has a null."""
    statuses = np.repeat(of_rows[:, None], len(rows.layout.columns), axis=1)
    if rows.any_null:
        statuses[rows.nulls & (of_rows == FieldStatus.PRESENT)[:, None]] = FieldStatus.NULL_VALUE
    return statuses
