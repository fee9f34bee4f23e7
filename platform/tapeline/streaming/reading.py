"""Entries of Redis streams as blocks of columns, one a kind; what is no event is refused, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from tapeline.core.errors import InvalidDataError
from tapeline.core.timestamps import DAY_US
from tapeline.features.versions import Flags, Integers
from tapeline.kernels.stream_order import ROW_COLUMNS, ROW_MS, ROW_NAME, ROW_PART, ROW_PARTITION, unpack
from tapeline.streaming.codec import (
    FAULTS,
    EventKind,
    Events,
    Records,
    decode_block,
    encode_block,
    judged,
    record_type,
    words_of,
)
from tapeline.streaming.plan import FIELD, StreamPlan, partition_of

PLACES = 1 << 16
"""Places of a block in a position; more than a block may hold."""
_NUMBER_MAX = 1 << 40
_MS_MAX = 1 << 43
"""Of times in milliseconds, which are µs below 2**53."""
_AHEAD_US = DAY_US
_AHEAD = FAULTS.index("it is available more than a day after it was sent")


class Entry(NamedTuple):
    """An entry of a partition's stream: its id, as bytes and as two numbers, and its fields as Redis gave them."""

    partition: int
    id: bytes
    ms: int
    number: int
    fields: Sequence[bytes]

    @classmethod
    def of(cls, partition: int, entry_id: bytes, fields: Sequence[bytes]) -> Entry:
        """An entry as Redis gave it."""
        ms, _, number = entry_id.partition(b"-")
        return cls(partition, entry_id, int(ms), int(number), fields)


@dataclass(frozen=True)
class Block:
    """Events of one kind, of any partitions, each partition's in the order of its stream.

    Attributes
    ----------
    kind
        Their kind.
    names
        Distinct symbols.
    rows
        int64 (ROW_COLUMNS, N), contiguous: see :mod:`tapeline.kernels.stream_order`.
    records
        (N,) of ``record_type(kind)``, contiguous.
    texts
        For each text column N texts.
    """

    kind: EventKind
    names: list[str]
    rows: Integers
    records: Records
    texts: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.records)

    @property
    def name(self) -> Integers:
        """int64 (N,): place of each event's symbol among the names."""
        line: Integers = self.rows[ROW_NAME]
        return line

    @property
    def partition(self) -> Integers:
        """int64 (N,): the partition of each."""
        line: Integers = self.rows[ROW_PARTITION]
        return line

    @property
    def ms(self) -> Integers:
        """int64 (N,): time of each one's entry."""
        line: Integers = self.rows[ROW_MS]
        return line

    @property
    def part(self) -> Integers:
        """int64 (N,): number of each one's entry and its place there."""
        line: Integers = self.rows[ROW_PART]
        return line

    @cached_property
    def words(self) -> Integers:
        """The records as int64 (N, W)."""
        return words_of(self.records)

    def chosen(self, which: Flags | slice | Integers) -> Block:
        """Some of the events."""
        texts = self.texts
        if texts:
            places = np.arange(len(self))[which].tolist()
            texts = tuple(tuple(column[place] for place in places) for column in texts)
        records = np.ascontiguousarray(self.records[which])
        return Block(self.kind, self.names, np.ascontiguousarray(self.rows[:, which]), records, texts)

    def event(self, place: int) -> Events:
        """One of the events alone."""
        records = self.records[place : place + 1].copy()
        records["symbol"] = 0
        texts = tuple((column[place],) for column in self.texts)
        return Events(self.kind, (self.names[int(self.name[place])],), records, texts)

    def entry_id(self, place: int) -> bytes:
        """Id of the entry that an event came in."""
        return b"%d-%d" % (self.ms[place], self.part[place] // PLACES)


Refuse = Callable[[int, bytes, str, bytes], None]
"""Takes what is refused: partition, entry id, reason, bytes."""


def read_entries(plan: StreamPlan, entries: Sequence[Entry], refuse: Refuse) -> list[Block]:
    """The events of entries, as one block for each kind.

    Parameters
    ----------
    plan
        The stream.
    entries
        In the order of their streams.
    refuse
        Called for each entry and each single event that cannot be taken.
    """
    found: dict[EventKind, list[tuple[Entry, Events]]] = {}
    for entry in entries:
        fields = entry.fields
        single = len(fields) == 2 and fields[0] == FIELD
        try:
            if not single:
                raise InvalidDataError(f"the entry has no single field {FIELD.decode()!r}")
            if entry.number >= _NUMBER_MAX or not 0 < entry.ms < _MS_MAX:
                raise InvalidDataError(f"the id {entry.id.decode()} was not given by the server")
            events = decode_block(fields[1])
            if (strange := _strange(plan.partitions, entry.partition, events.symbols)) is not None:
                own = plan.partition_of(strange)
                raise InvalidDataError(f"symbol {strange} belongs to partition {own}, not to {entry.partition}")
        except InvalidDataError as error:
            refuse(entry.partition, entry.id, error.what, fields[1] if single else b"".join(fields))
        else:
            found.setdefault(events.kind, []).append((entry, events))
    return [block for kind, pieces in found.items() if len(block := _joined(kind, pieces, refuse))]


@lru_cache(4_096)
def _strange(partitions: int, partition: int, symbols: tuple[str, ...]) -> str | None:
    """The first symbol that does not belong to a partition."""
    if partitions == 1:
        return None
    return next((symbol for symbol in symbols if partition_of(symbol, partitions) != partition), None)


def _joined(kind: EventKind, pieces: Sequence[tuple[Entry, Events]], refuse: Refuse) -> Block:
    places: dict[str, int] = {}
    symbols: list[int] = []
    heads: list[tuple[int, int, int, int, int]] = []
    for entry, events in pieces:
        heads.append((len(events), entry.partition, entry.ms, entry.number * PLACES, len(symbols)))
        symbols += [places.setdefault(symbol, len(places)) for symbol in events.symbols]
    memory = bytearray().join([events.records.data for _, events in pieces])
    records = np.frombuffer(memory, dtype=record_type(kind))
    rows = np.empty((ROW_COLUMNS, len(records)), dtype=np.int64)
    texts = tuple(
        tuple(text for _, events in pieces for text in events.texts[column])
        for column in range(len(pieces[0][1].texts))
    )
    block = Block(kind, list(places), rows, records, texts)
    codes = judged(kind, block.words)
    late = unpack(block.words, np.array(heads), np.array(symbols), int(kind), _AHEAD_US, _AHEAD, rows, codes)
    if not late and not codes.any():
        return block
    for place in np.flatnonzero(codes).tolist():
        refuse(
            int(block.partition[place]),
            block.entry_id(place),
            FAULTS[codes[place]],
            encode_block(block.event(place)),
        )
    return block.chosen(codes == 0)
