"""Promotions, rollbacks and retirements of view versions: each is one row in one transaction.

Those who decide take turns, so every decision is made knowing the ones before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from tapeline.core.errors import ParameterError, UnknownNameError, VersionStateError
from tapeline.storage.view_versions import Decision, Promotion, VersionState, promotion_history, version_states

TEXT_LENGTH_MAX = 1_000


@dataclass(frozen=True)
class Change:
    """What a promotion or rollback did: the promoted version before and after it."""

    view: str
    before: int
    after: int


def promotion_stack(first: int, history: Iterable[Promotion]) -> list[int]:
    """The promoted versions that can be rolled back to, and the promoted one last.

    A promotion puts its version on top; a rollback takes off what was promoted after the version it goes back to.

    Parameters
    ----------
    first
        The version registered first.
    history
        Decisions, the oldest first.
    """
    stack = [first]
    for row in history:
        if row.decision == "promote":
            if stack[-1] != row.version:
                stack.append(row.version)
        elif row.decision == "rollback":
            while len(stack) > 1 and stack[-1] != row.version:
                stack.pop()
            stack[-1] = row.version
    return stack


def promote(connection: psycopg.Connection[Any], view: str, version: int, *, by: str = "", reason: str = "") -> Change:
    """Let references without a version mean this one from now on. A retired version is active again by it.

    Parameters
    ----------
    connection
        Used for one transaction, whose only change is one row.
    view, version
        A registered version.
    by, reason
        Who and why, at most ``TEXT_LENGTH_MAX`` characters each; no name: the database's role.

    Raises
    ------
    UnknownNameError
        If the view or version is not registered.
    """
    with connection.transaction():
        states = _locked(connection, view, version)
        before = _promoted(states)
        if before != version:
            _decide(connection, view, version, "promote", by, reason)
    return Change(view, before, version)


def rollback(
    connection: psycopg.Connection[Any], view: str, to: int | None = None, *, by: str = "", reason: str = ""
) -> Change:
    """Go back to a version that was promoted before.

    Parameters
    ----------
    connection
        Used for one transaction, whose only change is one row.
    view
        A view.
    to
        The version; none: the last one before the promoted one that is not retired.
    by, reason
        As for :func:`promote`.

    Raises
    ------
    UnknownNameError
        If the view or version is not registered.
    VersionStateError
        If there is no version to go back to, or `to` is retired or was not promoted before.
    """
    with connection.transaction():
        states = _locked(connection, view, to)
        first = min(states, key=lambda state: (state.registered_us, state.version)).version
        *earlier, before = promotion_stack(first, promotion_history(connection, view))
        retired = {state.version for state in states if state.retired}
        where = f"feature view {view}, promoted version {before}"
        if to is None:
            usable = [version for version in earlier if version not in retired and version != before]
            if not usable:
                raise VersionStateError(
                    "there is no version to go back to", where=where, remedy="Promote one: tapeline versions promote"
                )
            to = usable[-1]
        elif to in retired:
            raise VersionStateError(
                f"version {to} is retired", where=where, remedy="Promote it to take it into use again"
            )
        elif to not in earlier:
            raise VersionStateError(
                f"version {to} was not promoted before version {before}",
                where=where,
                remedy=f"Take it into use with: tapeline versions promote {view}@{to}",
            )
        _decide(connection, view, to, "rollback", by, reason)
    return Change(view, before, to)


def retire(connection: psycopg.Connection[Any], view: str, version: int, *, by: str = "", reason: str = "") -> None:
    """Refuse a version to everything new. Its table and its online values stay.

    Parameters
    ----------
    connection
        Used for one transaction, whose only change is one row.
    view, version
        A registered version.
    by, reason
        As for :func:`promote`.

    Raises
    ------
    UnknownNameError
        If the view or version is not registered.
    VersionStateError
        If it is promoted, or a model that an alias names is built on it; the message names which.
    """
    with connection.transaction():
        states = _locked(connection, view, version)
        needs = [f"{view}@{version} is promoted"] if _promoted(states) == version else []
        needs += [
            f"model {model}@{model_version} ({alias}) is built on it"
            for model, alias, model_version in _models_on(connection, view, version)
        ]
        if needs:
            raise VersionStateError(
                f"version {version} is still needed: {'; '.join(needs)}",
                where=f"feature view {view}",
                remedy="Promote another version, and let the aliases name models of another version, first",
            )
        if not next(state for state in states if state.version == version).retired:
            _decide(connection, view, version, "retire", by, reason)


def _locked(connection: psycopg.Connection[Any], view: str, version: int | None) -> list[VersionState]:
    """The view's versions, which nobody else changes until the transaction ends."""
    connection.execute("SELECT tapeline.lock_view_versions()")
    states = version_states(connection, view)
    if version is not None and version not in {state.version for state in states}:
        raise UnknownNameError(
            "registered view version", f"{view}@{version}", (f"{s.view}@{s.version}" for s in states)
        )
    return states


def _promoted(states: Sequence[VersionState]) -> int:
    return next(state.version for state in states if state.promoted)


def _decide(
    connection: psycopg.Connection[Any], view: str, version: int, decision: Decision, by: str, reason: str
) -> None:
    for name, text in (("by", by), ("reason", reason)):
        if len(text) > TEXT_LENGTH_MAX:
            raise ParameterError(f"{name} has {len(text)} characters, more than {TEXT_LENGTH_MAX}")
    connection.execute(
        "INSERT INTO tapeline.view_promotions (view, version, decision, decided_by, reason)"
        " VALUES (%s, %s, %s, coalesce(nullif(%s, ''), session_user), %s)",
        (view, version, decision, by, reason),
    )


_MODELS = """
    WITH named AS (
        SELECT DISTINCT ON (model, alias) model, alias, version FROM tapeline.model_aliases
        ORDER BY model, alias, id DESC
    ), resolved AS (
        SELECT model, alias, version FROM named
        UNION ALL  -- where no champion is named, a model's greatest version is what its name alone means
        (SELECT DISTINCT ON (model) model, 'latest', version FROM tapeline.models
         WHERE model NOT IN (SELECT model FROM named WHERE alias = 'champion')
         ORDER BY model, string_to_array(version, '.')::int[] DESC)
    )
    SELECT r.model, string_agg(r.alias, ', ' ORDER BY r.alias), r.version
    FROM resolved r JOIN tapeline.models m USING (model, version)
    WHERE m.manifest -> 'views' @> jsonb_build_array(jsonb_build_object('view', %s::text, 'version', %s::int))
    GROUP BY r.model, r.version ORDER BY r.model, r.version
"""


def _models_on(connection: psycopg.Connection[Any], view: str, version: int) -> list[tuple[str, str, str]]:
    """Models that are built on a view version and that an alias, or their name alone, stands for."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(_MODELS, (view, version)).fetchall()
