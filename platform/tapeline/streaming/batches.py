"""What waits to be written to PostgreSQL: raw rows, feature rows and audits, in pieces as they were made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from tapeline.features.versions import Flags, Floats, Integers
from tapeline.features.view import FeatureViewSpec
from tapeline.streaming.codec import EventKind, Events, Records
from tapeline.streaming.lane import Position
from tapeline.streaming.reading import Block


@dataclass(frozen=True)
class RawRows:
    """Raw rows of one kind, as they are recorded.

    Attributes
    ----------
    names, name
        Distinct symbols, and the place of each row's among them.
    records
        Of ``record_type(kind)``.
    available_us
        int64 (N,): when each counts as available.
    partition, ms, part
        int64 (N,): where each stands.
    texts
        For each text column N texts.
    """

    names: Sequence[str]
    name: Integers
    records: Records
    available_us: Integers
    partition: Integers
    ms: Integers
    part: Integers
    texts: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    @classmethod
    def of(cls, block: Block, which: Flags | slice | Integers, available_us: Integers) -> RawRows:
        """Some events of a block; ``available_us`` is of all of it."""
        texts = block.texts and block.chosen(which).texts
        return cls(
            block.names,
            block.name[which],
            block.records[which],
            available_us[which],
            block.partition[which],
            block.ms[which],
            block.part[which],
            texts,
        )

    @classmethod
    def joined(cls, pieces: Sequence[RawRows]) -> RawRows:
        """Some pieces as one."""
        if len(pieces) == 1:
            return pieces[0]
        names, name = _joined_names(pieces)
        texts = zip(*(piece.texts for piece in pieces), strict=True)
        return cls(
            names,
            name,
            np.concatenate([piece.records for piece in pieces]),
            np.concatenate([piece.available_us for piece in pieces]),
            np.concatenate([piece.partition for piece in pieces]),
            np.concatenate([piece.ms for piece in pieces]),
            np.concatenate([piece.part for piece in pieces]),
            tuple(tuple(text for column in columns for text in column) for columns in texts),
        )

    @property
    def positions(self) -> dict[int, Position]:
        """For each partition the position that they reach."""
        if len(self) == 1:
            return {int(self.partition[0]): (int(self.ms[0]), int(self.part[0]))}
        last = {}
        for partition in np.unique(self.partition).tolist():
            place = int(np.flatnonzero(self.partition == partition)[-1])
            last[partition] = (int(self.ms[place]), int(self.part[place]))
        return last

    def event(self, kind: EventKind) -> Events:
        """The first of them as an event."""
        records = self.records[:1].copy()
        records["symbol"] = 0
        texts = tuple(column[:1] for column in self.texts)
        return Events(kind, (self.names[int(self.name[0])],), records, texts)

    def piece(self, which: slice) -> RawRows:
        """Some of them that lie together."""
        texts = tuple(column[which] for column in self.texts)
        return RawRows(
            self.names, self.name[which], self.records[which], self.available_us[which], self.partition[which],
            self.ms[which], self.part[which], texts,
        )  # fmt: skip


@dataclass(frozen=True)
class FeatureRows:
    """Feature rows of one view: times int64 (N,), outputs float64 (N, outputs).

    Attributes
    ----------
    spec
        The view.
    symbols, place
        The lane's symbols, which stay where they are until the rows are written, and int64 (N,): the place of each row's.
    """

    spec: FeatureViewSpec
    symbols: Sequence[str]
    place: Integers
    event_us: Integers
    sequence: Integers
    available_us: Integers
    outputs: Floats

    @classmethod
    def joined(cls, pieces: Sequence[FeatureRows]) -> FeatureRows:
        """Some pieces of one view as one."""
        if len(pieces) == 1:
            return pieces[0]
        return cls(
            pieces[0].spec,
            pieces[0].symbols,
            np.concatenate([piece.place for piece in pieces]),
            np.concatenate([piece.event_us for piece in pieces]),
            np.concatenate([piece.sequence for piece in pieces]),
            np.concatenate([piece.available_us for piece in pieces]),
            np.concatenate([piece.outputs for piece in pieces]),
        )

    def names(self) -> pa.Array:
        """The symbol of each row."""
        places, each = np.unique(self.place, return_inverse=True)
        return pa.array([self.symbols[place] for place in places.tolist()], pa.string()).take(pa.array(each))


def _joined_names(pieces: Sequence[RawRows]) -> tuple[list[str], Integers]:
    """Distinct names of all pieces, and the place of each row's among them."""
    places: dict[str, int] = {}
    name = []
    for piece in pieces:
        of_piece = np.array([places.setdefault(one, len(places)) for one in piece.names], dtype=np.int64)
        name.append(of_piece[piece.name])
    return list(places), np.concatenate(name)


@dataclass(frozen=True)
class Audit:
    """Why a row of a run of late ones changed what had been computed."""

    partition: int
    symbol: str
    event_us: int
    sequence: int
    available_us: int
    reason: str
    late_us: int
    position: Position


@dataclass
class Batch:
    """What is written in one transaction.

    Attributes
    ----------
    kind
        Kind of the raw rows.
    raw, features
        Rows, in pieces.
    audits
        Rows for ``tapeline.stream_repairs``.
    following
        Whether each raw row continues its symbol: then none of them is stored yet, unless somebody else wrote it.
    """

    kind: EventKind
    following: bool
    raw: list[RawRows] = field(default_factory=list)
    features: list[FeatureRows] = field(default_factory=list)
    audits: list[Audit] = field(default_factory=list)

    @property
    def positions(self) -> dict[int, Position]:
        """For each partition the position that its rows reach."""
        reached: dict[int, Position] = {}
        for rows in self.raw:
            reached |= rows.positions
        return reached

    @property
    def rows(self) -> int:
        """Raw and feature rows."""
        return sum(map(len, self.raw)) + sum(len(piece.event_us) for piece in self.features)

    def add(self, other: Batch) -> None:
        """Take what another one holds, too, behind its own."""
        self.following = self.following and other.following
        self.raw += other.raw
        self.features += other.features
        self.audits += other.audits

    def join(self) -> None:
        """Make one piece of many."""
        if self.raw:
            self.raw = [RawRows.joined(self.raw)]
        by_view: dict[FeatureViewSpec, list[FeatureRows]] = {}
        for piece in self.features:
            by_view.setdefault(piece.spec, []).append(piece)
        self.features = [FeatureRows.joined(pieces) for pieces in by_view.values()]
