"""The packed online value: one row of one feature view as one byte string, and its key. Pure encoding, no I/O.

::

    offset  size  field
         0     4  magic: b"TLP" and the codec's version
         4     8  layout id: the first 8 bytes of SHA-256 over the columns' names and kinds
        12     4  length of the whole value in bytes, uint32
        16     8  event time, µs since the epoch UTC, int64
        24     8  sequence, int64
        32     8  available time, µs, int64; UNKNOWN where the writer was not told
        40     8  created time, µs, int64
        48     …  null bitmap: one bit a column, least significant bit first, padded to 8 bytes
         …   8·k  number block: one slot for each column that is a number
         …     …  tail: uint32 length and bytes for each other column

All integers and doubles are little-endian. The four times stand in the order in which rows of one entity are ranked,
so a compare-and-set need only compare them one after another. A null is a bit in the bitmap and never a NaN: a NaN is
a number that a kernel gave (a feature that has not warmed up), a null is a value that nobody gave.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import IntegrityError, LimitError, ParameterError
from tapeline.core.hashing import canonical_json

MAGIC = b"TLP\x01"
UNKNOWN = -(1 << 63)
"""A time that the writer was not told. It ranks before every known time."""

VALUE_BYTES_MAX = 64 << 20
COLUMNS_MAX = 16_384

FLOAT_KINDS = frozenset({"float64", "float32"})
INTEGER_KINDS = frozenset({"int64", "int32", "bool", "unix_timestamp"})

_HEADER = struct.Struct("<4s8sIqqqq")
_LENGTH = struct.Struct("<I")
_BITMAP_OFFSET = _HEADER.size


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
        """First 8 bytes of SHA-256 over the columns' names and kinds."""
        return hashlib.sha256(canonical_json([list(column) for column in self.columns])).digest()[:8]

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
    def bitmap_bytes(self) -> int:
        """Length of the padded null bitmap."""
        return -(-len(self.columns) // 64) * 8

    @cached_property
    def fixed_bytes(self) -> int:
        """Length of everything before the tail."""
        return _BITMAP_OFFSET + self.bitmap_bytes + 8 * len(self.slots)

    @cached_property
    def prefix(self) -> bytes:
        """The bytes every value of this layout begins with."""
        return MAGIC + self.id

    @cached_property
    def head(self) -> bytes:
        """The bytes before the times of every value without a tail: magic, layout id and length."""
        return self.prefix + _LENGTH.pack(self.fixed_bytes)

    @cached_property
    def no_nulls(self) -> bytes:
        """The bitmap of a row without nulls."""
        return bytes(self.bitmap_bytes)

    @cached_property
    def dtype(self) -> np.dtype[np.void]:
        """NumPy's view of the part before the tail."""
        return np.dtype(
            [
                ("prefix", "V12"),
                ("length", "<u4"),
                ("times", "<i8", (4,)),
                ("nulls", "u1", (self.bitmap_bytes,)),
                ("slots", "<f8", (len(self.slots),)),
            ]
        )


@dataclass(frozen=True)
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

    packed = np.zeros(rows, dtype=layout.dtype)
    packed["prefix"] = np.frombuffer(layout.prefix, dtype="V12")
    packed["length"] = layout.fixed_bytes
    packed["times"] = times
    packed["slots"] = slots
    if nulls is not None:
        bits = np.packbits(nulls, axis=1, bitorder="little")
        packed["nulls"][:, : bits.shape[1]] = bits
    size = layout.fixed_bytes
    if not layout.tails or tails is None:
        block = packed.tobytes()
        return [block[i * size : (i + 1) * size] for i in range(rows)]

    ends = [b"".join(_LENGTH.pack(len(item)) + item for item in row) for row in tails]
    lengths = np.array([size + len(end) for end in ends], dtype=np.int64)
    if rows and int(lengths.max()) > VALUE_BYTES_MAX:
        row = int(lengths.argmax())
        raise LimitError(
            f"a packed value of {int(lengths[row])} bytes is longer than {VALUE_BYTES_MAX}",
            where=f"{layout.label}, row {row}",
            remedy="Keep large objects elsewhere and store their address as the feature",
        )
    packed["length"] = lengths
    block = packed.tobytes()
    return [block[i * size : (i + 1) * size] + end for i, end in enumerate(ends)]


def decode_many(layout: Layout, values: Sequence[bytes | None]) -> PackedRows:
    """Unpack the values of N keys, as ``MGET`` returns them (none where a key is missing).

    The number blocks are read in one piece, without Python work per value; see ``PackedRows`` for shapes.

    Raises
    ------
    IntegrityError
        If a value is not of this layout or is damaged; the message names its position and layout id.
    """
    # The checks compare bytes in Python: for the few values of a request that is quicker than any NumPy call.
    size = layout.fixed_bytes
    whole = not layout.tails
    head = layout.head if whole else layout.prefix
    no_nulls = layout.no_nulls
    bitmap_end = _BITMAP_OFFSET + layout.bitmap_bytes
    present: list[bytes] = []
    tails: list[tuple[bytes, ...]] = []
    any_null = False
    for position, value in enumerate(values):
        if value is None:
            continue
        if not value.startswith(head) or len(value) < size or (whole and len(value) != size):
            raise _damage(layout, value, position)
        if value[_BITMAP_OFFSET:bitmap_end] != no_nulls:
            any_null = True
        if whole:
            present.append(value)
        else:
            tails.append(_split_tail(layout, value, position))
            present.append(value[:size])

    count = len(values)
    width = len(layout.columns)
    packed = np.frombuffer(b"".join(present), dtype=layout.dtype)
    if any_null:
        nulls = np.unpackbits(packed["nulls"], axis=1, count=width, bitorder="little").view(np.bool_)
    else:
        nulls = np.zeros((len(present), width), dtype=np.bool_)
    if len(present) == count:
        found = np.frombuffer(b"\x01" * count, dtype=np.bool_)
        return PackedRows(layout, found, packed["times"], nulls, packed["slots"], tails or [()] * count, any_null)

    found = np.fromiter((value is not None for value in values), dtype=np.bool_, count=count)
    pieces = iter(tails)
    empty = (b"",) * len(layout.tails)
    tails = [empty if value is None else next(pieces, ()) for value in values]
    all_times = np.full((count, 4), UNKNOWN, dtype=np.int64)
    all_nulls = np.ones((count, width), dtype=np.bool_)
    all_slots = np.full((count, len(layout.slots)), np.nan)
    all_times[found] = packed["times"]
    all_nulls[found] = nulls
    all_slots[found] = packed["slots"]
    return PackedRows(layout, found, all_times, all_nulls, all_slots, tails, any_null=True)


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
    """The layout id in a value's header.

    Raises
    ------
    IntegrityError
        If the value does not begin with this codec's magic.
    """
    if len(value) < _BITMAP_OFFSET or value[:4] != MAGIC:
        raise IntegrityError(
            f"{len(value)} bytes beginning {value[:4]!r} are no packed value of codec version {MAGIC[3]}",
            remedy="Another program writes under this key, or another version of Tapeline: use a project of its own",
        )
    return value[4:12]


def row_times(value: bytes) -> RowTimes:
    """The times in a value's header, whatever its layout.

    Raises
    ------
    IntegrityError
        If the value does not begin with this codec's magic.
    """
    layout_id(value)
    return RowTimes(*_HEADER.unpack_from(value)[3:])


def _split_tail(layout: Layout, value: bytes, position: int) -> tuple[bytes, ...]:
    if _LENGTH.unpack_from(value, 12)[0] != len(value):
        raise _damage(layout, value, position)
    items = []
    offset = layout.fixed_bytes
    for _ in layout.tails:
        if offset + 4 > len(value):
            raise _damage(layout, value, position)
        end = offset + 4 + int(_LENGTH.unpack_from(value, offset)[0])
        if end > len(value):
            raise _damage(layout, value, position)
        items.append(value[offset + 4 : end])
        offset = end
    if offset != len(value):
        raise _damage(layout, value, position)
    return tuple(items)


def _damage(layout: Layout, value: bytes, position: int) -> IntegrityError:
    where = f"{layout.label}, key {position} of the read"
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
