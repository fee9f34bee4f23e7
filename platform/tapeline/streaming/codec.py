"""Blocks of events as bytes: what one entry of a Redis stream holds. Pure encoding, no I/O.

All little-endian::

    "TLEV" · version u8 · kind u8 · record bytes u16 · events u32 · symbols u16 · reserved u16
    symbols: length u8 and UTF-8 bytes each
    records: symbol u16 · change u8 · side i8 · extra u32 · event i64 · sequence i64 · available i64 · values
    texts (book events, news): length u32 and UTF-8 bytes, one a column and event
    CRC-32 u32 of everything before

A block is of one kind. Its events stand in the order in which they were sent.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import InvalidDataError, LimitError, ParameterError
from tapeline.kernels.stream_order import judge

Records = NDArray[np.void]

BLOCK_BYTES_MAX = 1 << 20
EVENTS_MAX = 4_096
SYMBOL_BYTES_MAX = 64
TEXT_BYTES_MAX = 1 << 16
TIME_US_MAX = 1 << 53
"""Times and sequences stay below it: bar states hold them as float64."""

_MAGIC, _VERSION = b"TLEV", 1
_HEAD = struct.Struct("<4sBBHIHH")
_CRC = struct.Struct("<I")
_LENGTH = struct.Struct("<I")


class EventKind(IntEnum):
    """What an event is; the name is that of its table in the schema ``tapeline``."""

    trades = 1
    quotes = 2
    book_events = 3
    bars = 4
    news = 5


_KINDS = {kind.value: kind for kind in EventKind}


class Change(IntEnum):
    """What an event does to the row of its key."""

    sighting = 0
    correction = 1
    retraction = 2


VALUES: dict[EventKind, tuple[str, ...]] = {
    EventKind.trades: ("price", "size"),
    EventKind.quotes: ("bid_price", "bid_size", "ask_price", "ask_size"),
    EventKind.book_events: ("price", "size"),
    EventKind.bars: ("start_us", "open", "high", "low", "close", "volume"),
    EventKind.news: (),
}
"""float64 columns of each kind, in order; the start of a bar is a whole number of µs."""

TEXTS: dict[EventKind, tuple[str, ...]] = {EventKind.book_events: ("order_id",), EventKind.news: ("headline", "body")}
"""Text columns of the kinds that have any."""

ACTIONS = ("add", "change", "delete", "trade", "clear")
"""What a book event does; ``extra`` is the place here."""


@cache
def record_type(kind: EventKind) -> np.dtype[np.void]:
    """NumPy's view of one event of a kind, without its texts."""
    values = [("values", "<f8", (len(VALUES[kind]),))] if VALUES[kind] else []
    return np.dtype(
        [
            ("symbol", "<u2"),
            ("change", "u1"),
            ("side", "i1"),
            ("extra", "<u4"),
            ("event_us", "<i8"),
            ("sequence", "<i8"),
            ("available_us", "<i8"),
            *values,
        ]
    )


@dataclass(frozen=True)
class Events:
    """Events of one kind, in order.

    Attributes
    ----------
    kind
        Their kind.
    symbols
        Distinct symbols; a record's ``symbol`` is a place among them.
    records
        (N,) of :func:`record_type`.
    texts
        For each text column N texts; empty for kinds without any.
    """

    kind: EventKind
    symbols: tuple[str, ...]
    records: Records
    texts: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    def chosen(self, places: NDArray[np.int64]) -> Events:
        """Some of them, in the given order, with the symbols that these need."""
        records = self.records[places].copy()
        used, records["symbol"] = np.unique(records["symbol"], return_inverse=True)
        texts = tuple(tuple(column[place] for place in places.tolist()) for column in self.texts)
        return Events(self.kind, tuple(self.symbols[place] for place in used.tolist()), records, texts)


