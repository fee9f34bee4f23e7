"""Rebuild: make an exported data set again from the database, and compare its fingerprint."""

from __future__ import annotations

import re
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
from psycopg.types.json import Jsonb

from tapeline.core.errors import IntegrityError
from tapeline.core.hashing import sha256_json
from tapeline.core.timestamps import format_us
from tapeline.datasets.assembly import Assembled, Assembly
from tapeline.datasets.database import ReadDatabase
from tapeline.datasets.entity_inputs import EntityStream
from tapeline.datasets.exporting import database_name
from tapeline.datasets.fingerprint import fingerprint
from tapeline.datasets.inputs import PriceSource, describe_views
from tapeline.datasets.manifest import (
    ENTITIES_NAME,
    DatasetManifest,
    DatasetView,
    cpu_name,
    library_versions,
    read_manifest,
    table_columns,
)
from tapeline.datasets.ordering import OrderedRows, read_rows, verify_ordered
from tapeline.datasets.production import Job, Notify, Progress, produce
from tapeline.datasets.slices import Recipe, make_slices
from tapeline.datasets.vintage import resolve_vintage
from tapeline.datasets.workfolder import check_folder
from tapeline.storage.retrying import write_faults

_TABLE_NAME = re.compile(r'(?:\w+|"[^"]+")(?:\.(?:\w+|"[^"]+"))?')


