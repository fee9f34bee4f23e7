"""Values beside the feature views: ad-hoc features, what models add to entities, and metrics of models.

A namespace of ad-hoc features is a wide table stored tall in ``tapeline.feature_values``: what is written together is one
row of it, and a feature that is left out has no value in that row. Features that change at different times belong in
namespaces of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql

from tapeline.core.clock import Clock
from tapeline.core.errors import InvalidDataError, ParameterError
from tapeline.storage.keyed_rows import KeyedTable, append_keyed
from tapeline.storage.raw import AppendCounts
from tapeline.storage.tall_statements import Members

FEATURES_MAX = 500
"""Of one namespace that are read or written together."""
VALUES_MAX = 1_000_000
"""Of one call."""
_NAMESPACE = re.compile(r"^[a-z][a-z0-9_]{0,47}$")
_FEATURE = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
_TIMES = ("event_timestamp", "available_timestamp", "sequence")

FEATURE_VALUES = KeyedTable(
    "tapeline.feature_values",
    ("namespace", "entity"),
    "event_timestamp",
    "available_timestamp",
    "created_timestamp",
    "sequence",
)
ENHANCEMENTS = KeyedTable(
    "tapeline.enhancement_values",
    ("name", "entity", "producer", "producer_version"),
    "event_timestamp",
    "available_timestamp",
    "created_timestamp",
    "sequence",
)
METRICS = KeyedTable(
    "tapeline.performance_metrics",
    ("model", "version", "metric", "window_start"),
    "event_timestamp",
    "available_timestamp",
    "created_timestamp",
)


def entity_text(keys: Mapping[str, str | int]) -> str:
    """How an entity is written in the tables of values: its key's value, or of several a JSON object in order.

    Examples
    --------
    >>> entity_text({"symbol": "AAPL"})
    'AAPL'
    >>> entity_text({"venue": "XNAS", "symbol": "AAPL"})
    '{"symbol": "AAPL", "venue": "XNAS"}'
    """
    if len(keys) == 1:
        return str(next(iter(keys.values())))
    return json.dumps(dict(sorted(keys.items())), ensure_ascii=False)


def append_feature_values(
    connection: psycopg.Connection[Any],
    namespace: str,
    rows: pa.Table,
    *,
    join_keys: Sequence[str] = ("symbol",),
    lag_us: int = 0,
    clock: Clock | None = None,
) -> AppendCounts:
    """Append rows of ad-hoc features; doing it again changes nothing.

    Parameters
    ----------
    connection
        Not inside a transaction.
    namespace
        Lower-case letters, digits and underscores, at most 48.
    rows
        The join keys, ``event_timestamp``, perhaps ``available_timestamp`` and ``sequence``, and a column for each
        feature: numbers, booleans or text. At most a million values.
    join_keys
        Columns that identify the entity.
    lag_us, clock
        As for :func:`tapeline.storage.keyed_rows.append_keyed`.

    Returns
    -------
    AppendCounts
        Counted in rows of the namespace, not in values. Retract a row by writing it with nulls.

    Raises
    ------
    ParameterError
        If a name is impossible, or there is no feature.
    InvalidDataError
        If a column is missing or of another type, or a row breaks a rule of the table.
    LimitError
        If there are too many values.
    """
    features = [name for name in rows.column_names if name not in {*join_keys, *_TIMES}]
    _check_names(namespace, features)
    missing = [name for name in (*join_keys, "event_timestamp") if name not in rows.column_names]
    if missing:
        raise InvalidDataError(f"the rows lack {', '.join(missing)}", where=f"namespace {namespace}")
    columns = {
        "namespace": pa.array([namespace] * rows.num_rows, pa.string()),
        "entity": _entities(rows, join_keys, namespace),
    } | {name: rows.column(name) for name in _TIMES if name in rows.column_names}
    if "sequence" not in columns:
        columns["sequence"] = pa.array([0] * rows.num_rows, pa.int64())
    kept: dict[str, tuple[str, str]] = {}
    for number, name in enumerate(features):
        # Numbered, as a feature may be called like a column of the table.
        member = f"member_{number}"
        columns[member] = _feature_column(rows.column(name), name)
        kept[member] = (name, "text_value" if pa.types.is_string(columns[member].type) else "value")
    target = replace(FEATURE_VALUES, members=Members("feature", ("value", "text_value"), kept))
    return append_keyed(
        connection, target, pa.table(columns), lag_us=lag_us, clock=clock, rows_max=VALUES_MAX // len(features)
    )


def _entities(rows: pa.Table, join_keys: Sequence[str], namespace: str) -> pa.Array:
    empty = [name for name in join_keys if rows.column(name).null_count]
    if empty:
        raise InvalidDataError(f"column {empty[0]} has no value in some row", where=f"namespace {namespace}")
    keys = [rows.column(name).to_pylist() for name in join_keys]
    texts = [entity_text(dict(zip(join_keys, each, strict=True))) for each in zip(*keys, strict=True)]
    return pa.array(texts, pa.string())


def _feature_column(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """A feature's values as text or double."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column.cast(pa.string())
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise InvalidDataError(f"feature {name} holds {kind}", remedy="Give numbers, booleans or text")
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid as error:
        raise InvalidDataError(f"feature {name} does not fit a double: {error}") from None


