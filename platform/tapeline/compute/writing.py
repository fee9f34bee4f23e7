"""What a back-fill computed, into the database: entities side by side over several connections, each of them whole.

Feature rows, state snapshots and progress of an entity are committed together. So a run that is killed leaves entities that
are done and entities that are as they were, however many connections wrote.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import psycopg
import pyarrow as pa

from tapeline.compute.computed import NewRows
from tapeline.features.versions import Integers
from tapeline.features.view import FeatureViewSpec
from tapeline.quality.gate import Judgement
from tapeline.storage.feature_tables import append_rows
from tapeline.storage.postgres import address_of
from tapeline.storage.snapshots import Progress, write_progress, write_snapshots
from tapeline.storage.state_codec import SavedState

WRITERS_MAX = min(4, os.cpu_count() or 1)
"""Connections that write at once: a server process encodes nothing, so more than the machine has cores gain nothing."""
CELLS_PER_WRITER = 500_000
"""Feature values below which another connection costs more than it saves."""


@dataclass(frozen=True)
class ComputedEntity:
    """What was computed of one entity.

    Attributes
    ----------
    symbol
        The entity.
    rows
        Feature rows to add.
    snapshots
        States to keep.
    progress
        How far it has come with them.
    """

    symbol: str
    rows: NewRows
    snapshots: Sequence[SavedState]
    progress: Progress


@dataclass(frozen=True)
class Written:
    """Numbers of rows and snapshots that were added, the sum of the rows' scores, and what to tell of them."""

    rows: int = 0
    snapshots: int = 0
    judged: float = 0.0
    warnings: tuple[str, ...] = ()

    def __add__(self, other: Written) -> Written:
        return Written(
            self.rows + other.rows,
            self.snapshots + other.snapshots,
            self.judged + other.judged,
            self.warnings + other.warnings,
        )


Judge: TypeAlias = Callable[[psycopg.Cursor[Any], list[str], Integers, NewRows], Judgement]
"""Judges what is about to be written, in its transaction: the entities, their rows, and which entity each row is of."""


def write_entities(
    connection: psycopg.Connection[Any],
    spec: FeatureViewSpec,
    entities: Sequence[ComputedEntity],
    writers: int,
    judge: Judge,
) -> Written:
    """Write entities, those of one group in one transaction; what is in the table does not depend on the groups.

    Parameters
    ----------
    connection
        Idle. It writes one group and names the database for the connections that write the others.
    spec
        The view, registered.
    entities
        What was computed.
    writers
        Most connections to write with; small batches take fewer.
    judge
        Asked in each group's transaction; an error of it ends that.

    Raises
    ------
    QualityError
        If a group was refused; the others may be written.
    psycopg.Error
        If a group could not be written; the others are.
    """
    groups = _groups(entities, _writers(spec, entities, writers))
    if len(groups) == 1:
        return _write(connection, spec, groups[0], judge)
    address = address_of(connection)

    def write_apart(group: Sequence[ComputedEntity]) -> Written:
        with psycopg.connect(address) as own:
            return _write(own, spec, group, judge)

    with ThreadPoolExecutor(len(groups) - 1) as pool:
        others = [pool.submit(write_apart, group) for group in groups[1:]]
        written = _write(connection, spec, groups[0], judge)
        return sum((other.result() for other in others), written)


def _writers(spec: FeatureViewSpec, entities: Sequence[ComputedEntity], most: int) -> int:
    cells = sum(len(entity.rows) for entity in entities) * len(spec.columns)
    return max(1, min(most, len(entities), cells // CELLS_PER_WRITER))


def _groups(entities: Sequence[ComputedEntity], count: int) -> list[list[ComputedEntity]]:
    """So many groups of about as many rows each, the largest entities dealt out first."""
    groups: list[list[ComputedEntity]] = [[] for _ in range(count)]
    rows = [0] * count
    for entity in sorted(entities, key=lambda entity: -len(entity.rows)):
        place = rows.index(min(rows))
        groups[place].append(entity)
        rows[place] += len(entity.rows) + 1
    return groups


def _write(
    connection: psycopg.Connection[Any], spec: FeatureViewSpec, entities: Sequence[ComputedEntity], judge: Judge
) -> Written:
    names = [entity.symbol for entity in entities]
    place: Integers = np.repeat(np.arange(len(entities)), [len(entity.rows) for entity in entities])
    rows = _joined([entity.rows for entity in entities])
    with connection.transaction(), connection.cursor() as cursor:
        judgement = judge(cursor, names, place, rows)
        symbols = pa.array(names, pa.string()).take(pa.array(place))
        added = append_rows(
            cursor, spec, symbols, rows.event_us, rows.sequence, rows.available_us, rows.missing, rows.outputs
        )
        snapshots = write_snapshots(cursor, spec, {entity.symbol: entity.snapshots for entity in entities})
        write_progress(cursor, spec, {entity.symbol: entity.progress for entity in entities})
    return Written(added, snapshots, judgement.score * len(rows), judgement.warnings)


def _joined(parts: Sequence[NewRows]) -> NewRows:
    """The rows of all entities, one after another."""
    return NewRows(
        np.concatenate([part.event_us for part in parts]),
        np.concatenate([part.sequence for part in parts]),
        np.concatenate([part.available_us for part in parts]),
        np.concatenate([part.missing for part in parts]),
        np.concatenate([part.outputs for part in parts]),
    )
