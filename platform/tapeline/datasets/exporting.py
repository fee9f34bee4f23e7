"""Export: entity rows, the features that were known at each, and labels, as a folder that can be built again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

from tapeline.compute.sessions import session_times
from tapeline.core.errors import EmptyDataError, ParameterError, UnknownNameError
from tapeline.core.timestamps import DAY_US, format_us, from_us, to_us
from tapeline.datasets.entities import TIME_COLUMN
from tapeline.datasets.fingerprint import Fingerprint, fingerprint
from tapeline.datasets.folder import check_folder, write_folder
from tapeline.datasets.inputs import (
    Entities,
    Generated,
    PriceSource,
    describe_views,
    entity_rows,
    is_intraday,
    price_source,
)
from tapeline.datasets.label_paths import MISSING_US
from tapeline.datasets.labels import LabelSpec, compute_labels
from tapeline.datasets.manifest import (
    DatasetEntities,
    DatasetLabels,
    DatasetManifest,
    cpu_name,
    library_versions,
    table_columns,
)
from tapeline.datasets.plan import RetrievalPlan
from tapeline.datasets.point_in_time import as_of_join
from tapeline.datasets.prices import read_prices
from tapeline.datasets.vintage import require_created, resolve_vintage
from tapeline.lineage import record_dataset
from tapeline.storage.view_versions import require_usable

LABEL_COLUMNS = ("label", "label_return", "label_end_timestamp")
_UTC = pa.timestamp("us", tz="UTC")
# The last price before a moment, and the first after a label's end, lie within the longest closure of a venue.
_CLOSURE_US = 14 * DAY_US


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
    overwrite: bool = False,
    notify: Callable[[str], object] = lambda _: None,
) -> DatasetManifest:
    """Write ``data.parquet``, ``entities.parquet`` and ``manifest.json``, all or nothing, and register the data set.

    Parameters
    ----------
    connection
        The database; not inside a transaction.
    plan
        Which features of which views.
    entities
        Entity rows (entity columns and an aware ``event_timestamp``), or what to generate.
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
    overwrite
        Replace a folder that holds a data set.
    notify
        Told what is being done.

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
        If the folder is in use.
    VersionStateError
        If a view version is retired.
    """
    check_folder(out_dir, overwrite=overwrite)
    if as_of_us is not None:
        require_created(plan.views)
    vintage_us = resolve_vintage(connection, as_of_us)
    spec = LabelSpec.parse(labels) if isinstance(labels, str) else labels
    views = describe_views(connection, plan)
    require_usable(connection, tables=[view.table for view in plan.views], where=f"service {plan.service}")
    source = price_source(connection, views, prices, intraday=is_intraday(entities, spec))
    notify("entity rows")
    description = str(entities) if isinstance(entities, Generated) else "given rows"
    rows = entity_rows(connection, plan, entities, source, vintage_us)
    table, missing = build(
        connection, plan, rows, vintage_us, spec, source, keep_without_label=keep_without_label, notify=notify
    )
    if table.num_rows == 0:
        raise EmptyDataError(
            f"none of {rows.num_rows} entity rows has a label",
            where=f"labels {spec}",
            remedy="Choose earlier entity rows or a shorter horizon, or check that prices were ingested",
        )
    notify("fingerprint")
    content = fingerprint_of(table, plan)
    manifest = DatasetManifest(
        service=plan.service,
        plan=json.loads(json.dumps(plan.to_dict())),
        views=views,
        as_of_us=vintage_us,
        as_of=format_us(vintage_us),
        entities=DatasetEntities(
            description=description,
            rows=rows.num_rows,
            sha256=fingerprint(rows, (*plan.entity_columns, TIME_COLUMN)).sha256,
        ),
        labels=_describe_labels(spec, source, missing, keep_without_label),
        row_count=table.num_rows,
        first_event=_moment(table, 0),
        last_event=_moment(table, table.num_rows - 1),
        columns=table_columns(dict(zip(table.column_names, table.schema.types, strict=True)), content.columns),
        content_sha256=content.sha256,
        cpu=cpu_name(),
        libraries=library_versions(),
    )
    notify("writing")
    with connection.transaction():
        register(connection, manifest)
        write_folder(out_dir, table, rows, manifest)
    return manifest


def build(
    connection: psycopg.Connection[Any],
    plan: RetrievalPlan,
    rows: pa.Table,
    vintage_us: int,
    spec: LabelSpec | None,
    source: PriceSource | None,
    *,
    keep_without_label: bool = False,
    notify: Callable[[str], object] = lambda _: None,
) -> tuple[pa.Table, int]:
    """The data set's table, ordered by time and entity, and how many rows had no label."""
    if spec is not None and spec.side and spec.side not in plan.output_names:
        raise UnknownNameError("feature", spec.side, plan.output_names, where=f"label {spec}")
    notify("point-in-time join")
    table = as_of_join(connection, plan.views, rows, vintage_us=vintage_us)
    if spec is None:
        return table, 0
    if source is None:
        raise ParameterError(
            "labels need prices and no view of the service has a known source",
            where=f"service {plan.service}",
            remedy="Name the source of the prices",
        )
    notify("labels")
    sessions = session_times(source.calendar)
    event_us = np.asarray(rows.column(TIME_COLUMN).cast(pa.int64()).to_numpy())
    symbols = rows.column("symbol").to_numpy()
    known = read_prices(
        connection,
        source.kind,
        source.source,
        sorted(set(symbols.tolist())),
        vintage_us=vintage_us,
        # Barriers look twenty sessions back; a horizon of n sessions ends within twice as many days and a closure.
        first_us=int(event_us.min()) - _CLOSURE_US - 40 * DAY_US,
        last_us=int(event_us.max()) + _CLOSURE_US + (2 * spec.sessions + spec.hours) * DAY_US,
    )
    labels = compute_labels(spec, symbols, event_us, known, sessions, _side(table, spec))
    absent = labels.end_us == MISSING_US
    for name, column in zip(
        LABEL_COLUMNS,
        (
            pa.array(labels.value, mask=absent),
            pa.array(labels.forward_return, mask=absent),
            pa.array(labels.end_us, mask=absent).cast(_UTC),
        ),
        strict=True,
    ):
        table = table.append_column(name, column)
    if not keep_without_label:
        table = table.filter(pa.array(~absent))
    return table, int(absent.sum())


