"""Values beside the feature views: ad-hoc features, what models add to entities, and metrics of models.

A namespace of ad-hoc features is a wide table stored tall in ``tapeline.feature_values``: what is written together is one
row of it, and a feature that is left out has no value in that row. Features that change at different times belong in
namespaces of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql

from tapeline.core.clock import Clock
from tapeline.core.errors import InvalidDataError, ParameterError
from tapeline.storage.append_once import ValueTable, append_once
from tapeline.storage.raw import AppendCounts

FEATURES_MAX = 500
"""Of one namespace that are read together."""
_NAMESPACE = re.compile(r"^[a-z][a-z0-9_]{0,47}$")
_FEATURE = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
_TIMES = ("event_timestamp", "available_timestamp", "sequence")

FEATURE_VALUES = ValueTable(
    "tapeline.feature_values",
    ("namespace", "entity", "event_timestamp", "sequence"),
    ("value", "text_value"),
    member="feature",
)
ENHANCEMENTS = ValueTable(
    "tapeline.enhancement_values",
    ("name", "entity", "producer", "producer_version", "event_timestamp", "sequence"),
    ("value",),
)
METRICS = ValueTable(
    "tapeline.performance_metrics",
    ("model", "version", "metric", "event_timestamp", "window_start"),
    ("value", "sample_size"),
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
        As for :func:`tapeline.storage.append_once.append_once`.

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
    keys = [rows.column(name).to_pylist() for name in join_keys]
    entities = pa.array([entity_text(dict(zip(join_keys, each, strict=True))) for each in zip(*keys, strict=True)])
    count = rows.num_rows
    shared: dict[str, Any] = {
        "namespace": pa.array([namespace] * count, pa.string()),
        "entity": entities.cast(pa.string()),
        "event_timestamp": rows.column("event_timestamp"),
        "sequence": rows.column("sequence") if "sequence" in rows.column_names else pa.array([0] * count, pa.int64()),
    }
    if "available_timestamp" in rows.column_names:
        shared["available_timestamp"] = rows.column("available_timestamp")
    pieces = []
    for name in features:
        column = rows.column(name)
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        if not (is_text or pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
                or pa.types.is_boolean(column.type) or pa.types.is_null(column.type)):  # fmt: skip
            raise InvalidDataError(f"feature {name} holds {column.type}", remedy="Give numbers, booleans or text")
        number = pa.types.is_boolean(column.type)
        pieces.append(
            pa.table(
                shared
                | {
                    "feature": pa.array([name] * count, pa.string()),
                    "value": pa.nulls(count, pa.float64())
                    if is_text
                    else (column.cast(pa.int8()) if number else column).cast(pa.float64()),
                    "text_value": column.cast(pa.string()) if is_text else pa.nulls(count, pa.string()),
                }
            )
        )
    return append_once(connection, FEATURE_VALUES, pa.concat_tables(pieces), lag_us=lag_us, clock=clock)


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
        As for :func:`tapeline.storage.append_once.append_once`, which also says what is raised.
    """
    if "sequence" not in rows.column_names:
        rows = rows.append_column("sequence", pa.array([0] * rows.num_rows, pa.int64()))
    return append_once(connection, ENHANCEMENTS, rows, lag_us=lag_us, clock=clock)


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
        As for :func:`tapeline.storage.append_once.append_once`, which also says what is raised.
    """
    return append_once(connection, METRICS, rows, lag_us=lag_us, clock=clock)


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