@dataclass(frozen=True)
class Rebuilt:
    """A data set that was made again.

    Attributes
    ----------
    manifest
        Of the rebuilt data set.
    expected_sha256
        Of the original.
    differences
        What differs, most telling first; empty if the content is the same.
    """

    manifest: DatasetManifest
    expected_sha256: str
    differences: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether the content is the same, byte for byte."""
        return self.manifest.content_sha256 == self.expected_sha256

    def require_same(self) -> None:
        """Do nothing if the content is the same.

        Raises
        ------
        IntegrityError
            If it differs; the message names what does.
        """
        if not self.same:
            raise IntegrityError(
                f"the rebuilt data set has SHA-256 {self.manifest.content_sha256} where {self.expected_sha256} is"
                f" expected: {'; '.join(self.differences)}",
                where=f"service {self.manifest.service}, as of {self.manifest.as_of}",
                remedy="Rebuild on the database it was exported from, or a restored backup of it, with the same code",
            )


@write_faults("data set")
def rebuild(
    connection: psycopg.Connection[Any],
    manifest_path: Path,
    *,
    out_dir: Path | None = None,
    overwrite: bool = False,
    restart: bool = False,
    notify: Notify = lambda _: None,
) -> Rebuilt:
    """Make a data set again from what its manifest says and the entity rows beside it.

    It is made in slices, as an export is, and takes as long; one that is written to a folder goes on where it was killed.

    Parameters
    ----------
    connection
        The database it was exported from, or a restored one; not inside a transaction.
    manifest_path
        ``manifest.json``, or its folder.
    out_dir
        Where to write the rebuilt data set; none: it is only compared.
    overwrite
        Replace a folder that holds a data set.
    restart
        Throw away what an earlier, unfinished rebuild to the same folder left.
    notify
        Told what is being done and how many rows are.

    Raises
    ------
    IntegrityError
        If the manifest or the entity rows beside it are missing or altered, or the manifest holds a query that this
        database never exported.
    VintageError
        If the database's safe horizon lies before the data set's vintage.
    ParameterError, AlreadyRunningError, LimitError, UnavailableError
        As `tapeline.datasets.production.produce`.
    """
    if out_dir is not None:
        check_folder(out_dir, overwrite=overwrite)
    manifest = read_manifest(manifest_path)
    notify(Progress("entity rows", 0, manifest.entities.rows))
    recipe, entities = read_recipe(connection, manifest_path, manifest)
    views = describe_views(connection, recipe.plan)
    if out_dir is None:
        content = _compare(connection, recipe, entities, notify)
        rebuilt = _rebuilt(manifest, views, content)
        if rebuilt.content_sha256 == manifest.content_sha256:
            rebuilt = rebuilt.model_copy(update={"parts": manifest.parts})
    else:
        job = Job(
            asked={
                "database": database_name(connection),
                "manifest": sha256_json(manifest.model_dump(mode="json")),
                "view definitions": [view.model_dump(mode="json") for view in views],
                "libraries": library_versions(),
                "processor": cpu_name(),
            },
            recipe=recipe,
            entities=lambda _: nullcontext(EntityStream(read_rows(entities.files))),
            repeatable=True,
            finish=lambda _connection, _recipe, _rows, content: _rebuilt(manifest, views, content),
            partition_by=manifest.partition_by,
        )
        rebuilt = produce(connection, job, out_dir, overwrite=overwrite, restart=restart, notify=notify)
    return Rebuilt(rebuilt, manifest.content_sha256, _differences(manifest, rebuilt))


def read_recipe(
    connection: psycopg.Connection[Any], manifest_path: Path, manifest: DatasetManifest
) -> tuple[Recipe, OrderedRows]:
    """How a data set's rows are made again, and the entity rows beside its manifest, once it is known that they may be.

    Raises
    ------
    IntegrityError
        If the entity rows are missing or altered, or the manifest holds a query that this database never exported.
    VintageError
        If the database's safe horizon lies before the data set's vintage.
    """
    entities = _entity_rows(manifest_path if manifest_path.is_dir() else manifest_path.parent, manifest)
    _refuse_foreign_queries(connection, manifest)
    resolve_vintage(connection, manifest.as_of_us)
    labels = manifest.labels
    recipe = Recipe(
        manifest.retrieval_plan,
        manifest.as_of_us,
        manifest.label_spec,
        PriceSource(labels.source, labels.kind, labels.calendar) if labels else None,
        labels.kept_without_label if labels else False,
    )
    return recipe, entities


def _compare(connection: psycopg.Connection[Any], recipe: Recipe, entities: OrderedRows, notify: Notify) -> Assembled:
    with (
        closing(Assembly(None, "none")) as assembly,
        ReadDatabase(connection, pinned=recipe.pinned).opened() as database,
    ):
        slices = make_slices(database, recipe, entities, slice_rows=recipe.slice_rows)
        return assembly.take_all(slices, lambda rows: notify(Progress("rows", rows, entities.rows)))


def _rebuilt(manifest: DatasetManifest, views: tuple[DatasetView, ...], content: Assembled) -> DatasetManifest:
    schema = content.schema if content.schema is not None else pa.schema([])
    found = content.fingerprint or fingerprint(schema.empty_table())
    labels = manifest.labels
    span = [format_us(moment) for moment in content.span_us] if content.span_us else ["", ""]
    return manifest.model_copy(
        update={
            "views": views,
            "labels": labels.model_copy(update={"without_label": content.without_label}) if labels else None,
            "row_count": content.rows,
            "first_event": span[0],
            "last_event": span[1],
            "columns": table_columns(dict(zip(schema.names, schema.types, strict=True)), found.columns),
            "content_sha256": found.sha256,
            "parts": content.parts,
            "cpu": cpu_name(),
            "libraries": library_versions(),
        }
    )


def _refuse_foreign_queries(connection: psycopg.Connection[Any], manifest: DatasetManifest) -> None:
    """A manifest is a file from anywhere: what it names may be read, but SQL in it runs only if an export here wrote it."""
    queries = [view.table for view in manifest.retrieval_plan.views if not _TABLE_NAME.fullmatch(view.table)]
    if not queries:
        return
    with connection.transaction():
        known = connection.execute(
            "SELECT 1 FROM tapeline.datasets WHERE content_sha256 = %s AND manifest -> 'plan' = %s LIMIT 1",
            (manifest.content_sha256, Jsonb(manifest.plan)),
        ).fetchone()
    if known is None:
        raise IntegrityError(
            f"the manifest reads a query that this database never exported: {queries[0]}",
            where=f"service {manifest.service}",
            remedy="Rebuild on the database it was exported from, or a restored backup of it",
        )


def _entity_rows(folder: Path, manifest: DatasetManifest) -> OrderedRows:
    files = [folder / ENTITIES_NAME / f"part-{number:05}.parquet" for number in range(manifest.entities.parts)]
    rows = verify_ordered(files, manifest.retrieval_plan.entity_columns)
    if rows.sha256 != manifest.entities.sha256:
        raise IntegrityError(
            f"the entity rows have SHA-256 {rows.sha256} where {manifest.entities.sha256} is expected",
            where=str(folder / ENTITIES_NAME),
        )
    return rows


def _differences(before: DatasetManifest, after: DatasetManifest) -> tuple[str, ...]:
    if before.content_sha256 == after.content_sha256:
        return ()
    found = []
    for old, new in zip(before.views, after.views, strict=True):
        name = f"{old.view}@v{old.version}"
        if old.lineage_hash != new.lineage_hash:
            found.append(f"view {name} has lineage {new.lineage_hash or 'none'}, not {old.lineage_hash or 'none'}")
    if before.row_count != after.row_count:
        found.append(f"{after.row_count} rows, not {before.row_count}")
    digests = {column.name: column.sha256 for column in after.columns}
    changed = [column.name for column in before.columns if digests.get(column.name) != column.sha256]
    if changed:
        found.append(f"columns {', '.join(changed[:8])}{' …' if len(changed) > 8 else ''} differ")
    if before.cpu != after.cpu:
        found.append(f"the processor is {after.cpu}, not {before.cpu}")
    for name, version in before.libraries.items():
        if after.libraries.get(name) != version:
            found.append(f"{name} is {after.libraries.get(name, 'absent')}, not {version}")
    return tuple(found)
