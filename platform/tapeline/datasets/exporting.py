"""Export: entity rows, the features that were known at each, and labels, as a folder that can be built again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from tapeline.core.errors import EmptyDataError
from tapeline.core.hashing import sha256_json
from tapeline.core.timestamps import format_us, from_us
from tapeline.datasets.assembly import Assembled
from tapeline.datasets.entity_inputs import (
    Entities,
    describe,
    identity,
    is_intraday,
    opened,
    require_readable,
)
from tapeline.datasets.inputs import PriceSource, describe_views, price_source
from tapeline.datasets.labels import LabelSpec
from tapeline.datasets.manifest import (
    FORMAT,
    DatasetEntities,
    DatasetLabels,
    DatasetManifest,
    DatasetView,
    cpu_name,
    library_versions,
    table_columns,
)
from tapeline.datasets.ordering import OrderedRows
from tapeline.datasets.part_files import PartitionBy, require_partition
from tapeline.datasets.plan import RetrievalPlan
from tapeline.datasets.production import Job, Notify, produce
from tapeline.datasets.slices import Recipe
from tapeline.datasets.vintage import require_created, resolve_vintage
from tapeline.datasets.workfolder import Record
from tapeline.lineage import record_dataset
from tapeline.storage.retrying import write_faults
from tapeline.storage.view_versions import require_usable


@write_faults("data set")
def export(
    connection: psycopg.Connection[Any],
    plan: RetrievalPlan,
    entities: Entities,
    out_dir: Path,
    *,
    as_of_us: int | None = None,
    labels: LabelSpec | str | None = None,
    prices: str | None = None,
    keep_without_label: bool = False,
    partition_by: PartitionBy = "none",
    overwrite: bool = False,
    restart: bool = False,
    slice_rows: int | None = None,
    notify: Notify = lambda _: None,
) -> DatasetManifest:
    """Write ``data/``, ``entities/`` and ``manifest.json``, all or nothing, and register the data set.

    Rows are made a slice at a time, so that memory does not grow with their number. An export that was killed goes on
    from its last finished slice when it is asked for again, as of the vintage that it began with.

    Parameters
    ----------
    connection
        The database; not inside a transaction. If it is lost, another connection to the same address goes on.
    plan
        Which features of which views.
    entities
        Entity rows, in any order. Their other columns are left out; a row that occurs twice is kept twice.
    out_dir
        The folder; must be absent or empty unless `overwrite` is set.
    as_of_us
        The vintage, microseconds UTC; none: the safe horizon.
    labels
        Such as ``direction:5d``; none: no labels.
    prices
        Source of the labels' prices; none: the source of the service's first suitable view.
    keep_without_label
        Keep rows without a label, with nulls; else they are dropped and counted.
    partition_by
        ``none``; or ``year``, ``month`` or ``day`` of the rows' moments, UTC, as folders such as ``year=2013/month=3``.
    overwrite
        Replace a folder that holds a data set.
    restart
        Throw away what an earlier, unfinished export to the same folder left.
    slice_rows
        Entity rows of a slice; none: by the number of columns. The data set's rows do not depend on it.
    notify
        Told what is being done and how many rows are.

    Returns
    -------
    DatasetManifest
        As written.

    Raises
    ------
    VintageError
        If `as_of_us` is later than the safe horizon, or given although a view has no created column.
    EmptyDataError
        If no row would remain.
    UnknownNameError
        If a symbol, view, feature or source does not exist.
    ParameterError
        If the folder is in use, or holds the beginning of another export.
    VersionStateError
        If a view version is retired.
    InvalidDataError, NaiveTimestampError
        If an entity row is not as it has to be.
    AlreadyRunningError, LimitError, UnavailableError
        As `tapeline.datasets.production.produce`.
    """
    spec = LabelSpec.parse(labels) if isinstance(labels, str) else labels
    if isinstance(entities, Path):
        require_readable(entities)
    if as_of_us is not None:
        require_created(plan.views)
    vintage_us = resolve_vintage(connection, as_of_us)
    views = describe_views(connection, plan)
    require_usable(connection, tables=[view.table for view in plan.views], where=f"service {plan.service}")
    rows_asked = identity(entities)
    source = price_source(connection, views, prices, intraday=is_intraday(entities, spec))
    recipe = Recipe(plan, vintage_us, spec, source, keep_without_label)
    require_partition(partition_by, recipe.columns)

    def finish(
        current: psycopg.Connection[Any], recipe: Recipe, rows: OrderedRows, content: Assembled
    ) -> DatasetManifest:
        manifest = _manifest(recipe, views, describe(entities), rows, content, partition_by)
        register(current, manifest)
        return manifest

    job = Job(
        asked=_asked(connection, recipe, views, as_of_us, partition_by) | {"entity rows": rows_asked},
        recipe=recipe,
        entities=lambda recipe: opened(connection, plan, entities, source, recipe.vintage_us),
        repeatable=rows_asked is not None,
        finish=finish,
        partition_by=partition_by,
        slice_rows=slice_rows,
    )
    return produce(connection, job, out_dir, overwrite=overwrite, restart=restart, notify=notify)


def register(connection: psycopg.Connection[Any], manifest: DatasetManifest) -> None:
    """Note the data set in ``tapeline.datasets``, once, and what it came from."""
    content = manifest.model_dump(mode="json")
    with connection.transaction():
        # The same data set may be made twice at once; of two that look for it together, neither would find it.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"tapeline:{manifest.content_sha256}",))
        connection.execute(
            "INSERT INTO tapeline.datasets (content_sha256, service, as_of, row_count, manifest)"
            " SELECT %(sha256)s, %(service)s, %(as_of)s, %(rows)s, %(manifest)s WHERE NOT EXISTS"
            " (SELECT FROM tapeline.datasets WHERE content_sha256 = %(sha256)s AND manifest = %(manifest)s)",
            {
                "sha256": manifest.content_sha256,
                "service": manifest.service,
                "as_of": from_us(manifest.as_of_us),
                "rows": manifest.row_count,
                "manifest": Jsonb(content),
            },
        )
        record_dataset(connection, content)


def database_name(connection: psycopg.Connection[Any]) -> str:
    """Which database this is, for telling requests apart."""
    info = connection.info
    return f"{info.host}:{info.port}/{info.dbname}"


def _asked(
    connection: psycopg.Connection[Any],
    recipe: Recipe,
    views: tuple[DatasetView, ...],
    as_of_us: int | None,
    partition_by: PartitionBy,
) -> Record:
    source = recipe.source
    return {
        "format": FORMAT,
        "database": database_name(connection),
        "service": recipe.plan.service,
        "features": sha256_json(recipe.plan.to_dict()),
        "view definitions": [[view.view, view.version, view.plan_hash, view.lineage_hash] for view in views],
        "vintage": as_of_us,
        "labels": str(recipe.labels) if recipe.labels else None,
        "prices": [source.source, source.kind, source.calendar] if source and recipe.labels else None,
        "rows without label": recipe.keep_without_label,
        "partitioning": partition_by,
        "libraries": library_versions(),
        "processor": cpu_name(),
    }


def _manifest(
    recipe: Recipe,
    views: tuple[DatasetView, ...],
    description: str,
    entities: OrderedRows,
    content: Assembled,
    partition_by: PartitionBy,
) -> DatasetManifest:
    if content.fingerprint is None or content.schema is None or content.span_us is None:
        raise EmptyDataError(
            f"none of {entities.rows} entity rows has a label",
            where=f"labels {recipe.labels}",
            remedy="Choose earlier entity rows or a shorter horizon, or check that prices were ingested",
        )
    types = dict(zip(content.schema.names, content.schema.types, strict=True))
    return DatasetManifest(
        service=recipe.plan.service,
        plan=recipe.plan.to_dict(),
        views=views,
        as_of_us=recipe.vintage_us,
        as_of=format_us(recipe.vintage_us),
        entities=DatasetEntities(
            description=description, rows=entities.rows, sha256=entities.sha256, parts=len(entities.files)
        ),
        labels=_labels(recipe.labels, recipe.source, content.without_label, recipe.keep_without_label),
        row_count=content.rows,
        first_event=format_us(content.span_us[0]),
        last_event=format_us(content.span_us[1]),
        columns=table_columns(types, content.fingerprint.columns),
        content_sha256=content.fingerprint.sha256,
        partition_by=partition_by,
        parts=content.parts,
        cpu=cpu_name(),
        libraries=library_versions(),
    )


def _labels(spec: LabelSpec | None, source: PriceSource | None, missing: int, kept: bool) -> DatasetLabels | None:
    if spec is None or source is None:
        return None
    return DatasetLabels(
        spec=str(spec),
        source=source.source,
        kind=source.kind,
        calendar=source.calendar,
        without_label=missing,
        kept_without_label=kept,
    )
