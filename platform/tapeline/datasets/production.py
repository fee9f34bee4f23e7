"""Making a data set's folder: begin or go on, put the entity rows in order, make slices, publish."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

from tapeline.core.errors import IntegrityError, LimitError, ParameterError, TapelineError, UnavailableError
from tapeline.core.timestamps import format_us
from tapeline.datasets.assembly import Assembled, Assembly
from tapeline.datasets.database import ReadDatabase
from tapeline.datasets.entity_inputs import EntityStream
from tapeline.datasets.manifest import DATA_NAME, ENTITIES_NAME, MANIFEST_NAME, DatasetManifest
from tapeline.datasets.ordering import OrderedRows, verify_ordered, write_ordered
from tapeline.datasets.part_files import PartitionBy
from tapeline.datasets.slices import Recipe, make_slices
from tapeline.datasets.vintage import resolve_vintage
from tapeline.datasets.workfolder import Record, WorkFolder, check_folder, differences, opened_work

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an export is.

    Attributes
    ----------
    stage
        What is being done.
    done, total
        Rows so far, and of all; none: not known.
    """

    stage: str
    done: int = 0
    total: int | None = None


Notify = Callable[[Progress], object]


@dataclass(frozen=True)
class Job:
    """A data set to be made.

    Attributes
    ----------
    asked
        The request as JSON-ready data: whoever asks the same may go on with what another began.
    recipe
        How rows are made; its vintage is that of a fresh start.
    entities
        Opens the entity rows.
    repeatable
        Whether `asked` tells the entity rows apart; else they are read again to go on.
    finish
        Makes and registers the manifest of what was assembled.
    partition_by
        How the files are laid out.
    slice_rows
        Entity rows of a slice; none: by the recipe.
    """

    asked: Record
    recipe: Recipe
    entities: Callable[[Recipe], AbstractContextManager[EntityStream]]
    repeatable: bool
    finish: Callable[[psycopg.Connection[Any], Recipe, OrderedRows, Assembled], DatasetManifest]
    partition_by: PartitionBy = "none"
    slice_rows: int | None = None


def produce(
    connection: psycopg.Connection[Any], job: Job, out_dir: Path, *, overwrite: bool, restart: bool, notify: Notify
) -> DatasetManifest:
    """Make a data set in its place, all or nothing; go on where the same request was interrupted.

    Raises
    ------
    ParameterError
        If the folder is in use, or holds the beginning of another request.
    AlreadyRunningError
        If another export writes to the same place.
    LimitError
        If the disk is full; what is finished stays for the next try.
    UnavailableError
        If the database was lost for longer than it was waited for; likewise.
    """
    with opened_work(out_dir, restart=restart) as (work, begun):
        if begun is not None:
            _require_same(begun, job.asked, work, out_dir)
        try:
            check_folder(out_dir, overwrite=overwrite)
            # Without a vintage that pins it, what was read in another snapshot may not be mixed with what is there now.
            request = begun if begun is not None and job.recipe.pinned else _begin(work, job)
            recipe = replace(job.recipe, vintage_us=resolve_vintage(connection, int(request["vintage_us"])))
            manifest = _make(connection, job, recipe, work, request, notify)
            work.publish()
        except BaseException as error:
            if not (work.records and _may_go_on(error)):
                work.put_back()
                work.remove()
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                raise _no_room(error, out_dir, kept=bool(work.records)) from error
            raise
        work.remove()
    return manifest


def _require_same(begun: Record, asked: Record, work: WorkFolder, out_dir: Path) -> None:
    points = differences(begun["asked"], asked)
    if points:
        slices = sum("slice" in record for record in work.records)
        raise ParameterError(
            f"an unfinished export of another request lies beside {out_dir}: it differs in {', '.join(points)}",
            where=f"{work.folder}, begun {begun['began']}, {slices} slices finished",
            remedy="Ask for the same again to go on with it, or pass --restart to throw it away",
        )


