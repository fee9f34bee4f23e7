"""Entities of a view brought up to what their raw rows say: the work of a back-fill that may be divided among processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import psycopg

from tapeline.compute.computed import NewRows, Stored
from tapeline.compute.judging import block_of
from tapeline.compute.reading import BEGINNING_US, END_US, Change, read_actions, read_changes, read_versions
from tapeline.compute.replay import Checkpoint, EntityHistory, Replayed, replay
from tapeline.compute.rows import EntityState, RowRunner
from tapeline.compute.writing import WRITERS_MAX, ComputedEntity, write_entities
from tapeline.features.versions import Integers, naming
from tapeline.features.view import FeatureViewSpec
from tapeline.quality.gate import Judgement, judge, refusals_recorded
from tapeline.storage.feature_tables import read_stored
from tapeline.storage.snapshots import Progress, find_bases, read_progress
from tapeline.storage.state_codec import SavedState

RAW_ROWS_MAX = 2_000_000
"""New raw rows that are held in memory at once."""
ENTITIES_MAX = 256
"""Entities that are computed and written together."""
SNAPSHOTS_PER_RUN_MAX = 16
_BAR_SPACING = 256
_TRADE_SPACING = 16_384


@dataclass(frozen=True)
class Done:
    """What was done for some entities; two of them add up.

    Attributes
    ----------
    changed
        The entities that had something new.
    rows_read, rows_computed, rows_added, snapshots_added
        As of :class:`tapeline.compute.run.BackfillReport`.
    judged
        Sum of the scores of the rows added.
    warnings
        What is to be told of them, a sentence each.
    """

    changed: frozenset[str] = frozenset()
    rows_read: int = 0
    rows_computed: int = 0
    rows_added: int = 0
    snapshots_added: int = 0
    judged: float = 0.0
    warnings: tuple[str, ...] = ()

    def __add__(self, other: Done) -> Done:
        return Done(
            self.changed | other.changed,
            self.rows_read + other.rows_read,
            self.rows_computed + other.rows_computed,
            self.rows_added + other.rows_added,
            self.snapshots_added + other.snapshots_added,
            self.judged + other.judged,
            self.warnings + other.warnings,
        )


@dataclass(frozen=True)
class Means:
    """What may be used at once.

    Attributes
    ----------
    raw_rows_max
        New raw rows to hold in memory.
    writers
        Most connections that write.
    threads
        Most threads that compute.
    """

    raw_rows_max: int = RAW_ROWS_MAX
    writers: int = WRITERS_MAX
    threads: int = os.cpu_count() or 1


def compute_entities(
    connection: psycopg.Connection[Any],
    spec: FeatureViewSpec,
    symbols: Sequence[str],
    *,
    lag_us: int,
    horizon_us: int,
    means: Means,
    on_entity: Callable[[int], None] | None = None,
) -> Done:
    """Compute what entities miss, and add it. The view's turn must be held, here or by whom this is done for.

    Parameters
    ----------
    connection
        Idle.
    spec
        The view, registered.
    symbols
        The entities.
    lag_us
        The source's declared lag.
    horizon_us
        A moment up to which everything recorded is visible to what is read from now on.
    means
        What may be used.
    on_entity
        Called with a number of entities each time so many are done.

    Raises
    ------
    QualityError
        If rows of entities that are written together are refused; nothing of them is written.
    psycopg.Error
        If something could not be read or written; each entity is there whole or as it was.
    """
    runner = RowRunner(spec, lag_us)
    done = Done()
    for start in range(0, len(symbols), ENTITIES_MAX):
        waiting = list(symbols[start : start + ENTITIES_MAX])
        while waiting:
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                progress = read_progress(connection, spec, waiting)
                changes = read_changes(connection, spec, waiting, progress, means.raw_rows_max)
            if on_entity is not None and len(changes) < len(waiting):
                on_entity(len(waiting) - len(changes))
            waiting = []
            for batch in _batches(changes, means.raw_rows_max):
                done += _compute_batch(connection, spec, runner, batch, progress, horizon_us, means)
                unfinished = [change.symbol for change in batch if change.until_us < END_US]
                waiting += unfinished
                if on_entity is not None:
                    on_entity(len(batch) - len(unfinished))
    return done


def _batches(changes: list[Change], rows_max: int) -> Iterator[list[Change]]:
    """Consecutive changes that fit into memory together; at least one each."""
    batch: list[Change] = []
    rows = 0
    for change in changes:
        size = min(change.rows, rows_max)
        if batch and rows + size > rows_max:
            yield batch
            batch, rows = [], 0
        batch.append(change)
        rows += size
    if batch:
        yield batch


def _compute_batch(
    connection: psycopg.Connection[Any],
    spec: FeatureViewSpec,
    runner: RowRunner,
    changes: list[Change],
    progress: dict[str, Progress],
    horizon_us: int,
    means: Means,
) -> Done:
    histories = _histories(connection, spec, runner, changes)
    spacing = _TRADE_SPACING if spec.rows.raw == "trades" else _BAR_SPACING

    def compute(change: Change, history: EntityHistory) -> Replayed:
        with naming(change.symbol):
            return replay(history, runner, spacing)

    with ThreadPoolExecutor(means.threads) as pool:  # the kernels release the GIL
        results = list(pool.map(compute, changes, histories))
    histories_of = dict(zip((change.symbol for change in changes), histories, strict=True))

    def judged(cursor: psycopg.Cursor[Any], names: list[str], entity: Integers, rows: NewRows) -> Judgement:
        return judge(cursor, block_of(spec, runner, names, [histories_of[name] for name in names], entity, rows))

    with refusals_recorded(connection):
        written = write_entities(
            connection,
            spec,
            [
                ComputedEntity(
                    change.symbol,
                    result.rows,
                    [_saved(runner, checkpoint, horizon_us) for checkpoint in _spread(result.checkpoints)],
                    Progress(horizon_us, _known_us(change, history, progress.get(change.symbol))),
                )
                for change, history, result in zip(changes, histories, results, strict=True)
            ],
            means.writers,
            judged,
        )
    return Done(
        changed=frozenset(change.symbol for change in changes),
        rows_read=sum(
            int(np.count_nonzero(history.versions.available_us >= history.since_us)) for history in histories
        ),
        rows_computed=sum(result.computed for result in results),
        rows_added=written.rows,
        snapshots_added=written.snapshots,
        judged=written.judged,
        warnings=tuple(written.warnings),
    )


def _histories(
    connection: psycopg.Connection[Any], spec: FeatureViewSpec, runner: RowRunner, changes: list[Change]
) -> list[EntityHistory]:
    symbols = [change.symbol for change in changes]
    with connection.transaction():
        saved = find_bases(
            connection, spec, symbols, [c.since_us for c in changes], [c.before_event_us for c in changes]
        )
    bases = [_checkpoint(runner, saved[symbol]) if symbol in saved else None for symbol in symbols]
    after = [(base.event_us, base.sequence) if base else (BEGINNING_US, 0) for base in bases]
    versions = read_versions(connection, spec, changes, after)
    actions = read_actions(connection, spec, changes)
    rows = read_stored(connection, spec, symbols, [_first_stored_us(runner, base) for base in bases])
    stored: list[Stored | None] = [None] * len(changes)
    if len(rows.entity):
        ends = np.searchsorted(rows.entity, np.arange(len(changes) + 1))  # they come in the order of entities
        stored = [
            Stored(
                rows.event_us[first:end],
                rows.sequence[first:end],
                rows.available_us[first:end],
                rows.missing[first:end],
                rows.outputs[first:end],
            )
            for first, end in pairwise(ends)
        ]
    return [
        EntityHistory(version, action, change.since_us, base, table)
        for version, action, change, base, table in zip(versions, actions, changes, bases, stored, strict=True)
    ]


def _first_stored_us(runner: RowRunner, base: Checkpoint | None) -> int:
    """From which event on rows may be made again.

    A base may come after the end of its unfinished bar, where the row at its key was retracted since: that bar, too, may have its
    row already.
    """
    if base is None:
        return BEGINNING_US
    open_end_us = runner.open_bar_end_us(base.state)
    return base.event_us if open_end_us is None else min(base.event_us, open_end_us)


def _known_us(change: Change, history: EntityHistory, before: Progress | None) -> int:
    """Everything of the entity that is available by this moment has been computed."""
    if change.until_us < END_US:
        return change.until_us - 1
    known: list[int] = [change.since_us, *history.actions.available_us.tolist()]
    if len(history.versions):
        known.append(int(history.versions.available_us.max()))
    if before is not None:
        known.append(before.available_us)
    return max(known)


def _spread(checkpoints: tuple[Checkpoint, ...]) -> list[Checkpoint]:
    """At most so many as a run may keep, evenly spread, the last among them."""
    if len(checkpoints) <= SNAPSHOTS_PER_RUN_MAX:
        return list(checkpoints)
    places = np.linspace(0, len(checkpoints) - 1, SNAPSHOTS_PER_RUN_MAX).round().astype(int)
    return [checkpoints[place] for place in np.unique(places)]


def _saved(runner: RowRunner, checkpoint: Checkpoint, horizon_us: int) -> SavedState:
    state = checkpoint.state
    return SavedState(
        plan_hash=runner.plan.hash,
        event_us=checkpoint.event_us,
        sequence=checkpoint.sequence,
        available_us=checkpoint.known_us,
        recorded_us=horizon_us,
        rows_seen=runner.plan.position(state.plan).rows_seen,
        plan_state=runner.plan.save(state.plan),
        bar_state=state.bars,
        outputs=state.outputs,
    )


def _checkpoint(runner: RowRunner, saved: SavedState) -> Checkpoint:
    state = EntityState(runner.plan.restore(saved.plan_state), saved.bar_state, saved.outputs)
    return Checkpoint(saved.event_us, saved.sequence, saved.available_us, state)
