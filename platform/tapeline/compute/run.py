"""The back-fill: brings a view's feature table up to what its raw rows say, whatever arrived since it was last run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import psycopg
import redis as redis_library
from psycopg.pq import TransactionStatus

from tapeline.compute.computed import NewRows, Stored
from tapeline.compute.judging import block_of
from tapeline.compute.reading import (
    BEGINNING_US,
    END_US,
    Change,
    choose_symbols,
    declared_lag_us,
    read_actions,
    read_all_actions,
    read_changes,
    read_versions,
    source_symbols,
)
from tapeline.compute.replay import Checkpoint, EntityHistory, Replayed, replay
from tapeline.compute.rows import EntityState, RowRunner
from tapeline.compute.writing import WRITERS_MAX, ComputedEntity, write_entities
from tapeline.core.errors import ParameterError, UnavailableError
from tapeline.core.settings import get_settings
from tapeline.core.timestamps import to_us
from tapeline.features.versions import Integers, naming
from tapeline.features.view import FeatureViewSpec
from tapeline.lineage import record_view
from tapeline.quality.gate import Judgement, judge, refusals_recorded
from tapeline.storage.actions import publish_actions
from tapeline.storage.feature_tables import qualified_name, read_stored, register_view
from tapeline.storage.retrying import write_faults
from tapeline.storage.snapshots import (
    Progress,
    find_bases,
    newest_states,
    publish_states,
    read_progress,
)
from tapeline.storage.state_codec import SavedState
from tapeline.storage.turns import turn

RAW_ROWS_MAX = 2_000_000
"""New raw rows that are held in memory at once."""
ENTITIES_MAX = 256
"""Entities that are computed and written together."""
SNAPSHOTS_PER_RUN_MAX = 16
_BAR_SPACING = 256
_TRADE_SPACING = 16_384
# The safe horizon lies this far in the past even when nobody writes.
_HORIZON_MARGIN_S = 0.012


@dataclass(frozen=True)
class BackfillReport:
    """What a back-fill did.

    Attributes
    ----------
    view, version, table
        What was filled.
    registered
        Whether the view version was new.
    entities, entities_changed
        Entities looked at, and those that had something new.
    rows_read
        New raw rows.
    rows_computed, rows_added
        Feature rows computed, and those of them that did not stand in the table yet.
    snapshots_added, states_published
        State snapshots written to PostgreSQL, and newest states written to Redis.
    seconds
        Wall time.
    quality
        Score of the rows added, 0 to 1, see :mod:`tapeline.quality.score`; none if there were none.
    quality_warnings
        What is to be told of them, a sentence each.
    """

    view: str
    version: int
    table: str
    registered: bool
    entities: int
    entities_changed: int
    rows_read: int
    rows_computed: int
    rows_added: int
    snapshots_added: int
    states_published: int
    seconds: float
    quality: float | None = None
    quality_warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON data."""
        return asdict(self)


@dataclass
class _Totals:
    changed: set[str]
    read: int = 0
    computed: int = 0
    added: int = 0
    snapshots: int = 0
    judged: float = 0.0
    told: list[str] = field(default_factory=list)


def backfill(
    connection: psycopg.Connection[Any],
    spec: FeatureViewSpec,
    *,
    symbols: Sequence[str] | None = None,
    redis: redis_library.Redis | None = None,
    project: str | None = None,
    on_entity: Callable[[int], None] | None = None,
    raw_rows_max: int = RAW_ROWS_MAX,
    writers: int = WRITERS_MAX,
) -> BackfillReport:
    """Compute a view's features over all raw rows that it has not seen yet, and add them to its table.

    Registers the view version and creates its table if need be. What was computed before is continued from state
    snapshots; corrections, late rows, retractions, splits and dividends add new rows from the moment they became known.
    Running it again adds nothing, and a run that was killed is taken up where its last transaction ended. The rows that
    stand in the table do not depend on how the work was divided into runs.

    Parameters
    ----------
    connection
        An idle connection to a migrated database. Other runs over the same view wait for this one.
    spec
        The view.
    symbols
        Entities; all of the source if not given.
    redis
        If given, the newest state of each entity is written there, for streams and requests to continue, and all its
        splits and dividends, which live rows are adjusted for.
    project
        Prefix of the Redis keys; that of the settings if not given.
    on_entity
        Called with a number of entities each time so many are done.
    raw_rows_max
        New raw rows to hold in memory at once.
    writers
        Most connections that write at once.

    Returns
    -------
    BackfillReport
        What was done.

    Raises
    ------
    LineageError
        If the view version is registered with another definition.
    QualityError
        If a rule of the view's quality refuses the rows of entities that are written together; nothing of them is.
    UnknownNameError
        If a symbol has no rows in the view's source.
    EmptyDataError
        If the source has no rows at all.
    ParameterError
        If the connection is in a transaction.
    UnavailableError
        If PostgreSQL goes away: what was under way is there whole or not at all. Or if Redis is away; the table is complete then.

    Examples
    --------
    >>> from tapeline.features.catalogue import view
    >>> report = backfill(connection, view("daily_technical"))  # doctest: +SKIP
    """
    started = time.perf_counter()
    if connection.info.transaction_status != TransactionStatus.IDLE:
        raise ParameterError("the connection is in a transaction", remedy="Commit it, or use another connection")
    with write_faults(f"registration of {spec.name}@{spec.version}"), connection.transaction():
        if registered := register_view(connection, spec):
            record_view(connection, spec)
    # Two runs over one view version would both add what they miss.
    with write_faults(qualified_name(spec)), turn(connection, f"backfill:{spec.table}"):
        with connection.transaction():
            chosen = choose_symbols(symbols, source_symbols(connection, spec), spec)
            lag_us = declared_lag_us(connection, spec)
        runner = RowRunner(spec, lag_us)
        horizon_us = _horizon_us(connection)
        totals = _Totals(set())
        for start in range(0, len(chosen), ENTITIES_MAX):
            group = chosen[start : start + ENTITIES_MAX]
            _backfill_group(connection, spec, runner, group, horizon_us, raw_rows_max, writers, totals, on_entity)
        published = 0 if redis is None else _publish(connection, spec, redis, project, chosen)
    return BackfillReport(
        view=spec.name,
        version=spec.version,
        table=qualified_name(spec),
        registered=registered,
        entities=len(chosen),
        entities_changed=len(totals.changed),
        rows_read=totals.read,
        rows_computed=totals.computed,
        rows_added=totals.added,
        snapshots_added=totals.snapshots,
        states_published=published,
        seconds=time.perf_counter() - started,
        quality=totals.judged / totals.added if totals.added else None,
        quality_warnings=tuple(totals.told),
    )