def _side(table: pa.Table, spec: LabelSpec) -> NDArray[np.float64] | None:
    """The feature that a meta-label takes the side of its bet from."""
    if not spec.side:
        return None
    return np.asarray(table.column(spec.side).cast(pa.float64()).to_numpy(), dtype=np.float64)


def fingerprint_of(table: pa.Table, plan: RetrievalPlan) -> Fingerprint:
    """The fingerprint of a data set's table; rows are identified by entity and time."""
    return fingerprint(table, (*plan.entity_columns, TIME_COLUMN))


def register(connection: psycopg.Connection[Any], manifest: DatasetManifest) -> None:
    """Note the data set in ``tapeline.datasets``, and what it came from."""
    content = manifest.model_dump(mode="json")
    connection.execute(
        "INSERT INTO tapeline.datasets (content_sha256, service, as_of, row_count, manifest)"
        " VALUES (%s, %s, %s, %s, %s)",
        (
            manifest.content_sha256,
            manifest.service,
            from_us(manifest.as_of_us),
            manifest.row_count,
            Jsonb(content),
        ),
    )
    record_dataset(connection, content)


def _describe_labels(
    spec: LabelSpec | None, source: PriceSource | None, missing: int, kept: bool
) -> DatasetLabels | None:
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


def _moment(table: pa.Table, row: int) -> str:
    return format_us(to_us(table.column(TIME_COLUMN)[row].as_py()))
