"""What a job read and wrote, as plain values, before it becomes an event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tapeline.core.settings import Settings

FILE_NAMESPACE = "file"
CALENDAR_NAMESPACE = "exchange_calendars"


@dataclass(frozen=True, slots=True)
class InputColumn:
    """A column that another is computed from.

    Attributes
    ----------
    namespace, name, column
        The data set and its column.
    direct
        Computed from it; else it decides which rows count, their order or their times.
    how
        For people, such as ``RSI(timeperiod=14)``.
    """

    namespace: str
    name: str
    column: str
    direct: bool = True
    how: str | None = None


@dataclass(frozen=True)
class JobDataset:
    """A table, file, store or bundle.

    Attributes
    ----------
    namespace, name
        Its identity, by OpenLineage's naming of such things.
    columns
        Name and type of each.
    version
        What tells one content or definition from another.
    lineage
        Of each column, what it is computed from.
    rows
        How many were written.
    """

    namespace: str
    name: str
    columns: tuple[tuple[str, str], ...] = ()
    version: str | None = None
    lineage: Mapping[str, tuple[InputColumn, ...]] = field(default_factory=dict)
    rows: int | None = None


@dataclass(frozen=True)
class JobDatasets:
    """What a job read and wrote."""

    inputs: tuple[JobDataset, ...] = ()
    outputs: tuple[JobDataset, ...] = ()


def database_namespace(connection: psycopg.Connection[Any]) -> str:
    """The database server, such as ``postgres://db.internal:5432``; of a unix socket this machine's."""
    host = connection.info.host
    return f"postgres://{'localhost' if not host or host.startswith('/') else host}:{connection.info.port}"


def table_dataset(
    connection: psycopg.Connection[Any], table: str, version: str | None = None, **more: Any
) -> JobDataset:
    """A table of the database with its columns; ``table`` has its schema, such as ``tapeline.bars``."""
    with connection.transaction():
        columns = connection.execute(
            "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            (table,),
        ).fetchall()
    name = f"{connection.info.dbname}.{table}"
    return JobDataset(database_namespace(connection), name, tuple((a, b) for a, b in columns), version, **more)


def file_dataset(path: str | Path, **more: Any) -> JobDataset:
    """A file or folder, by its absolute path; of a URL its scheme and host are the namespace."""
    scheme, mark, rest = str(path).partition("://")
    if mark:
        host, _, name = rest.partition("/")
        return JobDataset(f"{scheme}://{host}", name, **more)
    return JobDataset(FILE_NAMESPACE, str(Path(path).expanduser().resolve()), **more)


def redis_namespace(settings: Settings) -> str:
    """The online store's server, without credentials."""
    address = (settings.redis_url or "").rpartition("@")[2].partition("://")
    place = (address[2] or address[0]).partition("/")[0]
    return f"redis://{place or 'localhost'}"