def make_events(
    kind: EventKind,
    symbols: Sequence[str],
    event_us: NDArray[np.int64],
    sequence: NDArray[np.int64],
    available_us: NDArray[np.int64],
    values: NDArray[np.float64] | None = None,
    *,
    change: NDArray[np.int64] | int = 0,
    side: NDArray[np.int64] | int = 0,
    actions: Sequence[str] | None = None,
    texts: Sequence[Sequence[str]] = (),
) -> Events:
    """Events from columns.

    Parameters
    ----------
    kind
        Their kind.
    symbols
        One for each event.
    event_us, sequence, available_us
        int64 (N,): the key, and when each could first be used; microseconds.
    values
        float64 (N, len(VALUES[kind])).
    change
        A :class:`Change` for each event.
    side
        −1, 0 or 1 for each: who was the aggressor, or which side of the book.
    actions
        Of book events, one of :data:`ACTIONS` each.
    texts
        For each column of ``TEXTS[kind]`` N texts.

    Raises
    ------
    ParameterError
        If the columns differ in length.
    """
    count = len(symbols)
    names = tuple(dict.fromkeys(symbols))
    place = {name: number for number, name in enumerate(names)}
    records = np.zeros(count, dtype=record_type(kind))
    try:
        records["symbol"] = np.fromiter((place[symbol] for symbol in symbols), dtype=np.int64, count=count)
        records["change"], records["side"] = change, side
        records["event_us"], records["sequence"], records["available_us"] = event_us, sequence, available_us
        if VALUES[kind]:
            records["values"] = np.asarray(values, dtype=np.float64).reshape(count, len(VALUES[kind]))
        if kind is EventKind.book_events:
            records["extra"] = [ACTIONS.index(action) for action in actions or ()]
    except (ValueError, OverflowError, TypeError) as error:
        raise ParameterError(f"columns of {kind.name} do not fit {count} events: {error}") from None
    wanted = TEXTS.get(kind, ())
    if len(texts) != len(wanted) or any(len(column) != count for column in texts):
        raise ParameterError(f"{kind.name} need {len(wanted)} text columns of {count} texts")
    return Events(kind, names, records, tuple(tuple(column) for column in texts))


def encode_block(events: Events) -> bytes:
    """Bytes of a block; :func:`decode_block` reads them back.

    Raises
    ------
    LimitError
        If there are too many events, or a symbol, a text or the whole is too long.
    """
    if not 0 < len(events) <= EVENTS_MAX or len(events.symbols) > EVENTS_MAX:
        raise LimitError(f"{len(events)} events do not fit a block of 1 to {EVENTS_MAX}")
    parts = [_head(events.kind, len(events), len(events.symbols))]
    for symbol in events.symbols:
        data = symbol.encode()
        if not 0 < len(data) <= SYMBOL_BYTES_MAX:
            raise LimitError(f"symbol {symbol[:80]!r} has {len(data)} bytes, not 1 to {SYMBOL_BYTES_MAX}")
        parts += [bytes([len(data)]), data]
    parts.append(events.records.tobytes())
    for row in zip(*events.texts, strict=True):
        for text in row:
            data = text.encode()
            if len(data) > TEXT_BYTES_MAX:
                raise LimitError(f"a text has {len(data)} bytes, more than {TEXT_BYTES_MAX}", where=events.kind.name)
            parts += [_LENGTH.pack(len(data)), data]
    body = b"".join(parts)
    if len(body) + _CRC.size > BLOCK_BYTES_MAX:
        raise LimitError(f"a block of {len(body)} bytes is longer than {BLOCK_BYTES_MAX}", remedy="Send fewer at once")
    return body + _CRC.pack(zlib.crc32(body))


def _head(kind: EventKind, events: int, symbols: int) -> bytes:
    return _HEAD.pack(_MAGIC, _VERSION, kind, record_type(kind).itemsize, events, symbols, 0)


def decode_block(data: bytes) -> Events:
    """The events of a block. Their values are judged apart, by :func:`faults`.

    Raises
    ------
    InvalidDataError
        If the bytes are no block, with the reason. Nothing that they say is used before it was checked.
    """
    if not _HEAD.size + _CRC.size <= len(data) <= BLOCK_BYTES_MAX:
        raise InvalidDataError(f"{len(data)} bytes cannot be a block")
    magic, version, number, size, count, symbols_count, reserved = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise InvalidDataError(f"bytes that begin with {magic!r} are no block")
    if version != _VERSION:
        raise InvalidDataError(f"block version {version} is unknown, this program reads {_VERSION}")
    if zlib.crc32(memoryview(data)[: -_CRC.size]) != _CRC.unpack_from(data, len(data) - _CRC.size)[0]:
        raise InvalidDataError("the block is damaged: its checksum differs")
    kind = _KINDS.get(number)
    if kind is None:
        raise InvalidDataError(f"events of kind {number} are unknown")
    dtype = record_type(kind)
    if size != dtype.itemsize or reserved:
        raise InvalidDataError(f"records of {size} bytes are no {kind.name}")
    if not 0 < count <= EVENTS_MAX or not 0 < symbols_count <= count:
        raise InvalidDataError(f"{count} events of {symbols_count} symbols do not fit a block")
    symbols, at = _symbols(data, symbols_count, len(data) - _CRC.size - count * size if kind not in TEXTS else 0)
    end = at + count * size
    if end > len(data) - _CRC.size:
        raise InvalidDataError("the block is cut short in its records")
    records = np.frombuffer(data, dtype=dtype, count=count, offset=at)
    texts: tuple[tuple[str, ...], ...] = ()
    if kind in TEXTS:
        texts, end = _texts(data, end, count, len(TEXTS[kind]))
    if end != len(data) - _CRC.size:
        raise InvalidDataError(f"the block has {len(data) - _CRC.size - end} bytes too many")
    if int(records["symbol"].max()) >= symbols_count:
        raise InvalidDataError("a record names a symbol that the block does not have")
    return Events(kind, symbols, records, texts)


