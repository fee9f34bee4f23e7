"""The SQL of one view's point-in-time lookups: columns, conditions and order, written so that an index can serve them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.rows import tuple_row

from tapeline.core.errors import InvalidDataError, SchemaError, UnknownNameError
from tapeline.core.timestamps import DAY_US, from_us
from tapeline.datasets.plan import ViewSelection
from tapeline.storage.copy_reader import CAST_OIDS, Column, describe, readable

UNLIMITED_TTL_US = 365 * 2_000 * DAY_US
"""A TTL from here on counts as none: subtracting it would leave PostgreSQL's range of times."""

_BIGINT, _TIMESTAMPTZ = 20, 1184
_INTEGERS, _TEXTS, _TIMES = frozenset({20, 21, 23}), frozenset({25, 1043}), frozenset({1082, 1114, 1184})


def request_type(kind: pa.DataType) -> tuple[str, pa.DataType]:
    """The PostgreSQL type in which entity keys of an Arrow type are sent, and the Arrow type to cast them to.

    Raises
    ------
    InvalidDataError
        If keys of this type cannot be sent.
    """
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text", pa.string()
    if pa.types.is_integer(kind):
        return "bigint", pa.int64()
    if pa.types.is_boolean(kind):
        return "boolean", pa.bool_()
    if pa.types.is_floating(kind):
        return "double precision", pa.float64()
    if pa.types.is_timestamp(kind):
        return "timestamptz", pa.timestamp("us", tz="UTC")
    if pa.types.is_date(kind):
        return "date", pa.date32()
    if pa.types.is_dictionary(kind):
        return request_type(kind.value_type)
    if pa.types.is_null(kind):
        return "text", pa.string()
    raise InvalidDataError(f"entity keys of type {kind} cannot be looked up", remedy="Use text or integers")


@dataclass(frozen=True, slots=True)
class Lookup:
    """The SQL of lookups but for which requests and which part of the table: composed once, for hundreds of statements."""

    head: str
    table: str
    terms: str
    event: str
    order: str

    def statement(
        self,
        ids: tuple[int, int] | None = None,
        events_us: tuple[int | None, int | None] = (None, None),
        table: str | None = None,
    ) -> sql.Composable:
        """For each request its id, then the outputs of the row the rule picks; nothing for a miss.

        Parameters
        ----------
        ids
            First and last id to look up; all if not given.
        events_us
            Constant bounds of the event time, both included, known to hold for what is sought. From them the planner
            of TimescaleDB sees which chunks it need not open.
        table
            The part of the table that is known to hold what is sought, as SQL; all of it if not given.
        """
        low, high = (None if bound is None else moment(bound).as_string(None) for bound in events_us)
        bounds = f"{f' AND {self.event} >= {low}' if low else ''}{f' AND {self.event} <= {high}' if high else ''}"
        only = "" if ids is None else f" WHERE q.id BETWEEN {ids[0]} AND {ids[1]}"
        return sql.SQL(f"{self.head} {table or self.table} {self.terms}{bounds} {self.order}{only}")


