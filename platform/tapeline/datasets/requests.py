"""Entity rows as distinct requests: what to look up once for each (keys, time), and which rows get the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tapeline.core.errors import InvalidDataError, NaiveTimestampError, UnknownNameError

UTC_US = pa.timestamp("us", tz="UTC")
_NS_PER_US = 1_000


@dataclass(frozen=True, slots=True)
class Requests:
    """Distinct (keys, time) pairs of entity rows, ordered by time.

    Attributes
    ----------
    keys
        Distinct keys: their number ``id`` from 0, then ``k0``, ``k1``, …, one for each entity column, none null.
    key_ids
        int64 (R,): the row of `keys` of each request.
    times_us
        int64 (R,): its moment, ascending.
    rows
        int64 (N,): the request of each entity row; -1 where a key is null, which matches nothing.
    """

    keys: pa.Table
    key_ids: NDArray[np.int64]
    times_us: NDArray[np.int64]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.times_us)


def times_of(entity_rows: pa.Table, column: str) -> NDArray[np.int64]:
    """The entity rows' moments in microseconds since the epoch, UTC; finer ones are rounded down.

    Raises
    ------
    UnknownNameError
        If the column does not exist.
    NaiveTimestampError
        If it has no time zone.
    InvalidDataError
        If it holds no timestamps, or a null.
    """
    if column not in entity_rows.column_names:
        raise UnknownNameError("column", column, entity_rows.column_names, where="entity rows")
    values = entity_rows.column(column)
    where = f"entity rows, column {column}"
    if not pa.types.is_timestamp(values.type):
        raise InvalidDataError(f"the column holds {values.type}, not timestamps", where=where)
    if values.null_count:
        row = pc.index(values.is_null(), value=True).as_py()
        raise InvalidDataError("a timestamp is missing", where=f"{where}, row {row}")
    if values.type.tz is None:
        raise NaiveTimestampError(values[0] if len(values) else "of an empty column", where=where)
    return np.asarray(in_microseconds(values).cast(pa.int64()).to_numpy(), dtype=np.int64)


def in_microseconds(moments: pa.ChunkedArray) -> pa.ChunkedArray:
    """Timestamps with a zone in UTC and microseconds; finer ones are rounded down."""
    if moments.type.unit == "ns":  # Arrow's cast would round moments before 1970 up
        return pa.chunked_array([pa.array(moments.cast(pa.int64()).to_numpy() // _NS_PER_US).cast(UTC_US)])
    return moments.cast(UTC_US)


def distinct_requests(entity_rows: pa.Table, entity_columns: Sequence[str], times_us: NDArray[np.int64]) -> Requests:
    """Reduce entity rows to the distinct pairs of their keys and times.

    Keys are compared column by column, so composite keys cannot collide.

    Parameters
    ----------
    entity_rows
        N rows.
    entity_columns
        The key columns; none: every row has the same, empty key.
    times_us
        int64 (N,).

    Raises
    ------
    UnknownNameError
        If an entity column does not exist.
    """
    count = entity_rows.num_rows
    codes = np.zeros(count, dtype=np.int64)
    present = np.ones(count, dtype=np.bool_)
    for number, column in enumerate(entity_columns):
        if column not in entity_rows.column_names:
            raise UnknownNameError("entity column", column, entity_rows.column_names, where="entity rows")
        own, known = _codes_of(entity_rows.column(column))
        if known is not None:
            present &= known
        codes = own if number == 0 else _dense_codes(codes * (int(own.max(initial=0)) + 1) + own)
    used = None if present.all() else np.flatnonzero(present)
    key_ids = codes if used is None else codes[used]
    moments = times_us if used is None else times_us[used]
    first = _first_rows(key_ids)
    key_ids = _renumbered(key_ids, first)
    first = first[first < len(key_ids)]
    numbers = pa.array(np.arange(len(first), dtype=np.int64))
    held = pa.array(first if used is None else used[first])
    columns = [entity_rows.column(column).take(held) for column in entity_columns]
    keys = pa.table([numbers, *columns], names=["id", *(f"k{number}" for number in range(len(columns)))])

    order = _time_order(moments, key_ids, len(first))
    if order is not None:
        key_ids, moments = key_ids[order], moments[order]
    starts = np.ones(len(key_ids), dtype=np.bool_)
    starts[1:] = (moments[1:] != moments[:-1]) | (key_ids[1:] != key_ids[:-1])
    requests = np.cumsum(starts) - 1
    if used is None and order is None:
        rows = requests
    else:
        rows = np.full(count, -1, dtype=np.int64)
        asked = np.arange(count) if used is None else used
        rows[asked if order is None else asked[order]] = requests
    if not starts.all():
        key_ids, moments = key_ids[starts], moments[starts]
    return Requests(keys, key_ids, moments, rows)


def _codes_of(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
    """A number for each distinct value, from 0, and where there is one; none: everywhere."""
    if pa.types.is_null(column.type):
        return np.zeros(len(column), dtype=np.int64), np.zeros(len(column), dtype=np.bool_)
    plain = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    indices = plain.combine_chunks().dictionary_encode().indices
    known = np.asarray(indices.is_valid().to_numpy(zero_copy_only=False)) if indices.null_count else None
    return np.asarray(indices.fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64), known


def _dense_codes(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Renumber codes from 0 without gaps, so that combining them with another column's cannot overflow."""
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)


def _first_rows(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first row of each code; the number of rows for a code that none has."""
    first = np.full(int(codes.max(initial=-1)) + 1, len(codes), dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)  # of several writes to one place, the last stays
    return first


def _renumbered(codes: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """The codes without those that no row has."""
    used = first < len(codes)
    return codes if used.all() else (np.cumsum(used) - 1)[codes]


def _time_order(times_us: NDArray[np.int64], key_ids: NDArray[np.int64], key_count: int) -> NDArray[np.int64] | None:
    """The order by time, then key; none if it is that already."""
    if len(times_us) == 0:
        return None
    low = int(times_us.min())
    if (int(times_us.max()) - low + 1) * key_count > np.iinfo(np.int64).max:
        return np.lexsort((key_ids, times_us))
    place = (times_us - low) * key_count + key_ids
    return None if bool((place[1:] >= place[:-1]).all()) else np.argsort(place, kind="stable")
