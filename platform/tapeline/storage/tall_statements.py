"""The SQL of an idempotent append to a table that holds a row as several, one for each of its members.

The batch comes with a column for each member, so that what is written together is compared and corrected together. Text
only, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import sql

from tapeline.storage.keyed_statements import KeyedStatements


@dataclass(frozen=True, slots=True)
class Members:
    """What a row of a tall table is made of.

    Parameters
    ----------
    name_column
        The table's column that names a member.
    value_columns
        The table's columns for values, of which a member has one.
    kept
        Of each column of the batch that is a member: its name, and which of those columns its value belongs in. None of
        them may be called like a column of the table.
    """

    name_column: str
    value_columns: tuple[str, ...]
    kept: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class TallStatements(KeyedStatements):
    """Statements for one batch of a tall table, which has an available and a created column.

    Parameters
    ----------
    members
        What its rows are made of.
    """

    members: Members

    def _like(self) -> sql.Composable:
        named = [
            sql.SQL("{} AS {}").format(sql.Identifier(place), sql.Identifier(column))
            for column, (_, place) in self.members.kept.items()
        ]
        return sql.SQL("(SELECT *, {named} FROM {table}) AS s").format(named=sql.SQL(", ").join(named), **self._words)

    def _stored(self, first: str, last: str) -> sql.Composable:
        moments = sql.SQL("s.{}, s.{}").format(sql.Identifier(str(self.available)), sql.Identifier(str(self.created)))
        return sql.SQL(
            "CROSS JOIN LATERAL (SELECT {moments}, {content} AS content FROM {table} s"
            " WHERE {matches} GROUP BY {moments}) AS s"
        ).format(moments=moments, content=self._gathered("s"), matches=self._matches(first, last), **self._words)

    def _differs(self) -> sql.Composable:
        return sql.SQL("(SELECT {content} FROM {members}) IS DISTINCT FROM s.content").format(
            content=self._gathered("m"), members=self._members()
        )

    def _values(self) -> dict[str, sql.Composable]:
        own = (self.members.name_column, *self.members.value_columns)
        common = {name: value for name, value in super()._values().items() if name not in self.members.kept}
        return common | {name: sql.Identifier("m", name) for name in own}

    def _written_from(self) -> sql.Composable:
        return sql.SQL("{rows} CROSS JOIN LATERAL {members}").format(
            rows=super()._written_from(), members=self._members()
        )

    def _members(self) -> sql.Composable:
        """Each member of a row of the batch, as the table holds it."""
        columns = self.members.value_columns
        parts = [
            sql.SQL("({}, {})").format(
                sql.Literal(name),
                sql.SQL(", ").join(
                    sql.Identifier("i", column)
                    if other == place
                    else sql.SQL("NULL::{}").format(sql.SQL(self.types[other]))
                    for other in columns
                ),
            )
            for column, (name, place) in self.members.kept.items()
        ]
        return sql.SQL("(VALUES {}) AS m ({})").format(
            sql.SQL(", ").join(parts), sql.SQL(", ").join(map(sql.Identifier, (self.members.name_column, *columns)))
        )

    def _gathered(self, alias: str) -> sql.Composable:
        """Members and their values as one value, which can be compared."""
        values = sql.SQL(", ").join(sql.Identifier(alias, name) for name in self.members.value_columns)
        return sql.SQL("jsonb_object_agg({}, jsonb_build_array({}))").format(
            sql.Identifier(alias, self.members.name_column), values
        )