_known: dict[tuple[int, bytes], tuple[str, ...]] = {}
"""Symbols of blocks by their bytes: of the same source they come again and again, and to read each costs more than its event."""
_KNOWN_MAX = 4_096
_KNOWN_BYTES_MAX = 16_384


def _symbols(data: bytes, count: int, end: int) -> tuple[tuple[str, ...], int]:
    """The symbols, and where they end; ``end`` is where they must end, 0 if that is not known."""
    section = data[_HEAD.size : end] if _HEAD.size < end <= _HEAD.size + _KNOWN_BYTES_MAX else b""
    known = _known.get((count, section))
    if known is not None:
        return known, end
    symbols, at, last = [], _HEAD.size, len(data) - _CRC.size
    for _ in range(count):
        length = data[at] if at < last else 0
        if not 0 < length <= SYMBOL_BYTES_MAX or at + 1 + length > last:
            raise InvalidDataError("a symbol of the block is empty, too long or cut short")
        symbols.append(_text(data, at + 1, length))
        at += 1 + length
    if len(set(symbols)) != len(symbols):
        raise InvalidDataError("the block names a symbol twice")
    found = tuple(symbols)
    if section and at == end:
        if len(_known) >= _KNOWN_MAX:  # a cache, not a record
            _known.clear()
        _known[(count, section)] = found
    return found, at


def _texts(data: bytes, at: int, count: int, columns: int) -> tuple[tuple[tuple[str, ...], ...], int]:
    rows: list[list[str]] = [[] for _ in range(columns)]
    last = len(data) - _CRC.size
    for _ in range(count if columns else 0):
        for column in rows:
            length = _LENGTH.unpack_from(data, at)[0] if at + _LENGTH.size <= last else TEXT_BYTES_MAX + 1
            if length > TEXT_BYTES_MAX or at + _LENGTH.size + length > last:
                raise InvalidDataError("a text of the block is too long or cut short")
            column.append(_text(data, at + _LENGTH.size, length))
            at += _LENGTH.size + length
    return tuple(tuple(column) for column in rows), at


def _text(data: bytes, at: int, length: int) -> str:
    try:
        text = data[at : at + length].decode()
    except UnicodeDecodeError:
        raise InvalidDataError("a text of the block is not UTF-8") from None
    if "\0" in text:
        raise InvalidDataError("a text of the block holds a zero byte, which PostgreSQL cannot keep")
    return text


FAULTS = (
    "",
    "its change is none of sighting, correction and retraction",
    "its side is none of -1, 0 and 1",
    "its event time is impossible",
    "its sequence is negative or above 2**53",
    "it is available before its event, or at an impossible time",
    "its bar does not start before it ends",
    "its action is unknown",
    "it is available more than a day after it was sent",
)
"""Why an event cannot be taken; the place is the code that :func:`faults` gives."""


def faults(kind: EventKind, records: Records) -> NDArray[np.uint8]:
    """For each event 0, or the place in :data:`FAULTS` of why it cannot be taken.

    Values are judged by the kernels, as in a back-fill: a trade without a usable price is recorded and is in no bar.
    """
    return judged(kind, words_of(records))


def judged(kind: EventKind, words: NDArray[np.int64]) -> NDArray[np.uint8]:
    """:func:`faults` of records as :func:`words_of` gives them."""
    codes = np.zeros(len(words), dtype=np.uint8)
    judge(words, int(kind), TIME_US_MAX, _EARLIEST_US, len(ACTIONS), codes)
    return codes


def words_of(records: Records) -> NDArray[np.int64]:
    """The same memory as int64 (N, W), for kernels; a copy where the records do not lie one after another."""
    words: NDArray[np.int64] = np.ascontiguousarray(records).view(np.int64).reshape(len(records), -1)
    return words


_EARLIEST_US = -62_135_596_800_000_000
"""The year 1, where PostgreSQL's and Python's times begin to agree."""
