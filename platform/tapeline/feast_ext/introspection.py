"""Which columns a source has, asked of the database of a repository's offline store."""

from __future__ import annotations

from typing import Any

import psycopg
from feast.data_source import DataSource
from feast.repo_config import RepoConfig
from psycopg import sql

from tapeline.core.errors import SchemaError
from tapeline.feast_ext.types import type_name
from tapeline.storage.copy_reader import Column, describe


def table_columns(connection: psycopg.Connection[Any], source: DataSource) -> list[Column]:
    """Columns of a source's table or query, with the OIDs of their types.

    Raises
    ------
    SchemaError
        If the table, or one that the query reads, does not exist, or the query is wrong.
    """
    table = source.get_table_query_string()
    try:
        with connection.transaction():
            return describe(connection, sql.SQL("SELECT s.* FROM {} AS s").format(sql.SQL(table)))
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        raise SchemaError(
            f"{table} does not exist",
            where=f"data source {source.name}",
            remedy="Create it first: Tapeline's own views with `tapeline backfill`",
        ) from None
    except psycopg.ProgrammingError as error:
        raise SchemaError(f"the source cannot be read: {error}", where=f"data source {source.name}") from error


def source_columns(config: RepoConfig, source: DataSource) -> list[tuple[str, str]]:
    """Names and SQL types of a source's columns, in their order; opens a connection of its own."""
    with config.offline_store.connect() as connection:
        return [(column.name, type_name(column.oid)) for column in table_columns(connection, source)]


def summaries_read(config: RepoConfig, source: DataSource) -> list[str]:
    """The daily summaries that a source reads, itself included and through any number of views, by name.

    A query is looked through as a temporary view that is not kept. A database without Tapeline's schema has none.
    """
    with config.offline_store.connect() as connection, connection.transaction(force_rollback=True):
        known = connection.execute("SELECT to_regprocedure('tapeline.summaries_read_by(regclass)')").fetchone()
        if known is None or known[0] is None:
            return []
        connection.execute(
            sql.SQL("CREATE TEMPORARY VIEW tapeline_source AS SELECT count(*) FROM {} AS s").format(
                sql.SQL(source.get_table_query_string())
            )
        )
        rows = connection.execute("SELECT tapeline.summaries_read_by('pg_temp.tapeline_source'::regclass)").fetchall()
    return [str(row[0]) for row in rows]