def _begin(work: WorkFolder, job: Job) -> Record:
    request: Record = {
        "asked": job.asked,
        "vintage_us": job.recipe.vintage_us,
        "slice_rows": job.slice_rows or job.recipe.slice_rows,
        "began": format_us(time.time_ns() // 1_000),
    }
    work.begin(request)
    return request


def _make(
    connection: psycopg.Connection[Any], job: Job, recipe: Recipe, work: WorkFolder, request: Record, notify: Notify
) -> DatasetManifest:
    entities = _entities(job, recipe, work, request, notify)
    finished = [record for record in work.records if "slice" in record]
    with (
        closing(Assembly(work, job.partition_by)) as assembly,
        ReadDatabase(connection, pinned=recipe.pinned).opened() as database,
    ):
        first, done = assembly.take_up(finished, lambda rows: notify(Progress("reading again", rows, entities.rows)))
        work.keep(request, 1 + first)
        slices = make_slices(database, recipe, entities, slice_rows=int(request["slice_rows"]), first=first)
        content = assembly.take_all(slices, lambda rows: notify(Progress("rows", done + rows, entities.rows)))
        manifest = database.run(lambda current: job.finish(current, recipe, entities, content))
    _remove_others(work.set / DATA_NAME, {work.set / part.path for part in content.parts})
    (work.set / MANIFEST_NAME).write_text(manifest.to_text(), encoding="utf-8")
    return manifest


def _entities(job: Job, recipe: Recipe, work: WorkFolder, request: Record, notify: Notify) -> OrderedRows:
    """The entity rows in order: those that are there already, if they are the ones asked for."""
    columns = recipe.plan.entity_columns
    known = next((record for record in work.records if "entities" in record), None)
    folder = work.set / ENTITIES_NAME
    found = _unharmed(folder, columns, str(known["entities"])) if known is not None else None
    if found is not None:
        if not job.repeatable:
            _require_same_rows(job, recipe, work, found)
        return found
    work.begin(request)
    with job.entities(recipe) as stream:
        rows = write_ordered(
            stream.tables, columns, folder, work.spill, advance=lambda count: notify(Progress("entity rows", count))
        )
    work.add({"entities": rows.sha256, "rows": rows.rows})
    return rows


def _unharmed(folder: Path, columns: tuple[str, ...], sha256: str) -> OrderedRows | None:
    """The entity rows of an earlier try, if they are what it wrote."""
    try:
        found = verify_ordered(sorted(folder.glob("part-*.parquet")), columns)
    except IntegrityError:
        return None
    return found if found.sha256 == sha256 else None


def _require_same_rows(job: Job, recipe: Recipe, work: WorkFolder, found: OrderedRows) -> None:
    again = work.spill / "again"
    with job.entities(recipe) as stream:
        rows = write_ordered(stream.tables, recipe.plan.entity_columns, again, work.spill)
    shutil.rmtree(work.spill)
    if rows.sha256 != found.sha256:
        raise ParameterError(
            "an unfinished export of other entity rows lies beside the folder",
            where=str(work.folder),
            remedy="Give the same rows again to go on with it, or pass --restart to throw it away",
        )


def _remove_others(folder: Path, files: set[Path]) -> None:
    """Files that an interrupted try left."""
    for path in folder.rglob("*.parquet"):
        if path not in files:
            path.unlink()


def _may_go_on(error: BaseException) -> bool:
    """Whether the same request may succeed later: unlike a wrong one."""
    return not isinstance(error, TapelineError) or isinstance(error, UnavailableError)


def _no_room(error: OSError, out_dir: Path, *, kept: bool) -> LimitError:
    goes_on = ": it goes on with what is finished" if kept else ""
    return LimitError(
        f"the disk is full: {error.strerror or error}",
        where=str(out_dir),
        remedy=f"Make room, and run the same command again{goes_on}",
    )
