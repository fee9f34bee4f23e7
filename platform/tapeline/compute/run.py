"""The back-fill: brings a view's feature table up to what its raw rows say, whatever arrived since it was last run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
import redis as redis_library
from psycopg.pq import TransactionStatus

from tapeline.compute.entities import ENTITIES_MAX, RAW_ROWS_MAX, Done, Means, compute_entities
from tapeline.compute.reading import choose_symbols, declared_lag_us, read_all_actions, source_symbols
from tapeline.compute.writing import WRITERS_MAX
from tapeline.core.errors import ParameterError, UnavailableError
from tapeline.core.settings import get_settings
from tapeline.core.timestamps import to_us
from tapeline.features.view import FeatureViewSpec
from tapeline.lineage import record_view
from tapeline.storage.actions import publish_actions
from tapeline.storage.feature_tables import qualified_name, register_view
from tapeline.storage.retrying import write_faults
from tapeline.storage.snapshots import newest_states, publish_states
from tapeline.storage.turns import Turn, shared_turn

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


@dataclass(frozen=True)
class Begun:
    """A back-fill that has its turn.

    Attributes
    ----------
    turn
        The view's turn, under which others may do a part.
    symbols
        The entities to bring up, in order.
    lag_us
        The source's declared lag.
    horizon_us
        A moment up to which everything recorded is visible to what is read from now on.
    """

    turn: Turn
    symbols: tuple[str, ...]
    lag_us: int
    horizon_us: int


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
    Running it again adds nothing, and a run that was killed is taken up where its last transaction ended. What the
    point-in-time rule finds does not depend on how the work was divided into runs; a row that one run replaced before it
    became available stays beneath, as what was recorded until then.

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

    def work(begun: Begun) -> Done:
        return compute_entities(
            connection,
            spec,
            begun.symbols,
            lag_us=begun.lag_us,
            horizon_us=begun.horizon_us,
            means=Means(raw_rows_max, writers),
            on_entity=on_entity,
        )

    return backfill_by(work, connection, spec, symbols=symbols, redis=redis, project=project)


def backfill_by(
    work: Callable[[Begun], Done],
    connection: psycopg.Connection[Any],
    spec: FeatureViewSpec,
    *,
    symbols: Sequence[str] | None,
    redis: redis_library.Redis | None,
    project: str | None,
) -> BackfillReport:
    """A back-fill whose entities are computed by ``work``, once, while the view's turn is held.

    Parameters and errors are those of :func:`backfill`.
    """
    started = time.perf_counter()
    if connection.info.transaction_status != TransactionStatus.IDLE:
        raise ParameterError("the connection is in a transaction", remedy="Commit it, or use another connection")
    with write_faults(f"registration of {spec.name}@{spec.version}"), connection.transaction():
        if registered := register_view(connection, spec):
            record_view(connection, spec)
    # Two runs over one view version would both add what they miss.
    with write_faults(qualified_name(spec)), shared_turn(connection, f"backfill:{spec.table}") as turn:
        with connection.transaction():
            chosen = choose_symbols(symbols, source_symbols(connection, spec), spec)
            lag_us = declared_lag_us(connection, spec)
        done = work(Begun(turn, tuple(chosen), lag_us, _horizon_us(connection)))
        published = 0 if redis is None else publish(connection, spec, redis, project, chosen)
    return BackfillReport(
        view=spec.name,
        version=spec.version,
        table=qualified_name(spec),
        registered=registered,
        entities=len(chosen),
        entities_changed=len(done.changed),
        rows_read=done.rows_read,
        rows_computed=done.rows_computed,
        rows_added=done.rows_added,
        snapshots_added=done.snapshots_added,
        states_published=published,
        seconds=time.perf_counter() - started,
        quality=done.judged / done.rows_added if done.rows_added else None,
        quality_warnings=done.warnings,
    )


def publish(
    connection: psycopg.Connection[Any],
    spec: FeatureViewSpec,
    redis: redis_library.Redis,
    project: str | None = None,
    symbols: Sequence[str] | None = None,
) -> int:
    """Write the newest states and all splits and dividends of entities to Redis; the number of states.

    Parameters
    ----------
    connection, spec, redis, project
        As of `backfill`.
    symbols
        Entities; all of the source if not given.

    Raises
    ------
    UnavailableError
        If Redis is away.
    """
    if symbols is None:
        with connection.transaction():
            symbols = source_symbols(connection, spec)
    if not symbols:
        return 0
    # What it says must have been recorded before the reading, not before the run.
    read_us = _horizon_us(connection)
    project = project or get_settings().project
    published = 0
    try:
        for start in range(0, len(symbols), ENTITIES_MAX):
            group = symbols[start : start + ENTITIES_MAX]
            with connection.transaction():
                newest = newest_states(connection, spec, group)
                actions = read_all_actions(connection, group)
            publish_actions(redis, project, actions, read_us)
            published += publish_states(redis, project, spec, newest)
        return published
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
