"""What tables a database has, as data: columns, keys, indexes; and how to make them again from that."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row
from pydantic import BaseModel, ConfigDict

from tapeline.core.errors import SchemaError

OWN_SCHEMA = "tapeline"
"""The schema that migrations make; tables of other schemas are made from their descriptions."""
NOT_CARRIED = frozenset({"tapeline.schema_migrations", "tapeline.edition_policies", "tapeline.daily_summaries"})
"""What a migrated database says of itself, whatever is in it."""
SEEDED = frozenset({"tapeline.user_tiers"})
"""Tables that migrations fill; what a backup has of them takes their place."""

_TYPE = re.compile(r"[a-z][a-z0-9_]*( [a-z]+)*(\(\d+(, ?\d+)?\))?( with(out)? time zone)?(\[\])*")
_DEFAULT = re.compile(r"now\(\)|CURRENT_TIMESTAMP|true|false|-?\d+(\.\d+)?|'[^'\\]*'::[a-z ]+")
_CHECK = re.compile(r'CHECK \(\(("?)(\w+)\1 (>=|<=|<|>) ("?)(\w+)\4\)\)')
_METHODS = frozenset({"btree", "hash", "brin", "gin"})


class _Described(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnDescription(_Described):
    """A column; ``identity`` is PostgreSQL's ``a`` (always), ``d`` (by default) or empty, ``serial`` a sequence's default."""

    name: str
    type: str
    nullable: bool
    default: str | None = None
    identity: str = ""
    serial: bool = False


class KeyDescription(_Described):
    """A primary key or a unique constraint."""

    primary: bool
    columns: tuple[str, ...]


class ComparisonDescription(_Described):
    """A CHECK that compares two columns."""

    left: str
    operator: Literal[">=", "<=", "<", ">"]
    right: str


class IndexDescription(_Described):
    """An index that is no constraint: ``descending`` and ``nulls_first`` for each of its columns."""

    name: str
    method: str
    unique: bool
    columns: tuple[str, ...]
    descending: tuple[bool, ...]
    nulls_first: tuple[bool, ...]


class TableDescription(_Described):
    """A table as it can be made again.

    Attributes
    ----------
    schema_name, name
        Its name.
    columns
        In order, without generated ones.
    keys, checks, indexes
        Of tables outside the schema ``tapeline`` only; migrations make those.
    time_column
        What its chunks go by, if it is a hypertable.
    references
        Tables that its foreign keys point to.
    """

    schema_name: str
    name: str
    columns: tuple[ColumnDescription, ...]
    keys: tuple[KeyDescription, ...] = ()
    checks: tuple[ComparisonDescription, ...] = ()
    indexes: tuple[IndexDescription, ...] = ()
    time_column: str | None = None
    references: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """With its schema."""
        return f"{self.schema_name}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        """For SQL."""
        return sql.Identifier(self.schema_name, self.name)

    @property
    def column_list(self) -> sql.Composed:
        """Its columns for SQL."""
        return sql.SQL(", ").join(sql.Identifier(column.name) for column in self.columns)


_TABLES = """
    SELECT c.oid::bigint, n.nspname, c.relname
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
        AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
    ORDER BY n.nspname, c.relname
"""
_COLUMNS = """
    SELECT a.attrelid::bigint, a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
        pg_get_expr(d.adbin, d.adrelid), a.attidentity::text
    FROM pg_attribute a LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
    WHERE a.attrelid = ANY (%s) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    ORDER BY a.attrelid, a.attnum
"""
_CONSTRAINTS = """
    SELECT k.conrelid::bigint, k.contype::text, k.conname, pg_get_constraintdef(k.oid),
        ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u (num, place)
              JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num ORDER BY u.place),
        (SELECT n.nspname || '.' || r.relname FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace
         WHERE r.oid = k.confrelid)
    FROM pg_constraint k WHERE k.conrelid = ANY (%s) AND k.contype IN ('p', 'u', 'c', 'f', 'x')
    ORDER BY k.conrelid, k.conname
