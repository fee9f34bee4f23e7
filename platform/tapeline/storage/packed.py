"""The packed online value: one row of one feature view as one byte string. Pure encoding, no I/O.

::

    size  field
       1  codec version 2: FA, or FB where there is a null bitmap
       5  layout id: the first bytes of SHA-256 over the columns' names and kinds
     5 …  times: seconds and microseconds of the event since the epoch UTC, sequence, available time after the event,
          created time after the available one (after the event, where that is not known)
       …  null bitmap: one bit a column, least significant bit first; left out of a row without nulls
     8·k  number block: one slot for each column that is a number, little-endian
       …  tail: length and bytes of each other column that is not null; the length is one byte, or FF and a uint32

The times are numbers of :mod:`tapeline.kernels.sortable`, in the order in which rows of one entity are ranked: of two values, the
one whose bytes are greater there ranks above. A null is a bit in the bitmap and never a NaN: a NaN is a number that a
kernel gave (a feature that has not warmed up), a null is a value that nobody gave.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import IntegrityError, LimitError, ParameterError
from tapeline.core.hashing import canonical_json
from tapeline.kernels import packed_values as loops
from tapeline.kernels import sortable

UNKNOWN = sortable.UNKNOWN
"""A time that the writer was not told. It ranks before every known time."""

CODEC_VERSION = 2
MAGIC = bytes([loops.CODEC]), bytes([loops.CODEC + 1])
"""What a value begins with: one without nulls, and one with some."""

FORMER_MAGIC = b"TLP\x01"
"""What values of codec version 1 began with."""

VALUE_BYTES_MAX = 64 << 20
COLUMNS_MAX = 16_384

FLOAT_KINDS = frozenset({"float64", "float32"})
INTEGER_KINDS = frozenset({"int64", "int32", "bool", "unix_timestamp"})

_LENGTH = struct.Struct("<I")
_LONG = bytes([loops.LONG])


class Column(NamedTuple):
    """A column of a layout.

    ``kind`` is ``float64`` or ``float32`` (a double in the number block), ``int64``, ``int32``, ``bool`` or
    ``unix_timestamp`` (an int64 in the number block), or any other name: opaque bytes in the tail.
    """

    name: str
    kind: str = "float64"


class RowTimes(NamedTuple):
    """The times of one row, in the order in which rows of one entity are ranked."""

    event_us: int
    sequence: int
    available_us: int
    created_us: int


@dataclass(frozen=True)
class Layout:
    """Which columns a view version's values hold, in which order.

    Parameters
    ----------
    view, version
        The feature view and its version.
    columns
        Names and kinds, in stored order.

    Raises
    ------
    ParameterError
        If a name occurs twice or there are more than ``COLUMNS_MAX`` columns.
    """

    view: str
    version: int
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ParameterError(f"columns {twice} occur twice", where=self.label)
        if len(names) > COLUMNS_MAX:
            raise ParameterError(f"{len(names)} columns are more than {COLUMNS_MAX}", where=self.label)

    @classmethod
    def of_floats(cls, view: str, version: int, names: Sequence[str]) -> Layout:
        """The layout of a view whose columns are all float64."""
        return cls(view, version, tuple(Column(name) for name in names))

    @property
    def label(self) -> str:
        """The view and version, as references write them."""
        return f"{self.view}@v{self.version}"

    @cached_property
    def id(self) -> bytes:
        """First 5 bytes of SHA-256 over the columns' names and kinds."""
        return hashlib.sha256(canonical_json([list(column) for column in self.columns])).digest()[: loops.ID_BYTES]

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each column by name."""
        return {column.name: position for position, column in enumerate(self.columns)}

    @cached_property
    def slots(self) -> tuple[int, ...]:
        """Positions of the columns that lie in the number block."""
        return tuple(i for i, c in enumerate(self.columns) if c.kind in FLOAT_KINDS or c.kind in INTEGER_KINDS)

    @cached_property
    def tails(self) -> tuple[int, ...]:
        """Positions of the columns that lie in the tail."""
        return tuple(i for i, c in enumerate(self.columns) if c.kind not in FLOAT_KINDS and c.kind not in INTEGER_KINDS)

    @cached_property
    def integer_slots(self) -> NDArray[np.intp]:
        """Which slots of the number block hold an int64."""
        kinds = [self.columns[i].kind for i in self.slots]
        return np.array([s for s, kind in enumerate(kinds) if kind in INTEGER_KINDS], dtype=np.intp)

    @cached_property
    def expected(self) -> int:
        """The bytes that every value of this layout begins with, as a little-endian number; that of one without nulls."""
        return int.from_bytes(MAGIC[0] + self.id, "little")

    @cached_property
    def tail_columns(self) -> NDArray[np.int64]:
        """``tails`` as an array."""
        return np.array(self.tails, dtype=np.int64)


@dataclass(slots=True)
class PackedRows:
    """Decoded values of N keys of one view, those without a value included.

    Attributes
    ----------
    found
        bool (N,): whether the key had a value.
    times
        int64 (N, 4): event, sequence, available, created as in ``RowTimes``; ``UNKNOWN`` where not found.
    nulls
        bool (N, columns): true where the value is null or was not found.
    slots
        float64 (N, slots): the number block as stored (integer slots hold the bits of an int64); NaN where not found.
    tails
        Per row one byte string a tail column; empty where null or not found.
    any_null
        Whether anything in ``nulls`` is true.
    """

    layout: Layout
    found: NDArray[np.bool_]
    times: NDArray[np.int64]
    nulls: NDArray[np.bool_]
    slots: NDArray[np.float64]
    tails: list[tuple[bytes, ...]]
    any_null: bool

    def numbers(self) -> NDArray[np.float64]:
        """float64 (N, slots): integers converted, NaN where null or not found. A new array."""
        numbers = self.slots.copy()
        integers = self.layout.integer_slots
        if integers.size:
            numbers[:, integers] = self.slots.view(np.int64)[:, integers]
        if self.any_null:
            numbers[self.nulls if not self.layout.tails else self.nulls[:, self.layout.slots]] = np.nan
        return numbers


def encode_many(
    layout: Layout,
    times: NDArray[np.int64],
    slots: NDArray[np.float64],
    *,
    nulls: NDArray[np.bool_] | None = None,
    tails: Sequence[Sequence[bytes]] | None = None,
) -> list[bytes]:
    """Pack N rows of one layout.

    Parameters
    ----------
    times
        int64 (N, 4): event, sequence, available, created, as in ``RowTimes``; microseconds.
    slots
        float64 (N, slots); integer slots hold the bits of an int64.
    nulls
        bool (N, columns), true where the value is null; none: nothing is.
    tails
        For each row one byte string a tail column (empty where null); needed if the layout has a tail.

    Returns
    -------
    list of bytes
        One value a row.

    Raises
    ------
    ParameterError
        If a shape does not fit the layout.
    LimitError
        If a value would be longer than ``VALUE_BYTES_MAX``.
    """
    rows = len(times)
    if times.shape != (rows, 4) or slots.shape != (rows, len(layout.slots)):
        raise ParameterError(
            f"times {times.shape} and slots {slots.shape} do not fit {len(layout.slots)} slots", where=layout.label
        )
    if nulls is not None and nulls.shape != (rows, len(layout.columns)):
        raise ParameterError(f"nulls {nulls.shape} do not fit {len(layout.columns)} columns", where=layout.label)
    if layout.tails and (tails is None or len(tails) != rows or any(len(row) != len(layout.tails) for row in tails)):
        raise ParameterError(f"every row needs {len(layout.tails)} tail values", where=layout.label)

    has_null = nulls is not None and bool(nulls.any())
    bits = np.ascontiguousarray(nulls).view(np.uint8) if has_null else np.zeros((rows, 0), dtype=np.uint8)
    out = np.empty(rows * (loops.HEAD_BYTES_MAX + len(layout.columns) // 8 + 1 + 8 * len(layout.slots)), dtype=np.uint8)
    ends = np.zeros(rows + 1, dtype=np.int64)
    loops.encode_rows(
        np.ascontiguousarray(times, dtype=np.int64),
        np.ascontiguousarray(slots, dtype=np.float64),
        bits,
        np.frombuffer(bytearray(layout.id), dtype=np.uint8),
        out,
        ends[1:],
    )
    block = out[: ends[-1]].tobytes()
    values = [block[start:end] for start, end in pairwise(ends.tolist())]
    if not layout.tails or tails is None:
        return values
    return [_with_tail(layout, row, value, tails[row], bits, has_null=has_null) for row, value in enumerate(values)]


def _with_tail(
    layout: Layout, row: int, value: bytes, items: Sequence[bytes], nulls: NDArray[np.uint8], *, has_null: bool
) -> bytes:
    pieces = [value]
    for column, item in zip(layout.tails, items, strict=True):
        if not (has_null and nulls[row, column]):
            pieces += bytes([len(item)]) if len(item) < loops.LONG else _LONG + _LENGTH.pack(len(item)), item
    whole = b"".join(pieces)
    if len(whole) > VALUE_BYTES_MAX:
        raise LimitError(
            f"a packed value of {len(whole)} bytes is longer than {VALUE_BYTES_MAX}",
            where=f"{layout.label}, row {row}",
            remedy="Keep large objects elsewhere and store their address as the feature",
        )
    return whole


class Found(NamedTuple):
    """Where values lie: data uint8, starts and lengths int64 (N,); length -1 where there is none."""

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, values: Sequence[bytes | None]) -> Found:
        """Values as ``MGET`` returns them, laid one behind the other."""
        lengths = [-1 if value is None else len(value) for value in values]
        starts = []
        at = 0
        for length in lengths:
            starts.append(at)
            at += max(length, 0)
        data = bytearray().join([value for value in values if value is not None])
        return cls(np.frombuffer(data, dtype=np.uint8), *np.array((starts, lengths), dtype=np.int64))

    def at(self, places: slice | Sequence[int]) -> Found:
        """Some of them."""
        return Found(self.data, self.starts[places], self.lengths[places])

    def values(self) -> list[bytes | None]:
        """All of them, none where there is none."""
        data = memoryview(self.data)  # type: ignore[arg-type]
        return [
            None if length < 0 else bytes(data[start : start + length])
            for start, length in zip(self.starts.tolist(), self.lengths.tolist(), strict=True)
        ]


def decode_many(layout: Layout, values: Sequence[bytes | None] | Found) -> PackedRows:
    """Unpack the values of N keys, as ``MGET`` returns them (none where a key is missing).

    Raises
    ------
    IntegrityError
        If a value is not of this layout or is damaged; the message names its position and layout id.
    """
    found = values if isinstance(values, Found) else Found.of(values)
    count = len(found.starts)
    times = np.empty((count, 4), dtype=np.int64)
    nulls = np.empty((count, len(layout.columns)), dtype=np.uint8)
    slots = np.empty((count, len(layout.slots)))
    items = np.empty((count, len(layout.tails), 2), dtype=np.int64)
    null_count = loops.decode_rows(*found, layout.expected, layout.tail_columns, times, nulls, slots, items)
    if null_count < 0:
        raise damage(layout, found, -1 - null_count)
    if layout.tails:
        data = memoryview(found.data)  # type: ignore[arg-type]
        tails = [tuple([bytes(data[start:end]) for start, end in row]) for row in items.tolist()]
    else:
        tails = [()] * count
    return PackedRows(layout, found.lengths >= 0, times, nulls.view(np.bool_), slots, tails, null_count > 0)


def translate(value: bytes, old: Layout, new: Layout) -> bytes:
    """A value of one layout as a value of another: columns with the same name and kind are kept, the rest is null.

    Raises
    ------
    IntegrityError
        If the value is not of the old layout or is damaged.
    """
    rows = decode_many(old, [value])
    slots = np.zeros((1, len(new.slots)))
    nulls = np.ones((1, len(new.columns)), dtype=np.bool_)
    tails = [b""] * len(new.tails)
    for position, column in enumerate(new.columns):
        before = old.index.get(column.name)
        if before is None or old.columns[before].kind != column.kind or rows.nulls[0, before]:
            continue
        nulls[0, position] = False
        if position in new.slots:
            slots[0, new.slots.index(position)] = rows.slots[0, old.slots.index(before)]
        else:
            tails[new.tails.index(position)] = rows.tails[0][old.tails.index(before)]
    return encode_many(new, rows.times, slots, nulls=nulls, tails=[tails] if new.tails else None)[0]


def layout_id(value: bytes) -> bytes:
    """The layout id in a value's head.

    Raises
    ------
    IntegrityError
        If the value does not begin as one of this codec's version.
    """
    if value.startswith(FORMER_MAGIC):
        raise IntegrityError(
            f"a value of codec version 1, and this is version {CODEC_VERSION}",
            remedy="Bring all values again with: tapeline rebuild-online",
        )
    if len(value) < loops.HEAD_BYTES_MIN or not value.startswith(MAGIC):
        raise IntegrityError(
            f"{len(value)} bytes beginning {value[:4]!r} are no packed value of codec version {CODEC_VERSION}",
            remedy="Another program writes under this key, or another version of Tapeline: use a project of its own",
        )
    return value[1 : 1 + loops.ID_BYTES]


def row_times(value: bytes) -> RowTimes:
    """The times in a value's head, whatever its layout.

    Raises
    ------
    IntegrityError
        If the value does not begin as one of this codec's version, or its times are cut short.
    """
    found = layout_id(value)
    times = np.empty(4, dtype=np.int64)
    if loops.read_times(np.frombuffer(bytearray(value[: loops.HEAD_BYTES_MAX]), dtype=np.uint8), times) < 0:
        raise IntegrityError(
            f"damaged packed value of layout {found.hex()}: its times are cut short",
            remedy="Materialize the view again",
        )
    return RowTimes(*times.tolist())


def damage(layout: Layout, values: Found, position: int) -> IntegrityError:
    """Why a value is none of this layout."""
    where = f"{layout.label}, key {position} of the read"
    value = values.at([position]).values()[0] or b""
    try:
        found = layout_id(value)
    except IntegrityError as error:
        return IntegrityError(error.what, where=where, remedy=error.remedy)
    if found != layout.id:
        return IntegrityError(
            f"unknown layout {found.hex()}, expected {layout.id.hex()}",
            where=where,
            remedy="The view's columns changed under one version: materialize it again, or give it a new version",
        )
    return IntegrityError(
        f"damaged packed value: {len(value)} bytes do not fit layout {found.hex()}",
        where=where,
        remedy="Materialize the view again",
    )
