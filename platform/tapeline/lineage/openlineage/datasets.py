"""What each kind of job reads and writes, from the recorded lineage."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import psycopg

from tapeline.core.settings import Settings
from tapeline.lineage.consumers import PRICE_COLUMNS
from tapeline.lineage.graph import Edge, Key
from tapeline.lineage.openlineage.description import (
    CALENDAR_NAMESPACE,
    InputColumn,
    JobDataset,
    JobDatasets,
    database_namespace,
    file_dataset,
    redis_namespace,
    table_dataset,
)
from tapeline.lineage.reading import read_lineage
from tapeline.lineage.row_columns import ACTIONS_TABLE

Connection = psycopg.Connection[Any]


def ingest_datasets(
    connection: Connection, data: str | Path, kind: str, source: str, *, rows: int | None = None
) -> JobDatasets:
    """An ingest: a file, or a packaged source, into a raw table."""
    given = JobDataset("tapeline", f"source.{source}") if isinstance(data, str) else file_dataset(data)
    table = ACTIONS_TABLE if kind == "actions" else f"tapeline.{kind}"
    return JobDatasets((given,), (table_dataset(connection, table, rows=rows),))


def backfill_datasets(connection: Connection, view: str, version: int, *, rows: int | None = None) -> JobDatasets:
    """A back-fill: raw tables, corporate actions and the calendar into a view's table, column by column."""
    columns = _view_columns(connection, f"{view}@{version}")
    inputs = _inputs(connection, (part for parts in columns.values() for part in parts))
    return JobDatasets(inputs, (_view_table(connection, view, version, lineage=columns, rows=rows),))


def export_datasets(connection: Connection, manifest: Mapping[str, Any], folder: Path) -> JobDatasets:
    """An export: views' tables and, for labels, prices, into a folder."""
    namespace, database = database_namespace(connection), connection.info.dbname
    lineage: dict[str, tuple[InputColumn, ...]] = {}
    inputs = []
    for selection in manifest["plan"]["views"]:
        table = _view_table(connection, selection["view"], selection["version"], table=selection["table"])
        inputs.append(table)
        for column, output in zip(selection["features"], selection["output_names"], strict=True):
            lineage[output] = (InputColumn(table.namespace, table.name, column, how="point-in-time join"),)
    labels = manifest.get("labels")
    if labels is not None:
        kind, price = labels["kind"], PRICE_COLUMNS[labels["kind"]]
        inputs.append(table_dataset(connection, f"tapeline.{kind}"))
        inputs.append(table_dataset(connection, ACTIONS_TABLE))
        actions = InputColumn(namespace, f"{database}.{ACTIONS_TABLE}", "ratio", how="splits undone")
        of_price = InputColumn(namespace, f"{database}.tapeline.{kind}", price, how=labels["spec"])
        lineage |= dict.fromkeys(("label", "label_return", "label_end_timestamp"), (of_price, actions))
    columns = tuple((column["name"], column["type"]) for column in manifest["columns"])
    version, rows = manifest["content_sha256"], manifest["row_count"]
    written = {name: parts for name, parts in lineage.items() if name in dict(columns)}
    return JobDatasets(
        tuple(inputs), (file_dataset(folder, columns=columns, version=version, lineage=written, rows=rows),)
    )


def train_datasets(
    folder: Path, manifest: Mapping[str, Any], bundle_sha256: str, settings: Settings | None
) -> JobDatasets:
    """A training: a data set's folder into a bundle; without settings, one that was not registered."""
    features = tuple((str(f["name"]), str(f["dtype"])) for f in manifest["features"])
    given = file_dataset(folder, columns=features, version=manifest["dataset_sha256"])
    parts = tuple(
        InputColumn(given.namespace, given.name, name, how=f"model {manifest['model']}") for name, _ in features
    )
    outputs = tuple((str(name), "float32") for name in manifest["outputs"])
    place = f"{settings.artifacts_path if settings is not None else 'unregistered'}/{bundle_sha256}"
    bundle = file_dataset(place, columns=outputs, version=bundle_sha256, lineage=dict.fromkeys(dict(outputs), parts))
    return JobDatasets((given,), (bundle,))


