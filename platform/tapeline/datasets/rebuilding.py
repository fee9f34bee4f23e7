"""Rebuild: make an exported data set again from the database, and compare its fingerprint."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg.types.json import Jsonb

from tapeline.core.errors import IntegrityError
from tapeline.datasets.entities import TIME_COLUMN
from tapeline.datasets.exporting import build, fingerprint_of
from tapeline.datasets.fingerprint import Fingerprint, fingerprint
from tapeline.datasets.folder import check_folder, write_folder
from tapeline.datasets.inputs import PriceSource, describe_views
from tapeline.datasets.manifest import (
    ENTITIES_NAME,
    DatasetManifest,
    cpu_name,
    library_versions,
    read_manifest,
    table_columns,
)
from tapeline.datasets.vintage import resolve_vintage

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


def rebuild(
    connection: psycopg.Connection[Any],
    manifest_path: Path,
    *,
    out_dir: Path | None = None,
    overwrite: bool = False,
    notify: Callable[[str], object] = lambda _: None,
) -> Rebuilt:
    """Make a data set again from what its manifest says and the entity rows beside it.

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
    notify
        Told what is being done.

    Raises
    ------
    IntegrityError
        If the manifest or the entity rows beside it are missing or altered, or the manifest holds a query that this
        database never exported.
    VintageError
        If the database's safe horizon lies before the data set's vintage.
    """
    if out_dir is not None:
        check_folder(out_dir, overwrite=overwrite)
    manifest = read_manifest(manifest_path)
    folder = manifest_path if manifest_path.is_dir() else manifest_path.parent
    rows = read_entity_rows(folder, manifest)
    refuse_foreign_queries(connection, manifest)
    resolve_vintage(connection, manifest.as_of_us)
    plan = manifest.retrieval_plan
    views = describe_views(connection, plan)
    labels = manifest.labels
    table, missing = build(
        connection,
        plan,
        rows,
        manifest.as_of_us,
        manifest.label_spec,
        PriceSource(labels.source, labels.kind, labels.calendar) if labels else None,
        keep_without_label=labels.kept_without_label if labels else False,
        notify=notify,
    )
    notify("fingerprint")
    content = fingerprint_of(table, plan)
    rebuilt = manifest.model_copy(
        update={
            "views": views,
            "labels": labels.model_copy(update={"without_label": missing}) if labels else None,
            "row_count": table.num_rows,
            "columns": table_columns(dict(zip(table.column_names, table.schema.types, strict=True)), content.columns),
            "content_sha256": content.sha256,
            "cpu": cpu_name(),
            "libraries": library_versions(),
        }
    )
    if out_dir is not None:
        write_folder(out_dir, table, rows, rebuilt)
    return Rebuilt(rebuilt, manifest.content_sha256, _differences(manifest, rebuilt, content))


def refuse_foreign_queries(connection: psycopg.Connection[Any], manifest: DatasetManifest) -> None:
    """A manifest is a file from anywhere: what it names may be read, but SQL in it runs only if an export here wrote it.

    Raises
    ------
    IntegrityError
        If it holds a query, and no export here did.
    """
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


def read_entity_rows(folder: Path, manifest: DatasetManifest) -> pa.Table:
    """The entity rows beside a manifest.

    Raises
    ------
    IntegrityError
        If they are missing, unreadable, or not those of the manifest.
    """
    path = folder / ENTITIES_NAME
    try:
        rows = pq.read_table(path)
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise IntegrityError(f"the entity rows cannot be read: {error}", where=str(path)) from None
    actual = fingerprint(rows, (*manifest.retrieval_plan.entity_columns, TIME_COLUMN)).sha256
    if actual != manifest.entities.sha256:
        raise IntegrityError(
            f"the entity rows have SHA-256 {actual} where {manifest.entities.sha256} is expected", where=str(path)
        )
    return rows


def _differences(before: DatasetManifest, after: DatasetManifest, content: Fingerprint) -> tuple[str, ...]:
    if before.content_sha256 == after.content_sha256:
        return ()
    found = []
    for old, new in zip(before.views, after.views, strict=True):
        name = f"{old.view}@v{old.version}"
        if old.lineage_hash != new.lineage_hash:
            found.append(f"view {name} has lineage {new.lineage_hash or 'none'}, not {old.lineage_hash or 'none'}")
    if before.row_count != after.row_count:
        found.append(f"{after.row_count} rows, not {before.row_count}")
    changed = [column.name for column in before.columns if content.columns.get(column.name) != column.sha256]
    if changed:
        found.append(f"columns {', '.join(changed[:8])}{' …' if len(changed) > 8 else ''} differ")
    if before.cpu != after.cpu:
        found.append(f"the processor is {after.cpu}, not {before.cpu}")
    for name, version in before.libraries.items():
        if after.libraries.get(name) != version:
            found.append(f"{name} is {after.libraries.get(name, 'absent')}, not {version}")
    return tuple(found)
