"""Back-fills whose entities are divided over the tasks of a Ray cluster.

The process that starts one, its driver, holds the view's turn to the end, so that another run over the view waits as ever.
Each task brings some entities up under that turn, on one connection of its own. A task whose worker died is done again,
after the database has ended the dead worker's session: what that committed stands, and is not computed again.

A worker finds the database by its own settings. No address or password is sent through Ray, whose logs and dashboard show
what tasks are given as environment.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import psycopg
import redis as redis_library

from tapeline.compute.cluster import import_ray
from tapeline.compute.entities import ENTITIES_MAX, Done, Means, compute_entities
from tapeline.compute.run import BackfillReport, Begun, backfill_by
from tapeline.core.errors import ConfigurationError, LineageError, ParameterError, TapelineError, UnavailableError
from tapeline.core.hashing import canonical_json
from tapeline.core.settings import get_settings
from tapeline.features.view import FeatureViewSpec
from tapeline.storage.feature_tables import qualified_name
from tapeline.storage.postgres import connect
from tapeline.storage.retrying import write_faults
from tapeline.storage.turns import Turn, part_of_turn

PARTS_WANTED = 256
"""Tasks that many entities are divided into: enough to keep a cluster busy to the end, few enough to start quickly."""
RAW_ROWS_PER_TASK_MAX = 500_000
"""New raw rows that one task holds in memory at once."""
DEATHS_MAX = 3
"""Dead workers of one task after which the run gives up."""
_STOPPING_S = 30.0


@dataclass(frozen=True)
class _Part:
    """What a task is told."""

    number: int
    symbols: tuple[str, ...]
    definition: bytes
    lineage_hash: str
    turn: Turn
    lag_us: int
    horizon_us: int
    raw_rows_max: int


def backfill_on_ray(
    connection: psycopg.Connection[Any],
    spec: FeatureViewSpec,
    *,
    symbols: Sequence[str] | None = None,
    redis: redis_library.Redis | None = None,
    project: str | None = None,
    on_entity: Callable[[int], None] | None = None,
    entities_per_task: int | None = None,
    tasks_max: int | None = None,
    raw_rows_max: int = RAW_ROWS_PER_TASK_MAX,
) -> BackfillReport:
    """:func:`tapeline.compute.backfill` on the Ray cluster that this process is connected to.

    The same rows come to stand in the table, bit for bit. See :func:`tapeline.compute.cluster.ray_cluster` for the connection.
    Back-fills of different views may run at the same time.

    Parameters
    ----------
    connection, spec, symbols, redis, project
        As for :func:`tapeline.compute.backfill`.
    on_entity
        Called with a number of entities each time a task has done so many.
    entities_per_task
        At most so many; by default as many as make 256 tasks, and no more than 256. Which entities a task gets depends on nothing
        but this and the entities.
    tasks_max
        Most tasks that Ray has at a time, and so most connections to the database besides this one; by default
        two for each processor that the cluster has now.
    raw_rows_max
        New raw rows that a task holds in memory at once.

    Returns
    -------
    BackfillReport
        What all tasks did.

    Raises
    ------
    MissingExtraError
        If Ray is not installed.
    ConfigurationError
        If a worker lacks Tapeline, or is connected to another database.
    LineageError
        If the view version is registered with another definition, or a worker has another definition of it.
    UnavailableError
        If workers of one task died again and again, or a server is away. What tasks have finished stands; run it again.
    TapelineError
        What a task raised, as :func:`tapeline.compute.backfill` would raise it. Other tasks have been stopped then, each of
        their entities whole or as it was.

    Examples
    --------
    >>> from tapeline.compute.cluster import ray_cluster
    >>> from tapeline.features.catalogue import view
    >>> with ray_cluster("local"):  # doctest: +SKIP
    ...     report = backfill_on_ray(connection, view("daily_technical"))
    """
    ray = import_ray()
    for name, given in (("entities_per_task", entities_per_task), ("tasks_max", tasks_max)):
        if given is not None and given < 1:
            raise ParameterError(f"{name} is {given}", remedy="Give 1 or more, or leave it out")
    if not ray.is_initialized():
        raise ParameterError("this process is connected to no Ray cluster", remedy="Use it within ray_cluster(ADDRESS)")
    if len(ray.nodes()) == 1:
        spec.plan.compile()  # once, before the workers of this machine all do

    def work(begun: Begun) -> Done:
        most = tasks_max or max(2, 2 * int(ray.cluster_resources().get("CPU", 1)))
        return _run(ray, spec, _parts(spec, begun, entities_per_task, raw_rows_max), most, on_entity)

    return backfill_by(work, connection, spec, symbols=symbols, redis=redis, project=project)


def _parts(spec: FeatureViewSpec, begun: Begun, entities_per_task: int | None, raw_rows_max: int) -> list[_Part]:
    """The entities dealt out, so that neighbours in the alphabet, which may be alike in size, come to different tasks."""
    most = entities_per_task or min(ENTITIES_MAX, -(-len(begun.symbols) // PARTS_WANTED))
    count = -(-len(begun.symbols) // most)
    definition = canonical_json(spec.definition())
    return [
        _Part(
            number + 1,
            begun.symbols[number::count],
            definition,
            spec.lineage_hash,
            begun.turn,
            begun.lag_us,
            begun.horizon_us,
            raw_rows_max,
        )
        for number in range(count)
    ]


def _run(
    ray: Any, spec: FeatureViewSpec, parts: Sequence[_Part], tasks_max: int, on_entity: Callable[[int], None] | None
) -> Done:
    """Have all parts done, at most so many at a time."""
    name = f"backfill {spec.name}@{spec.version}"
    task = ray.remote(num_cpus=1, max_retries=DEATHS_MAX, retry_exceptions=False, scheduling_strategy="SPREAD")(
        _compute
    )
    waiting = iter(parts)
    running: dict[Any, _Part] = {}
    done: dict[int, Done] = {}
    try:
        while len(done) < len(parts):
            while len(running) < tasks_max and (part := next(waiting, None)) is not None:
                running[task.options(name=f"{name} {part.number} of {len(parts)}").remote(part)] = part
            for finished in ray.wait(list(running), num_returns=1)[0]:
                part = running.pop(finished)
                done[part.number] = _result(ray, finished, f"{name}, {_named(part.symbols)}")
                if on_entity is not None:
                    on_entity(len(part.symbols))
    except BaseException:
        _stop(ray, running)
        raise
    return sum((done[part.number] for part in parts), Done())


def _result(ray: Any, finished: Any, where: str) -> Done:
    """What a task returned or raised."""
    try:
        result: Done = ray.get(finished)
        return result
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, TapelineError):
            raise cause from None
        if isinstance(cause, ImportError):
            raise ConfigurationError(
                f"a Ray worker cannot import what it needs: {cause}",
                where=where,
                remedy="Install the same version of tapeline[feast,ray], and your feature modules, on all of the cluster",
            ) from None
        raise
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())
        raise UnavailableError(
            f"a task could not be finished in {DEATHS_MAX + 1} tries: {type(error).__name__}: {reason[:500]}",
            where=where,
            remedy="If its workers ran out of memory, give it fewer entities or raw rows at once; then run it again",
        ) from error


def _stop(ray: Any, running: Mapping[Any, _Part]) -> None:
    """Have no more begun, and wait a little for what is under way: the turn is given back after this."""
    if not running:
        return
    with suppress(ray.exceptions.RayError):
        for reference in running:
            ray.cancel(reference)
        ray.wait(list(running), num_returns=len(running), timeout=_STOPPING_S)


def _named(symbols: Sequence[str]) -> str:
    return ", ".join(symbols[:3]) + (f" and {len(symbols) - 3} more" if len(symbols) > 3 else "")


# In a worker ----------------------------------------------------------------------------------------------------------


def _compute(part: _Part) -> Done:
    """The task."""
    spec = _spec(part.definition)
    me = f"{socket.gethostname()}:{os.getpid()}"
    if spec.lineage_hash != part.lineage_hash:
        raise LineageError(
            f"this worker computes {spec.name}@{spec.version} by another definition: its lineage is"
            f" {spec.lineage_hash[:12]}, not {part.lineage_hash[:12]}",
            where=f"Ray worker {me}",
            remedy="Install the same version of Tapeline, and of your feature modules, on all of the cluster",
        )
    with connect(get_settings()) as connection, write_faults(qualified_name(spec)):
        with connection.transaction():
            connection.execute("SELECT set_config('application_name', %s, false)", (f"tapeline ray {me}"[:63],))
        with part_of_turn(connection, part.turn, part.number):
            return compute_entities(
                connection,
                spec,
                part.symbols,
                lag_us=part.lag_us,
                horizon_us=part.horizon_us,
                # One writer: what the part writes must be on the connection that holds the part.
                means=Means(part.raw_rows_max, writers=1, threads=1),
            )


@lru_cache(maxsize=8)
def _spec(definition: bytes) -> FeatureViewSpec:
    """The view, its plan compiled, kept for the worker's next task."""
    spec = FeatureViewSpec.from_definition(json.loads(definition))
    spec.plan.compile()
    return spec