def deploy_datasets(settings: Settings, model: str, version: str, alias: str, bundle_sha256: str) -> JobDatasets:
    """A deployment: a bundle becomes what an alias, or a server, answers with."""
    bundle = file_dataset(f"{settings.artifacts_path}/{bundle_sha256}", version=bundle_sha256)
    return JobDatasets((bundle,), (JobDataset("tapeline", f"model.{model}@{alias}", version=version),))


def materialize_datasets(
    connection: Connection, settings: Settings, view: str, version: int, table: str
) -> JobDatasets:
    """A materialization: a view's table into the online store."""
    given = _view_table(connection, view, version, table=table)
    times = {"event_timestamp", "available_timestamp", "created_timestamp", "sequence"}
    columns = tuple((name, kind) for name, kind in given.columns if name not in times)
    lineage = {name: (InputColumn(given.namespace, given.name, name, how="newest row"),) for name, _ in columns}
    online = JobDataset(
        redis_namespace(settings), f"{settings.project}.{view}@{version}", columns, given.version, lineage
    )
    return JobDatasets((given,), (online,))


def _view_table(
    connection: Connection, view: str, version: int, *, table: str | None = None, **more: Any
) -> JobDataset:
    """A view's table, its lineage hash as version; ``table`` where it is not one of Tapeline's."""
    with connection.transaction():
        row = connection.execute(
            "SELECT table_name, lineage_hash FROM tapeline.feature_view_versions WHERE view = %s AND version = %s",
            (view, version),
        ).fetchone()
    name, lineage_hash = row if row is not None else (table or f"features.{view}__v{version}", None)
    if "." not in name:
        name = f"features.{name}"
    shown = f"{view}@{version}" + (f" {lineage_hash}" if lineage_hash else "")
    return table_dataset(connection, name, shown, **more)


def _view_columns(connection: Connection, place: str) -> dict[str, tuple[InputColumn, ...]]:
    """Of each feature of a view, the stored columns and calendars it is computed from."""
    found = read_lineage(connection, Key("view", place), "up")
    above: defaultdict[Key, list[Edge]] = defaultdict(list)
    for edge in found.up:
        above[edge.downstream].append(edge)
    features = [edge.upstream for edge in above[found.start] if edge.upstream.kind == "feature"]

    def stored(key: Key, direct: bool, how: str) -> dict[tuple[Key, bool], str]:
        if key.kind in {"column", "calendar"}:
            return {(key, direct): how}
        parts: dict[tuple[Key, bool], str] = {}
        for edge in above[key]:
            named = edge.upstream.name.partition("/")[2] if edge.upstream.kind == "kernel" and not how else how
            parts |= stored(edge.upstream, direct and edge.role != "indirect", named)
        return parts

    return {
        feature.name.partition(":")[2]: tuple(
            _input(connection, key, found.attributes.get(key, {}), direct, how)
            for (key, direct), how in sorted(stored(feature, True, "").items())
        )
        for feature in features
    }


def _input(connection: Connection, key: Key, known: Mapping[str, Any], direct: bool, how: str) -> InputColumn:
    if key.kind == "calendar":
        return InputColumn(CALENDAR_NAMESPACE, key.name, "session", direct, how)
    name = f"{connection.info.dbname}.{known.get('table', '')}"
    return InputColumn(database_namespace(connection), name, known.get("column", key.name), direct, how)


def _inputs(connection: Connection, parts: Iterable[InputColumn]) -> tuple[JobDataset, ...]:
    """The data sets that columns belong to."""
    prefix = f"{connection.info.dbname}."
    found = []
    for namespace, name in sorted({(part.namespace, part.name) for part in parts}):
        is_table = namespace == database_namespace(connection)
        found.append(table_dataset(connection, name.removeprefix(prefix)) if is_table else JobDataset(namespace, name))
    return tuple(found)