def append_enhancements(
    connection: psycopg.Connection[Any], rows: pa.Table, *, lag_us: int = 0, clock: Clock | None = None
) -> AppendCounts:
    """Append what models or other steps add to entities; doing it again changes nothing.

    Parameters
    ----------
    connection
        Not inside a transaction.
    rows
        ``name``, ``entity``, ``event_timestamp``, ``value``, ``producer`` and ``producer_version``, and perhaps
        ``available_timestamp`` and ``sequence``.
    lag_us, clock
        As for :func:`tapeline.storage.keyed_rows.append_keyed`, which also says what is raised.
    """
    if "sequence" not in rows.column_names:
        rows = rows.append_column("sequence", pa.array([0] * rows.num_rows, pa.int64()))
    return _append(connection, ENHANCEMENTS, ("value",), rows, lag_us, clock)


def append_metrics(
    connection: psycopg.Connection[Any], rows: pa.Table, *, lag_us: int = 0, clock: Clock | None = None
) -> AppendCounts:
    """Append metrics of registered models; doing it again changes nothing.

    Parameters
    ----------
    connection
        Not inside a transaction.
    rows
        ``model``, ``version``, ``metric``, ``window_start``, ``event_timestamp`` (the window's end), ``value``,
        ``sample_size``, and perhaps ``available_timestamp``.
    lag_us, clock
        As for :func:`tapeline.storage.keyed_rows.append_keyed`, which also says what is raised.
    """
    return _append(connection, METRICS, ("value", "sample_size"), rows, lag_us, clock)


def _append(
    connection: psycopg.Connection[Any],
    target: KeyedTable,
    content: tuple[str, ...],
    rows: pa.Table,
    lag_us: int,
    clock: Clock | None,
) -> AppendCounts:
    needed = (*target.key, *content)
    missing = [name for name in needed if name not in rows.column_names]
    if missing:
        raise InvalidDataError(
            f"rows for {target.table} lack {', '.join(missing)}", where=f"columns {rows.column_names}"
        )
    taken = [*needed, *(name for name in ("available_timestamp",) if name in rows.column_names)]
    return append_keyed(connection, target, rows.select(taken), lag_us=lag_us, clock=clock, rows_max=VALUES_MAX)


def pivot_query(
    namespace: str, features: Sequence[str], *, join_keys: Sequence[str] = ("symbol",), texts: Sequence[str] = ()
) -> str:
    """A namespace as a wide table: a SELECT for a data source, served by the table's key index.

    Parameters
    ----------
    namespace, features
        What to read.
    join_keys
        As written; one is compared directly in the index, several are taken out of the entity's JSON.
    texts
        Those of the features that are text.

    Raises
    ------
    ParameterError
        If a name is impossible or a feature is asked for twice.
    """
    _check_names(namespace, features)
    order = [
        sql.Identifier(name) for name in ("event_timestamp", "sequence", "available_timestamp", "created_timestamp")
    ]
    entity: list[sql.Composable] = [sql.SQL("entity AS {}").format(sql.Identifier(join_keys[0]))]
    if len(join_keys) > 1:
        entity = [
            sql.SQL("entity::jsonb ->> {} AS {}").format(sql.Literal(name), sql.Identifier(name)) for name in join_keys
        ]
    values = [
        sql.SQL("max({}) FILTER (WHERE feature = {}) AS {}").format(
            sql.Identifier("text_value" if name in texts else "value"), sql.Literal(name), sql.Identifier(name)
        )
        for name in features
    ]
    return (
        # Grouped in the order of the index, which a lookup's LIMIT then ends after one row.
        sql.SQL("SELECT {} FROM tapeline.feature_values WHERE namespace = {} GROUP BY {} ORDER BY entity, {}")
        .format(
            sql.SQL(", ").join([*entity, *order, *values]),
            sql.Literal(namespace),
            sql.SQL(", ").join([sql.Identifier("entity"), *order]),
            sql.SQL(", ").join(sql.SQL("{} DESC").format(column) for column in order),
        )
        .as_string(None)
    )


def enhancement_query(name: str, producer: str, producer_version: str, *, join_key: str = "symbol") -> str:
    """What one version of a producer added, as a SELECT for a data source: the join key, times, sequence and the value.

    Raises
    ------
    ParameterError
        If the name is impossible.
    """
    _check_names("enhancements", [name])
    return (
        sql.SQL(
            "SELECT entity AS {}, event_timestamp, available_timestamp, created_timestamp, sequence, value AS {}"
            " FROM tapeline.enhancement_values WHERE name = {} AND producer = {} AND producer_version = {}"
        )
        .format(*map(sql.Identifier, (join_key, name)), *map(sql.Literal, (name, producer, producer_version)))
        .as_string(None)
    )


def _check_names(namespace: str, features: Sequence[str]) -> None:
    if not _NAMESPACE.match(namespace):
        raise ParameterError(
            f"{namespace!r} is no namespace", remedy="Use a lower-case letter, then letters, digits, underscores"
        )
    wrong = [name for name in features if not _FEATURE.match(name)]
    if wrong or not features or len(set(features)) != len(features):
        raise ParameterError(
            f"{wrong[0]!r} is no name of a feature" if wrong else "no feature, or one twice, is given",
            where=f"namespace {namespace}",
            remedy="Use lower-case letters, digits and underscores, at most 63",
        )
    if len(features) > FEATURES_MAX:
        raise ParameterError(f"{len(features)} features are more than {FEATURES_MAX}", where=f"namespace {namespace}")
