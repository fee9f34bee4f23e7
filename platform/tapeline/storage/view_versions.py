"""Which version of a feature view holds where none is named, and which are retired.

A version is *active* from its registration on: anybody may read it by name. One version of each view is *promoted*: a
reference without a version means that one. Promotions, rollbacks and retirements are rows that are only ever added, so
that a change is one statement and its history stays (:mod:`tapeline.storage.view_decisions`). Before the first promotion, the version registered first holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg.rows import tuple_row

from tapeline.core.errors import ParameterError, UnknownNameError, VersionStateError
from tapeline.core.timestamps import to_us

Decision = Literal["promote", "rollback", "retire"]


@dataclass(frozen=True)
class VersionState:
    """A registered view version and what was last decided about it.

    Attributes
    ----------
    promoted, retired
        Whether references without a version mean it; whether nothing new may be built on it.
    decision, decided_by, reason, decided_us
        The newest decision about it; ``None`` if there is none.
    """

    view: str
    version: int
    table_name: str
    lineage_hash: str
    registered_us: int
    promoted: bool
    retired: bool
    decision: Decision | None
    decided_by: str | None
    reason: str | None
    decided_us: int | None

    @property
    def state(self) -> str:
        """``promoted``, ``active`` or ``retired``."""
        return "promoted" if self.promoted else "retired" if self.retired else "active"


@dataclass(frozen=True)
class Promotion:
    """One row of the history."""

    view: str
    version: int
    decision: Decision
    decided_by: str
    reason: str
    decided_us: int


def parse_view_version(text: str) -> tuple[str, int | None]:
    """``name``, ``name@2`` or ``name@v2`` as name and version.

    Raises
    ------
    ParameterError
        If it is none of these.
    """
    name, at, number = text.partition("@")
    number = number.removeprefix("v")
    if not name or (at and not (number.isascii() and number.isdigit())):
        raise ParameterError(f"{text!r} names no view version", remedy="Write it like daily_technical@2")
    return name, int(number) if at else None


def version_states(connection: psycopg.Connection[Any], view: str | None = None) -> list[VersionState]:
    """All registered versions of one view or of every view, by name and version.

    Raises
    ------
    UnknownNameError
        If nothing is registered of the view.
    """
    states = registered_states(connection)
    if view is None:
        return states
    found = [state for state in states if state.view == view]
    if not found:
        raise UnknownNameError("registered feature view", view, (state.view for state in states))
    return found


def registered_states(connection: psycopg.Connection[Any]) -> list[VersionState]:
    """All registered versions, by name and version; none in a database that Tapeline has not prepared."""
    with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
        if not _is_prepared(cursor):
            return []
        rows = cursor.execute(
            "SELECT view, version, table_name, lineage_hash, registered_timestamp, promoted, retired, decision,"
            " decided_by, reason, decided_timestamp FROM tapeline.view_version_states ORDER BY view, version"
        ).fetchall()
    return [
        VersionState(
            view, version, table, lineage, to_us(registered), promoted, retired, decision, by, reason,
            None if decided is None else to_us(decided),
        )
        for view, version, table, lineage, registered, promoted, retired, decision, by, reason, decided in rows
    ]  # fmt: skip


def promoted_versions(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """The promoted version of each view; empty in a database that Tapeline has not prepared."""
    with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
        if not _is_prepared(cursor):
            return {}
        return dict(cursor.execute("SELECT view, version FROM tapeline.view_version_states WHERE promoted").fetchall())


def promotion_history(connection: psycopg.Connection[Any], view: str) -> list[Promotion]:
    """Every decision about a view, the oldest first."""
    with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
        rows = cursor.execute(
            "SELECT view, version, decision, decided_by, reason, created_timestamp FROM tapeline.view_promotions"
            " WHERE view = %s ORDER BY id",
            (view,),
        ).fetchall()
    return [
        Promotion(view, version, decision, by, reason, to_us(decided))
        for view, version, decision, by, reason, decided in rows
    ]


def require_usable(
    connection: psycopg.Connection[Any],
    versions: Sequence[tuple[str, int]] = (),
    *,
    tables: Sequence[str] = (),
    where: str,
    lock: bool = False,
) -> None:
    """Refuse retired versions to something new.

    Parameters
    ----------
    connection
        The database. In one that Tapeline has not prepared, nothing is retired.
    versions
        Views and versions; unregistered ones are passed over.
    tables
        Tables of versions, such as ``features.daily_technical__v2``; others are passed over.
    where
        What needs them.
    lock
        Keep them from being retired until the caller's transaction ends.

    Raises
    ------
    VersionStateError
        If one is retired; the message names the promoted version.
    """
    with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
        if not _is_prepared(cursor):
            return
        if lock:
            cursor.execute("SELECT tapeline.share_view_versions()")
        row = cursor.execute(
            "SELECT s.view, s.version, p.version FROM tapeline.view_version_states s"
            " JOIN tapeline.view_version_states p ON p.view = s.view AND p.promoted"
            " WHERE s.retired AND (s.table_name = ANY (%s) OR (s.view, s.version) IN"
            " (SELECT * FROM unnest(%s::text[], %s::int[]))) ORDER BY s.view, s.version LIMIT 1",
            (list(tables), [view for view, _ in versions], [version for _, version in versions]),
        ).fetchone()
    if row is not None:
        view, version, successor = row
        raise VersionStateError(
            f"{view}@{version} is retired",
            where=where,
            remedy=f"Its successor is {view}@{successor}; or take it into use again: tapeline versions promote"
            f" {view}@{version}",
        )


def _is_prepared(cursor: psycopg.Cursor[Any]) -> bool:
    return cursor.execute("SELECT to_regclass('tapeline.view_version_states') IS NOT NULL").fetchone() == (True,)