@dataclass(frozen=True, slots=True)
class ViewQuery:
    """One view's selection, with the types its columns have in the database.

    Build it with `ViewQuery.of`.
    """

    selection: ViewSelection
    join_types: tuple[int, ...]
    feature_columns: tuple[Column, ...]
    always_set: frozenset[str]
    vintage_us: int | None
    created_by_request: bool

    @classmethod
    def of(
        cls,
        connection: psycopg.Connection[Any],
        selection: ViewSelection,
        *,
        vintage_us: int | None = None,
        created_by_request: bool = False,
    ) -> ViewQuery:
        """Look the selection's columns up in the database.

        Raises
        ------
        SchemaError
            If its table does not exist.
        UnknownNameError
            If its table lacks one of its columns.
        """
        where = f"feature view {selection.view}@{selection.version}, {selection.table}"
        try:
            with connection.transaction():  # a savepoint, so that an error leaves the caller's transaction usable
                found = describe(connection, sql.SQL("SELECT s.* FROM {} AS s").format(_raw(selection.table)))
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            raise SchemaError(
                "the view's table does not exist", where=where, remedy="Run `tapeline backfill`, or create the table"
            ) from None
        types = {column.name: column.oid for column in found}
        optional = (selection.available_column, selection.created_column, selection.sequence_column)
        for name in (*selection.join_keys, selection.event_column, *filter(None, optional), *selection.features):
            if name not in types:
                raise UnknownNameError("column", name, types, where=where)
        return cls(
            selection,
            tuple(types[name] for name in selection.join_keys),
            tuple(Column(name, types[name]) for name in selection.features),
            _always_set(connection, selection),
            vintage_us,
            created_by_request and selection.created_column is not None,
        )

    @property
    def ttl_us(self) -> int:
        """The TTL in microseconds; 0: none."""
        return self.selection.ttl_us if self.selection.ttl_us < UNLIMITED_TTL_US else 0

    def key_condition(self, sent: pa.Schema) -> sql.Composable:
        """``s``'s join keys equal the keys of ``q``, each compared in the type of its column, which is what is indexed.

        Raises
        ------
        InvalidDataError
            If an entity column holds text and its join key numbers, or the other way round.
        """
        parts: list[sql.Composable] = []
        for number, (join_key, oid) in enumerate(zip(self.selection.join_keys, self.join_types, strict=True)):
            kind = sent.field(f"k{number}").type
            name, _ = request_type(kind)
            if (name == "text" and oid in _INTEGERS) or (name != "text" and oid in _TEXTS):
                raise InvalidDataError(
                    f"entity column {self.selection.entity_columns[number]} holds {kind}, "
                    f"but {join_key} of {self.selection.table} is of another type",
                    where=f"feature view {self.selection.view}@{self.selection.version}",
                    remedy="Give entity rows keys of the table's type",
                )
            same = (oid in _INTEGERS and name == "bigint") or (oid in _TEXTS and name == "text")
            cast = sql.SQL("") if same else sql.SQL("::{}").format(sql.SQL(_type_name(oid)))
            parts.append(sql.SQL("s.{} = q.{}{}").format(sql.Identifier(join_key), sql.Identifier(f"k{number}"), cast))
        return sql.SQL(" AND ").join(parts) if parts else sql.SQL("true")

    def outputs(self, *, with_order: bool) -> tuple[sql.Composable, list[Column]]:
        """The select list over ``s``: features, then event, available and created times and the sequence if asked for."""
        pieces: list[sql.Composable] = []
        columns: list[Column] = []
        for feature in self.feature_columns:
            cast = readable(feature.oid)
            pieces.append(
                sql.SQL("{}::{}").format(_column(feature.name), sql.SQL(cast)) if cast else _column(feature.name)
            )
            columns.append(Column(f"c{len(columns)}", CAST_OIDS[cast] if cast else feature.oid))
        if with_order:
            times = (self.selection.event_column, self.selection.available_column, self.selection.created_column)
            order = [(name, "timestamptz", _TIMESTAMPTZ) for name in times]
            for name, kind, oid in (*order, (self.selection.sequence_column, "bigint", _BIGINT)):
                value = _column(name) if name else sql.SQL("NULL")
                pieces.append(sql.SQL("{}::{}").format(value, sql.SQL(kind)))
                columns.append(Column(f"c{len(columns)}", oid))
        return sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(piece, sql.Identifier(column.name))
            for piece, column in zip(pieces, columns, strict=True)
        ), columns

    def lookup(self, requests: sql.Composable, keys: sql.Composable, outputs: sql.Composable) -> Lookup:
        """One index lookup for each request.

        Parameters
        ----------
        requests
            Table of ``(id, t, k0, k1, …)``.
        keys
            What `key_condition` gave.
        outputs
            What `outputs` gave.
        """
        s = self.selection
        event = _column(s.event_column)
        terms = [keys, sql.SQL("{} <= q.t").format(event)]
        if s.available_column:
            terms.append(sql.SQL("{} <= q.t").format(_column(s.available_column)))
        if self.ttl_us:
            terms.append(sql.SQL("{} >= q.t - interval {}").format(event, sql.Literal(f"{self.ttl_us} microseconds")))
        terms += self._created_terms(sql.SQL("q.t"))
        order: list[sql.Composable] = [sql.SQL("{} DESC").format(event)]
        if s.sequence_column:
            order.append(self._greatest_first(s.sequence_column))
        if s.available_column:
            order.append(sql.SQL("{} DESC").format(_column(s.available_column)))
        if s.created_column:
            order.append(self._greatest_first(s.created_column))
        head = sql.SQL("SELECT q.id, h.* FROM {} AS q CROSS JOIN LATERAL (SELECT {} FROM").format(requests, outputs)
        return Lookup(
            head.as_string(None),
            s.table,
            sql.SQL("AS s WHERE {}").format(sql.SQL(" AND ").join(terms)).as_string(None),
            event.as_string(None),
            sql.SQL("ORDER BY {} LIMIT 1) AS h").format(sql.SQL(", ").join(order)).as_string(None),
        )

    def scan(
        self,
        keys_table: sql.Composable,
        keys: sql.Composable,
        outputs: sql.Composable,
        *,
        ids: tuple[int, int],
        events_us: tuple[int | None, int],
        visible_after_us: int | None = None,
    ) -> sql.Composable:
        """Every row that some request might take: its key's id, then the outputs.

        Parameters
        ----------
        keys_table
            Table of ``(id, k0, k1, …)``.
        keys
            What `key_condition` gave.
        outputs
            What `outputs` gave.
        ids
            First and last key to read.
        events_us
            Least and greatest event time; by the latter a row must also have become visible.
        visible_after_us
            Leave out what was visible at this moment.
        """
        s = self.selection
        last = moment(events_us[1])
        terms = [keys, *_bounds(_column(s.event_column), events_us)]
        if s.available_column:
            terms.append(sql.SQL("{} <= {}").format(_column(s.available_column), last))
        terms += self._created_terms(last)
        if visible_after_us is not None:
            names = [s.event_column, s.available_column, s.created_column if self.created_by_request else None]
            visible = sql.SQL(", ").join(_column(name) for name in names if name)
            terms.append(sql.SQL("greatest({}) > {}").format(visible, moment(visible_after_us)))
        terms.append(sql.SQL("q.id BETWEEN {} AND {}").format(sql.Literal(ids[0]), sql.Literal(ids[1])))
        return sql.SQL("SELECT q.id, {outputs} FROM {table} AS s JOIN {keys} AS q ON true WHERE {terms}").format(
            outputs=outputs, table=_raw(s.table), keys=keys_table, terms=sql.SQL(" AND ").join(terms)
        )

    def _greatest_first(self, name: str) -> sql.Composable:
        """What may be NULL sorts last, as the least. Otherwise that is not said, as an index in plain order would not fit."""
        return sql.SQL("{} DESC" if name in self.always_set else "{} DESC NULLS LAST").format(_column(name))

    def _created_terms(self, by: sql.Composable) -> list[sql.Composable]:
        if self.selection.created_column is None:
            return []
        created = _column(self.selection.created_column)
        terms: list[sql.Composable] = []
        if self.vintage_us is not None:
            terms.append(sql.SQL("{} <= {}").format(created, moment(self.vintage_us)))
        if self.created_by_request:
            terms.append(sql.SQL("{} <= {}").format(created, by))
        return terms


