"""A range of time as entity rows: each entity at each moment at which a row of it became visible in one of the views."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from tapeline.core.timestamps import from_us
from tapeline.datasets.plan import ViewSelection


def visible_moments(
    selections: Sequence[ViewSelection], first_us: int, last_us: int, vintage_us: int | None, *, time_column: str
) -> sql.Composable:
    """A query of distinct entity rows: the entity columns of all views, then the moment.

    A row becomes visible when its event has happened and it is available. A view without one of the entity columns
    gives rows in which that column is null.

    Parameters
    ----------
    selections
        The views.
    first_us, last_us
        First and last moment, microseconds UTC, both included.
    vintage_us
        Only rows recorded by this moment count; none: all.
    time_column
        What to call the moment.
    """
    low, high = (sql.Literal(from_us(moment)) for moment in (first_us, last_us))
    keys = dict.fromkeys(column for view in selections for column in view.entity_columns)
    homes = {
        column: (view.table, view.join_keys[view.entity_columns.index(column)])
        for view in reversed(selections)
        for column in view.entity_columns
    }
    pieces = []
    for view in selections:
        event = sql.Identifier(view.event_column)
        visible: sql.Composable = sql.SQL("s.{}::timestamptz").format(event)
        if view.available_column:
            visible = sql.SQL("greatest({}, s.{})").format(visible, sql.Identifier(view.available_column))
        terms = [sql.SQL("{} BETWEEN {} AND {}").format(visible, low, high)]
        if view.created_column and vintage_us is not None:
            created = sql.Identifier(view.created_column)
            terms.append(sql.SQL("s.{} <= {}").format(created, sql.Literal(from_us(vintage_us))))
        own = dict(zip(view.entity_columns, view.join_keys, strict=True))
        columns = [
            sql.SQL("{} AS {}").format(
                sql.SQL("s.{}").format(sql.Identifier(own[name])) if name in own else _null_of(*homes[name]),
                sql.Identifier(name),
            )
            for name in keys
        ]
        columns.append(sql.SQL("{} AS {}").format(visible, sql.Identifier(time_column)))
        pieces.append(
            sql.SQL("SELECT DISTINCT {} FROM {} AS s WHERE {}").format(
                sql.SQL(", ").join(columns), sql.SQL(view.table), sql.SQL(" AND ").join(terms)
            )
        )
    return sql.SQL(" UNION ").join(pieces)


def _null_of(table: str, column: str) -> sql.Composable:
    """A null of a column's own type: a bare NULL counts as text."""
    return sql.SQL("(SELECT n.{} FROM {} AS n LIMIT 0)").format(sql.Identifier(column), sql.SQL(table))