def _publish(
    connection: psycopg.Connection[Any],
    spec: FeatureViewSpec,
    redis: redis_library.Redis,
    project: str | None,
    symbols: list[str],
) -> int:
    """Write the newest states and all actions of entities to Redis; the number of states."""
    # What it says must have been recorded before the reading, not before the run.
    read_us = _horizon_us(connection)
    with connection.transaction():
        newest = newest_states(connection, spec, symbols)
        actions = read_all_actions(connection, symbols)
    project = project or get_settings().project
    try:
        publish_actions(redis, project, actions, read_us)
        return publish_states(redis, project, spec, newest)
    except redis_library.RedisError as error:
        raise UnavailableError(
            f"the newest states and corporate actions could not be written to Redis: {error}",
            where=f"view {spec.name}@{spec.version}",
            remedy="Start it and run the back-fill again: the feature table is complete",
        ) from error


def _horizon_us(connection: psycopg.Connection[Any]) -> int:
    """A moment up to which everything recorded is visible to what is read from now on."""
    time.sleep(_HORIZON_MARGIN_S)
    with connection.transaction():
        row = connection.execute("SELECT tapeline.safe_horizon()").fetchone()
    assert row is not None
    return to_us(row[0])


def _backfill_group(
    connection: psycopg.Connection[Any],
    spec: FeatureViewSpec,
    runner: RowRunner,
    symbols: list[str],
    horizon_us: int,
    raw_rows_max: int,
    writers: int,
    totals: _Totals,
    on_entity: Callable[[int], None] | None,
) -> None:
    waiting = symbols
    while waiting:
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            progress = read_progress(connection, spec, waiting)
            changes = read_changes(connection, spec, waiting, progress, raw_rows_max)
        if on_entity is not None and len(changes) < len(waiting):
            on_entity(len(waiting) - len(changes))
        again: list[str] = []
        for batch in _batches(changes, raw_rows_max):
            _backfill_batch(connection, spec, runner, batch, progress, horizon_us, writers, totals)
            unfinished = [change.symbol for change in batch if change.until_us < END_US]
            again += unfinished
            if on_entity is not None:
                on_entity(len(batch) - len(unfinished))
        waiting = again


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


def _backfill_batch(
    connection: psycopg.Connection[Any],
    spec: FeatureViewSpec,
    runner: RowRunner,
    changes: list[Change],
    progress: dict[str, Progress],
    horizon_us: int,
    writers: int,
    totals: _Totals,
) -> None:
    histories = _histories(connection, spec, runner, changes)
    spacing = _TRADE_SPACING if spec.rows.raw == "trades" else _BAR_SPACING

    def compute(change: Change, history: EntityHistory) -> Replayed:
        with naming(change.symbol):
            return replay(history, runner, spacing)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # the kernels release the GIL
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
            writers,
            judged,
        )
    totals.added += written.rows
    totals.snapshots += written.snapshots
    totals.judged += written.judged
    totals.told += written.warnings
    totals.changed.update(change.symbol for change in changes)
    totals.read += sum(
        int(np.count_nonzero(history.versions.available_us >= history.since_us)) for history in histories
    )
    totals.computed += sum(result.computed for result in results)


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