"""
_INDEXES = """
    SELECT i.indrelid::bigint, c.relname, m.amname, i.indisunique, i.indexprs IS NOT NULL OR i.indpred IS NOT NULL,
        ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY u (num, place)
              JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.num ORDER BY u.place),
        i.indoption::int2[]
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
    WHERE i.indrelid = ANY (%s)
        AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
    ORDER BY i.indrelid, c.relname
"""
_HYPERTABLES = """
    SELECT hypertable_schema || '.' || hypertable_name, column_name
    FROM timescaledb_information.dimensions WHERE dimension_number = 1
"""


def describe_tables(connection: psycopg.Connection[Any], schemas: Sequence[str]) -> list[TableDescription]:
    """The tables of some schemas, those that others refer to first.

    Raises
    ------
    SchemaError
        If a table outside the schema ``tapeline`` has what a description cannot say.
    """
    with connection.cursor(row_factory=tuple_row) as cursor:
        found = cursor.execute(_TABLES, (list(schemas),)).fetchall()
        names = {oid: (schema, name) for oid, schema, name in found}
        oids = (list(names),)
        columns = _grouped(cursor.execute(_COLUMNS, oids).fetchall())
        constraints = _grouped(cursor.execute(_CONSTRAINTS, oids).fetchall())
        indexes = _grouped(cursor.execute(_INDEXES, oids).fetchall())
        chunked = cursor.execute("SELECT to_regclass('timescaledb_information.dimensions') IS NOT NULL").fetchone()
        times: dict[str, str] = dict(cursor.execute(_HYPERTABLES).fetchall()) if chunked and chunked[0] else {}
    tables = []
    for oid, (schema, name) in names.items():
        full_name = f"{schema}.{name}"
        if full_name in NOT_CARRIED:
            continue
        foreign = schema != OWN_SCHEMA
        keys = constraints.get(oid, [])
        tables.append(
            TableDescription(
                schema_name=schema,
                name=name,
                columns=tuple(_column(full_name, *row, strict=foreign) for row in columns.get(oid, [])),
                keys=tuple(
                    KeyDescription(primary=row[0] == "p", columns=tuple(row[3]))
                    for row in keys
                    if foreign and row[0] in "pu"
                ),
                checks=tuple(_check(full_name, row[2]) for row in keys if foreign and row[0] == "c"),
                indexes=tuple(_index(full_name, *row) for row in indexes.get(oid, [])) if foreign else (),
                time_column=times.get(full_name),
                references=tuple(sorted({row[4] for row in keys if row[0] == "f"} - {full_name})),
            )
        )
        if foreign and any(row[0] in "fx" for row in keys):
            raise _cannot(full_name, "a foreign key or an exclusion constraint")
    return _in_order(tables)


def _grouped(rows: Iterable[tuple[Any, ...]]) -> dict[int, list[tuple[Any, ...]]]:
    groups: dict[int, list[tuple[Any, ...]]] = {}
    for row in rows:
        groups.setdefault(row[0], []).append(row[1:])
    return groups


def _cannot(table: str, what: str) -> SchemaError:
    return SchemaError(
        f"a backup cannot describe {what}", where=f"table {table}", remedy="Leave its schema out, or save it by pg_dump"
    )


def _column(
    table: str, name: str, kind: str, nullable: bool, default: str | None, identity: str, *, strict: bool
) -> ColumnDescription:
    serial = default is not None and default.startswith("nextval(")
    if strict:
        if not _TYPE.fullmatch(kind):
            raise _cannot(table, f"type {kind} of column {name}")
        if default is not None and not serial and not _DEFAULT.fullmatch(default):
            raise _cannot(table, f"default {default} of column {name}")
    kept = default if strict and not serial else None
    return ColumnDescription(name=name, type=kind, nullable=nullable, default=kept, identity=identity, serial=serial)


def _check(table: str, definition: str) -> ComparisonDescription:
    match = _CHECK.fullmatch(definition)
    if match is None:
        raise _cannot(table, definition)
    return ComparisonDescription.model_validate({"left": match[2], "operator": match[3], "right": match[5]})


def _index(
    table: str, name: str, method: str, unique: bool, computed: bool, columns: list[str], options: list[int]
) -> IndexDescription:
    if computed or method not in _METHODS:
        raise _cannot(table, f"index {name}")
    return IndexDescription(
        name=name,
        method=method,
        unique=unique,
        columns=tuple(columns),
        descending=tuple(bool(option & 1) for option in options),
        nulls_first=tuple(bool(option & 2) for option in options),
    )


def _in_order(tables: list[TableDescription]) -> list[TableDescription]:
    ordered: list[TableDescription] = []
    waiting = {table.full_name: table for table in tables}
    while waiting:
        ready = [t for t in waiting.values() if not any(name in waiting for name in t.references)]
        if not ready:
            raise SchemaError(f"tables refer to each other in a circle: {', '.join(waiting)}")
        ordered += [waiting.pop(table.full_name) for table in ready]
    return ordered


def create_table(connection: psycopg.Connection[Any], table: TableDescription) -> None:
    """Make a described table of another schema than ``tapeline``, chunked where the edition has that.

    Raises
    ------
    SchemaError
        If the description holds something else than names, types and plain defaults.
    """
    parts = [_column_sql(table.full_name, column) for column in table.columns]
    parts += [
        sql.SQL("PRIMARY KEY ({})" if key.primary else "UNIQUE ({})").format(
            sql.SQL(", ").join(map(sql.Identifier, key.columns))
        )
        for key in table.keys
    ]
    parts += [
        sql.SQL("CHECK ({} " + check.operator + " {})").format(sql.Identifier(check.left), sql.Identifier(check.right))
        for check in table.checks
    ]
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(table.schema_name)))
    connection.execute(sql.SQL("CREATE TABLE {} ({})").format(table.identifier, sql.SQL(", ").join(parts)))
    for index in table.indexes:
        _create_index(connection, table, index)
    names = {column.name for column in table.columns}
    time_column = table.time_column or ("event_timestamp" if table.schema_name == "features" else None)
    if time_column in names:
        name = table.identifier.as_string(connection)
        connection.execute("SELECT tapeline.make_hypertable(%s::regclass, %s::name)", (name, time_column))


def _column_sql(table: str, column: ColumnDescription) -> sql.Composable:
    if not _TYPE.fullmatch(column.type) or (column.default and not _DEFAULT.fullmatch(column.default)):
        raise _cannot(table, f"column {column.name}")
    text = f" {column.type}{'' if column.nullable else ' NOT NULL'}"
    if column.serial:
        if column.type not in {"integer", "bigint", "smallint"}:
            raise _cannot(table, f"column {column.name}")
        text = {"integer": " serial", "bigint": " bigserial", "smallint": " smallserial"}[column.type]
    elif column.identity:
        text += f" GENERATED {'ALWAYS' if column.identity == 'a' else 'BY DEFAULT'} AS IDENTITY"
    elif column.default is not None:
        text += f" DEFAULT {column.default}"
    return sql.SQL("{}{}").format(sql.Identifier(column.name), sql.SQL(text))


def _create_index(connection: psycopg.Connection[Any], table: TableDescription, index: IndexDescription) -> None:
    if index.method not in _METHODS:
        raise _cannot(table.full_name, f"index {index.name}")
    ordered = index.method == "btree"
    columns = [
        sql.SQL("{}{}").format(
            sql.Identifier(name),
            sql.SQL(f"{' DESC' if down else ' ASC'} NULLS {'FIRST' if first else 'LAST'}" if ordered else ""),
        )
        for name, down, first in zip(index.columns, index.descending, index.nulls_first, strict=True)
    ]
    connection.execute(
        sql.SQL("CREATE {}INDEX {} ON {} USING {} ({})").format(
            sql.SQL("UNIQUE " if index.unique else ""),
            sql.Identifier(index.name),
            table.identifier,
            sql.Identifier(index.method),
            sql.SQL(", ").join(columns),
        )
    )
