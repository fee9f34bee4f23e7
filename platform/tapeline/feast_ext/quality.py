"""Rows that Feast writes to a view's table, as blocks for the quality gate."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from feast.feature_view import FeatureView
from psycopg import sql

from tapeline.feast_ext.selection import view_version
from tapeline.feast_ext.source import TimescaleSource
from tapeline.features.versions import Flags, Floats, Integers
from tapeline.features.view import FeatureViewSpec
from tapeline.quality.block import Block, Expectations, numbered
from tapeline.quality.gate import judge
from tapeline.storage.feature_tables import RegisteredView
from tapeline.storage.reference import find_source


def judge_push(connection: psycopg.Connection[Any], view: FeatureView, source: TimescaleSource, rows: pa.Table) -> None:
    """Judge rows that are about to be appended to the table of a view's source, in the same transaction.

    Nothing happens where the rows lack their time or their keys: to refuse those is the table's business.

    Raises
    ------
    QualityError
        If a rule refuses them.
    ConfigurationError
        If the view's own rules cannot be tried.
    """
    column_of = source.column_of
    needed = [source.timestamp_field, *(column_of.get(key.name, key.name) for key in view.entity_columns)]
    if not rows.num_rows or not has_quality_tables(connection) or not set(needed) <= set(rows.column_names):
        return
    if any(not _is_usable(rows.column(name)) for name in needed):
        return
    registered = registered_view(connection, source.table or "")
    block = block_of_push(connection, view, source, rows, registered)
    with connection.cursor() as cursor:
        judge(cursor, block, statistics=registered is not None)


def _is_usable(column: pa.ChunkedArray) -> bool:
    naive = pa.types.is_timestamp(column.type) and column.type.tz is None
    return column.null_count == 0 and not naive


def registered_view(connection: psycopg.Connection[Any], table: str) -> RegisteredView | None:
    """The view version of Tapeline's own whose table this is; none if it is somebody else's."""
    row = connection.execute(
        "SELECT view, version, lineage_hash, plan_hash, table_name, definition FROM tapeline.feature_view_versions"
        " WHERE table_name = %s",
        (table,),
    ).fetchone()
    return None if row is None else RegisteredView(*row)


def has_quality_tables(connection: psycopg.Connection[Any]) -> bool:
    """Whether the database has Tapeline's schema: the store also serves repositories on databases without it."""
    row = connection.execute("SELECT to_regclass('tapeline.quality_scores') IS NOT NULL").fetchone()
    return bool(row and row[0])


def block_of_push(
    connection: psycopg.Connection[Any],
    view: FeatureView,
    source: TimescaleSource,
    rows: pa.Table,
    registered: RegisteredView | None,
) -> Block:
    """The block of rows that Feast is about to append.

    Of a view of Tapeline's own, its specification says what is expected. Of another, only times, keys and the view's own
    rules are looked at.

    Parameters
    ----------
    connection
        In the transaction that will write them.
    view, source
        Where they go.
    rows
        Columns by their names in the table.
    registered
        The view version whose table it is, if it is Tapeline's own.
    """
    column_of = source.column_of
    keys = [column_of.get(column.name, column.name) for column in view.entity_columns]
    features = tuple(column_of.get(field.name, field.name) for field in view.features)
    features = tuple(name for name in features if name in rows.column_names)
    event_us = _times(rows, source.timestamp_field)
    available = source.available_timestamp_column
    available_us = event_us
    if available in rows.column_names and _is_usable(rows.column(available)):
        available_us = _times(rows, available)
    sequence = _sequence(rows, source.sequence_column)
    names, entity = _entities(rows, keys)
    if registered is None:
        expected = Expectations.of_columns(features)
        before = np.zeros(len(names), dtype=np.int64)
    else:
        spec = FeatureViewSpec.from_definition(registered.definition)
        expected = Expectations.of(spec, _lag_us(connection, spec))
        features = expected.columns
        before = _rows_before(
            connection, registered.table_name, names, _first_events(entity, event_us, len(names)), expected
        )
    number, known = numbered(entity, event_us, sequence, available_us, before)
    if registered is not None:
        known |= _stored(connection, registered.table_name, names, entity, event_us, sequence)
    values, null = _values(rows, features)
    return Block(
        view=view.name if registered is None else registered.view,
        version=view_version(view) if registered is None else registered.version,
        origin="push",
        expected=expected,
        names=names,
        entity=entity,
        event_us=event_us,
        sequence=sequence,
        available_us=available_us,
        row_number=number,
        withdrawn=np.zeros(len(names), dtype=np.int64),
        known=known,
        retracted=null,
        values=values,
    )