def _always_set(connection: psycopg.Connection[Any], selection: ViewSelection) -> frozenset[str]:
    """The columns of a table that cannot be NULL; none of a query."""
    if selection.is_query:
        return frozenset()
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND attnotnull",
            (selection.table,),
        )
        return frozenset(row[0] for row in cursor.fetchall())


_TYPE_NAMES = {16: "boolean", 17: "bytea", 18: '"char"', 19: "name", 1042: "bpchar", 1700: "numeric", 2950: "uuid"}
_TYPE_NAMES |= {701: "double precision", 700: "real", 1082: "date", 1114: "timestamp", 1184: "timestamptz"}


def _type_name(oid: int) -> str:
    if oid not in _TYPE_NAMES and oid not in _INTEGERS and oid not in _TEXTS:
        raise InvalidDataError(
            f"a join key of the type with OID {oid} cannot be looked up", remedy="Use text or integers"
        )
    return _TYPE_NAMES.get(oid) or ("bigint" if oid in _INTEGERS else "text")


def _raw(table: str) -> sql.Composable:
    return sql.SQL(table)  # the repository's own definition, see ViewSelection


def _column(name: str) -> sql.Composable:
    return sql.SQL("s.{}").format(sql.Identifier(name))


def moment(moment_us: int) -> sql.Composable:
    """A moment as a constant in SQL."""
    return sql.SQL("timestamptz {}").format(sql.Literal(from_us(moment_us).isoformat()))


def _bounds(column: sql.Composable, bounds_us: Sequence[int | None]) -> list[sql.Composable]:
    low, high = bounds_us
    terms: list[sql.Composable] = []
    if low is not None:
        terms.append(sql.SQL("{} >= {}").format(column, moment(low)))
    if high is not None:
        terms.append(sql.SQL("{} <= {}").format(column, moment(high)))
    return terms
