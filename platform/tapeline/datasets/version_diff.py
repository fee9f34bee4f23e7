"""How two versions of a view differ: in definition, in distribution, and in values on the same rows.

A row is what holds for an (entity, event, sequence): the newest by available and created time, as the point-in-time rule
has it. Everything is counted by the database over the rows that both versions have, some columns at a time, in one
snapshot: neither memory nor what is sent grows with the number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from psycopg import IsolationLevel, sql
from psycopg.rows import tuple_row

from tapeline.core.errors import EmptyDataError, ParameterError, UnknownNameError
from tapeline.core.timestamps import from_us, to_us
from tapeline.datasets.version_difference import (
    QUANTILES,
    Distribution,
    FeatureDifference,
    LargestDifference,
    VersionDiff,
)
from tapeline.features.lineage import lineage_changes
from tapeline.stats.drift import kolmogorov_smirnov, psi
from tapeline.storage.feature_tables import SCHEMA, RegisteredView, registered_views

_CELLS = 200
"""Quantiles of each version whose values part the cells for PSI and KS: KS is found to within 1/200."""
_COLUMNS_AT_ONCE = 16
_LEVELS = sorted({*QUANTILES.values(), *np.linspace(0.0, 1.0, _CELLS + 1).round(6).tolist()})
_KEY = ("symbol", "event_timestamp", "sequence")


def diff_versions(
    connection: psycopg.Connection[Any],
    before: tuple[str, int],
    after: tuple[str, int],
    *,
    symbols: Sequence[str] | None = None,
    start_us: int | None = None,
    end_us: int | None = None,
    notify: Callable[[int], object] = lambda _: None,
) -> VersionDiff:
    """Compare two registered versions.

    Parameters
    ----------
    connection
        Idle. One repeatable-read transaction is used, with a temporary table that goes with it.
    before, after
        Views and versions; of one view as a rule, though any two with a column in common can be compared.
    symbols
        Which entities; none: all.
    start_us, end_us
        First and last event time; none: no limit.
    notify
        Told the number of features done.

    Raises
    ------
    UnknownNameError
        If a version is not registered.
    ParameterError
        If both are the same.
    """
    if before == after:
        raise ParameterError(f"{before[0]}@{before[1]} is compared with itself", remedy="Name two versions")
    isolation = connection.isolation_level
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    try:
        with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
            known = registered_views(connection)
            pair = _Pair(
                cursor, _registered(known, before), _registered(known, after), _Rows(symbols, start_us, end_us)
            )
            return pair.diff(notify)
    finally:
        connection.isolation_level = isolation


def _registered(known: Sequence[RegisteredView], wanted: tuple[str, int]) -> RegisteredView:
    for found in known:
        if (found.view, found.version) == wanted:
            return found
    raise UnknownNameError(
        "registered view version", f"{wanted[0]}@{wanted[1]}", (f"{found.view}@{found.version}" for found in known)
    )


def definition_changes(before: RegisteredView, after: RegisteredView) -> tuple[str, ...]:
    """Sentences on what changed from one version's definition to another's."""
    changes = lineage_changes(before.definition, before.plan_hash, after.definition, after.plan_hash)
    for key, called in (("ttl_us", "TTL in µs"), ("description", "description")):
        old, new = before.definition.get(key), after.definition.get(key)
        if old != new:
            changes.append(f"{called} was {old!r}, is {new!r}")
    if not changes and before.lineage_hash != after.lineage_hash:
        changes.append("the way in which rows are prepared changed")
    return tuple(changes)


@dataclass(frozen=True)
class _Rows:
    """Which rows are compared."""

    symbols: Sequence[str] | None
    start_us: int | None
    end_us: int | None

    @property
    def condition(self) -> sql.Composable:
        terms: list[sql.Composable] = [sql.SQL("true")]
        if self.symbols is not None:
            terms.append(sql.SQL("symbol = ANY ({})").format(sql.Literal(list(self.symbols))))
        for sign, moment in ((">=", self.start_us), ("<=", self.end_us)):
            if moment is not None:
                terms.append(sql.SQL("event_timestamp {} {}").format(sql.SQL(sign), sql.Literal(from_us(moment))))
        return sql.SQL(" AND ").join(terms)


class _Pair:
    """Two versions inside a transaction."""

    def __init__(self, cursor: psycopg.Cursor[Any], before: RegisteredView, after: RegisteredView, rows: _Rows) -> None:
        self._cursor = cursor
        self._before, self._after = before, after
        self._rows = rows

    def diff(self, notify: Callable[[int], object]) -> VersionDiff:
        columns = [self._columns(view) for view in (self._before, self._after)]
        common = [name for name in columns[0] if name in set(columns[1])]
        counts = [self._count(view) for view in (self._before, self._after)]
        features: list[FeatureDifference] = []
        rows = 0
        for start in range(0, max(len(common), 1), _COLUMNS_AT_ONCE):
            names = common[start : start + _COLUMNS_AT_ONCE]
            rows = self._join(names)
            features += self._compare(names, rows)
            self._cursor.execute("DROP TABLE pairs")
            notify(len(names))
        return VersionDiff(
            before=self._before,
            after=self._after,
            definition=definition_changes(self._before, self._after),
            added=tuple(name for name in columns[1] if name not in set(columns[0])),
            removed=tuple(name for name in columns[0] if name not in set(columns[1])),
            rows=rows,
            only_before=counts[0] - rows,
            only_after=counts[1] - rows,
            features=tuple(features),
        )

    def _columns(self, view: RegisteredView) -> list[str]:
        found = self._cursor.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
            " AND atttypid = 'float8'::regtype ORDER BY attnum",
            (_table(view).as_string(self._cursor),),
        )
        return [str(name) for (name,) in found]

    def _count(self, view: RegisteredView) -> int:
        query = sql.SQL("SELECT count(*) FROM (SELECT DISTINCT {} FROM {} WHERE {}) AS keys")
        return int(self._one(query.format(_names(_KEY), _table(view), self._rows.condition))[0])

    def _join(self, names: Sequence[str]) -> int:
        """Put the rows that both have into a table ``pairs`` with columns a0, b0, a1, b1, …; how many there are."""

        def newest(view: RegisteredView, side: str) -> sql.Composed:
            values = [
                sql.SQL("{} AS {}").format(sql.Identifier(name), sql.Identifier(f"{side}{place}"))
                for place, name in enumerate(names)
            ]
            return sql.SQL(
                "(SELECT DISTINCT ON ({key}) {columns} FROM {table} WHERE {rows}"
                " ORDER BY {key}, available_timestamp DESC, created_timestamp DESC) AS {side}"
            ).format(
                key=_names(_KEY),
                columns=sql.SQL(", ").join([_names(_KEY), *values]),
                table=_table(view),
                rows=self._rows.condition,
                side=sql.Identifier(side),
            )

        self._cursor.execute(
            sql.SQL("CREATE TEMPORARY TABLE pairs ON COMMIT DROP AS SELECT * FROM {} JOIN {} USING ({})").format(
                newest(self._before, "a"), newest(self._after, "b"), _names(_KEY)
            )
        )
        return int(self._one(sql.SQL("SELECT count(*) FROM pairs"))[0])

    def _compare(self, names: Sequence[str], rows: int) -> list[FeatureDifference]:
        differences = []
        for place, name in enumerate(names):
            a, b = sql.Identifier(f"a{place}"), sql.Identifier(f"b{place}")
            sides = [self._distribution(side, rows) for side in (a, b)]
            different = int(self._one(sql.SQL("SELECT count(*) FROM pairs WHERE {}").format(_differ(a, b)))[0])
            distances = self._distances(a, b, np.union1d(sides[0][1], sides[1][1]))
            size = sql.SQL("abs({} - {})").format(a, b)
            greater = sql.SQL("nullif(greatest(abs({}), abs({})), 0)").format(a, b)
            differences.append(
                FeatureDifference(
                    feature=name,
                    before=sides[0][0],
                    after=sides[1][0],
                    psi=distances[0],
                    ks=distances[1],
                    equal=rows - different,
                    different=different,
                    largest_absolute=self._largest(a, b, size) if different else None,
                    largest_relative=self._largest(a, b, sql.SQL("{} / {}").format(size, greater))
                    if different
                    else None,
                )
            )
        return differences

    def _distribution(self, column: sql.Identifier, rows: int) -> tuple[Distribution, list[float]]:
        """The distribution of one column of the pairs, and its quantiles at ``_LEVELS``."""
        filled, nans, mean, std, values = self._one(
            sql.SQL(
                "SELECT count({c}), count(*) FILTER (WHERE {c} = 'NaN'), avg({c}) FILTER (WHERE {c} <> 'NaN'),"
                " stddev_pop({c}) FILTER (WHERE {c} <> 'NaN'),"
                " percentile_disc({levels}::float8[]) WITHIN GROUP (ORDER BY {c}) FILTER (WHERE {c} <> 'NaN') FROM pairs"
            ).format(c=column, levels=sql.Literal(_LEVELS))
        )
        points: list[float] = values or []
        named = {name: points[_LEVELS.index(level)] for name, level in QUANTILES.items()} if points else {}
        return Distribution(rows, rows - int(filled), int(nans), mean, std, named), points

    def _distances(self, a: sql.Identifier, b: sql.Identifier, edges: Any) -> tuple[float | None, float | None]:
        """PSI and KS of two columns, counted over the cells between the edges."""
        if len(edges) == 0:
            return None, None
        found = self._cursor.execute(
            sql.SQL(
                "SELECT side, width_bucket(v, {edges}::float8[]), count(*) FROM pairs"
                " CROSS JOIN LATERAL (VALUES (0, {a}), (1, {b})) AS w (side, v) WHERE v <> 'NaN' GROUP BY 1, 2"
            ).format(edges=sql.Literal(edges.tolist()), a=a, b=b)
        ).fetchall()
        counts = np.zeros((2, len(edges) + 1), dtype=np.int64)
        for side, cell, count in found:
            counts[side, cell] = count
        try:
            return psi(counts[0], counts[1]), kolmogorov_smirnov(counts[0], counts[1])
        except EmptyDataError:
            return None, None

    def _largest(self, a: sql.Identifier, b: sql.Identifier, size: sql.Composed) -> LargestDifference | None:
        row = self._cursor.execute(
            sql.SQL(
                "SELECT {size} AS size, symbol, event_timestamp, sequence, {a}, {b} FROM pairs"
                " WHERE {differ} AND abs({a}) < 'Infinity' AND abs({b}) < 'Infinity'"
                " ORDER BY size DESC NULLS LAST, {key} LIMIT 1"
            ).format(size=size, a=a, b=b, differ=_differ(a, b), key=_names(_KEY))
        ).fetchone()
        if row is None or row[0] is None:
            return None
        return LargestDifference(float(row[0]), str(row[1]), to_us(row[2]), int(row[3]), float(row[4]), float(row[5]))

    def _one(self, query: sql.SQL | sql.Composed) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = self._cursor.execute(query).fetchone()
        assert row is not None
        return row


def _differ(a: sql.Identifier, b: sql.Identifier) -> sql.Composed:
    """Not the same bits; of NaN there is only one."""
    return sql.SQL(
        "(float8send({a}) IS DISTINCT FROM float8send({b}) AND ({a} = 'NaN' AND {b} = 'NaN') IS NOT TRUE)"
    ).format(a=a, b=b)


def _names(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _table(view: RegisteredView) -> sql.Identifier:
    return sql.Identifier(SCHEMA, view.table_name.removeprefix(f"{SCHEMA}."))