def _times(rows: pa.Table, name: str | None) -> Integers:
    column = rows.column(name)
    return np.ascontiguousarray(column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64()).to_numpy())


def _sequence(rows: pa.Table, name: str | None) -> Integers:
    if name not in rows.column_names:
        return np.zeros(rows.num_rows, dtype=np.int64)
    return np.ascontiguousarray(rows.column(name).cast(pa.int64()).fill_null(0).to_numpy())


def _entities(rows: pa.Table, keys: list[str]) -> tuple[tuple[str, ...], Integers]:
    """Distinct entities, written with slashes between their keys, and which one each row is of."""
    places: dict[tuple[object, ...], int] = {}
    columns = [rows.column(key).to_pylist() for key in keys]
    entity = (
        [places.setdefault(key, len(places)) for key in zip(*columns, strict=True)] if keys else [0] * rows.num_rows
    )
    names = tuple("/".join(str(part) for part in key) for key in places) if keys else ("all",)
    return names, np.array(entity, dtype=np.int64)


def _values(rows: pa.Table, features: tuple[str, ...]) -> tuple[Floats, Flags]:
    """Features as numbers, 0 for what is present and no number; and which rows have none at all."""
    values = np.full((rows.num_rows, len(features)), np.nan)
    null = np.ones(rows.num_rows, dtype=np.bool_)
    for place, name in enumerate(features):
        if name not in rows.column_names:
            continue
        column = rows.column(name)
        absent = column.is_null().to_numpy()
        null &= absent
        if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
            values[:, place] = column.cast(pa.float64(), safe=False).to_numpy()
        else:
            values[:, place] = np.where(absent, np.nan, 0.0)
    return values, null


def _lag_us(connection: psycopg.Connection[Any], spec: FeatureViewSpec) -> int | None:
    source = find_source(connection, spec.rows.source)
    return None if source is None else source.declared_lag_us


def _first_events(entity: Integers, event_us: Integers, count: int) -> Integers:
    first = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(first, entity, event_us)
    return first


def _rows_before(
    connection: psycopg.Connection[Any], table: str, names: tuple[str, ...], first_us: Integers, expected: Expectations
) -> Integers:
    """How many keys each entity has before its first pushed one; counted no further than a warm-up can last."""
    longest = 0 if expected.warm_up is None else int(expected.warm_up.max(initial=0))
    counted = connection.execute(
        sql.SQL(
            "SELECT (SELECT count(*) FROM (SELECT DISTINCT f.event_timestamp, f.sequence FROM {} f"
            " WHERE f.symbol = a.symbol AND f.event_timestamp < '1970-01-01 00:00Z'::timestamptz + a.first * interval '1 us' LIMIT %(longest)s) AS keys)"
            " FROM unnest(%(names)s::text[], %(first)s::bigint[]) WITH ORDINALITY AS a (symbol, first, place)"
            " ORDER BY a.place"
        ).format(sql.Identifier(*table.split("."))),
        {"names": list(names), "first": first_us.tolist(), "longest": longest + 1},
    ).fetchall()
    return np.array([count for (count,) in counted], dtype=np.int64)


def _stored(
    connection: psycopg.Connection[Any],
    table: str,
    names: tuple[str, ...],
    entity: Integers,
    event_us: Integers,
    sequence: Integers,
) -> Flags:
    """Which rows have a key that stands in the table."""
    found = connection.execute(
        sql.SQL(
            "SELECT EXISTS (SELECT 1 FROM {} f WHERE f.symbol = a.symbol AND f.sequence = a.sequence"
            " AND f.event_timestamp = '1970-01-01 00:00Z'::timestamptz + a.event * interval '1 us')"
            " FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) WITH ORDINALITY AS a (symbol, event, sequence, place)"
            " ORDER BY a.place"
        ).format(sql.Identifier(*table.split("."))),
        ([names[place] for place in entity.tolist()], event_us.tolist(), sequence.tolist()),
    ).fetchall()
    return np.array([bool(there) for (there,) in found], dtype=np.bool_)
