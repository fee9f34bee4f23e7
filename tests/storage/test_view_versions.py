"""Promotion, rollback and retirement of view versions in a real database."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.json import Jsonb
from tapeline.core.errors import LineageError, ParameterError, UnknownNameError, VersionStateError
from tapeline.core.settings import Settings
from tapeline.features.request import FeatureRequest
from tapeline.registry import Registry
from tapeline.storage.feature_tables import register_view
from tapeline.storage.migrations import migrate, migrations
from tapeline.storage.view_decisions import promote, promotion_stack, retire, rollback
from tapeline.storage.view_versions import (
    Promotion,
    parse_view_version,
    promoted_versions,
    promotion_history,
    require_usable,
    version_states,
)

from tests.feast_ext.versioned_world import V1, V2
from tests.serving import world

Connection = psycopg.Connection[Any]
V3 = replace(V2, version=3, features=(FeatureRequest.of("MOM", timeperiod=3),))


@pytest.fixture
def views(connection: Connection) -> Connection:
    for spec in (V1, V2, V3):
        register_view(connection, spec)
    return connection


def promoted(connection: Connection) -> int:
    return promoted_versions(connection)["small"]


def test_the_version_registered_first_holds_until_one_is_promoted(views: Connection) -> None:
    assert promoted(views) == 1
    change = promote(views, "small", 3, by="ann", reason="new momentum")
    assert (change.before, change.after, promoted(views)) == (1, 3, 3)
    promote(views, "small", 3)  # again: nothing to note
    (row,) = promotion_history(views, "small")
    assert (row.version, row.decision, row.decided_by, row.reason) == (3, "promote", "ann", "new momentum")
    assert {s.version: s.state for s in version_states(views, "small")} == {1: "active", 2: "active", 3: "promoted"}


def test_a_changed_definition_needs_a_new_version_whatever_is_promoted(views: Connection) -> None:
    promote(views, "small", 2)
    with pytest.raises(LineageError, match=r"MOM.*was removed.*Raise the view's version"):
        register_view(views, replace(V3, version=2))


def test_rollback_goes_back_step_by_step(views: Connection) -> None:
    with pytest.raises(VersionStateError, match="no version to go back to"):
        rollback(views, "small")
    promote(views, "small", 2)
    promote(views, "small", 3)
    assert [rollback(views, "small").after, rollback(views, "small").after] == [2, 1]
    with pytest.raises(VersionStateError, match="no version to go back to"):
        rollback(views, "small")
    with pytest.raises(VersionStateError, match=r"version 3 was not promoted before version 1.*promote small@3"):
        rollback(views, "small", 3)
    promote(views, "small", 3)
    assert rollback(views, "small", 1).after == 1
    assert [row.decision for row in promotion_history(views, "small")] == [
        "promote", "promote", "rollback", "rollback", "promote", "rollback",
    ]  # fmt: skip


def test_rollback_passes_over_retired_versions(views: Connection) -> None:
    promote(views, "small", 2)
    promote(views, "small", 3)
    retire(views, "small", 2)
    with pytest.raises(VersionStateError, match="version 2 is retired"):
        rollback(views, "small", 2)
    assert rollback(views, "small").after == 1
    promote(views, "small", 2)
    assert [s.state for s in version_states(views, "small")] == ["active", "promoted", "active"]


def test_names_and_texts_are_checked(views: Connection) -> None:
    for action in (promote, retire, rollback):
        with pytest.raises(UnknownNameError, match="small@1"):
            action(views, "small", 9)
        with pytest.raises(UnknownNameError, match="smal"):
            action(views, "smal", 1)
    with pytest.raises(ParameterError, match="reason has 1001 characters"):
        promote(views, "small", 2, reason="x" * 1001)
    assert promoted(views) == 1
    assert parse_view_version("small@v2") == parse_view_version("small@2") == ("small", 2)
    assert parse_view_version("small") == ("small", None)
    for text in ("", "@2", "small@", "small@x", "small@-1", "small@٣"):
        with pytest.raises(ParameterError, match="names no view version"):
            parse_view_version(text)


def test_the_history_cannot_be_changed(views: Connection) -> None:
    promote(views, "small", 2)
    for statement in ("DELETE FROM tapeline.view_promotions", "UPDATE tapeline.view_promotions SET version = 1"):
        with pytest.raises(psycopg.errors.RaiseException, match="only ever added"), views.transaction():
            views.execute(statement)
    assert len(promotion_history(views, "small")) == 1


@pytest.mark.parametrize("action", ["promote", "rollback", "retire"])
def test_each_decision_is_one_row_of_one_transaction(views: Connection, action: str) -> None:
    promote(views, "small", 2)
    row = views.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
    views.commit()
    assert row is not None
    if action == "promote":
        promote(views, "small", 3)
    elif action == "rollback":
        rollback(views, "small")
    else:
        retire(views, "small", 3)
    after = views.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
    assert after == (row[0] + 2,), "one transaction wrote between these two"
    written = views.execute(
        "SELECT count(*) FROM tapeline.view_promotions WHERE xmin::text::bigint = %s", (row[0] + 1,)
    )
    assert written.fetchone() == (1,)


def test_those_who_decide_at_once_take_turns(views: Connection, database: str) -> None:
    """Each sees what the one before it did: every row of the history fits the ones before."""
    promote(views, "small", 2)

    def work(number: int) -> None:
        with psycopg.connect(database) as connection:
            for turn in range(15):
                promote(connection, "small", 2 + (number + turn) % 2)
                try:
                    rollback(connection, "small")
                except VersionStateError:
                    promote(connection, "small", 3)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history = promotion_history(views, "small")
    for place, row in enumerate(history):
        stack = promotion_stack(1, history[:place])
        assert stack[-1] != row.version
        assert row.decision == "promote" or row.version in stack[:-1]
    assert promotion_stack(1, history)[-1] == promoted(views)


def test_a_reader_sees_the_version_before_or_after_a_rollback_never_none(views: Connection, database: str) -> None:
    promote(views, "small", 2)
    over = threading.Event()
    seen: set[int | None] = set()

    def read() -> None:
        with psycopg.connect(database) as connection:
            while not over.is_set():
                seen.add(promoted_versions(connection).get("small"))

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(40):
        rollback(views, "small")
        promote(views, "small", 2)
    over.set()
    thread.join()
    assert seen == {1, 2}


def test_retirement_is_refused_to_what_is_needed(settings: Settings, views: Connection, tmp_path: Path) -> None:
    with pytest.raises(VersionStateError, match=r"version 1 is still needed: small@1 is promoted"):
        retire(views, "small", 1)
    for spec in (V1, V2):
        world.register_model(settings, tmp_path, (spec,), "walker")
    registry = Registry(views, settings.artifacts_path)
    registry.set_alias("walker", "champion", "1.0.0")
    registry.set_alias("walker", "challenger", "2.0.0")
    promote(views, "small", 3)
    with pytest.raises(VersionStateError, match=r"model walker@1\.0\.0 \(champion\) is built on it"):
        retire(views, "small", 1)
    with pytest.raises(VersionStateError, match=r"model walker@2\.0\.0 \(challenger\) is built on it"):
        retire(views, "small", 2)
    registry.set_alias("walker", "champion", "2.0.0")
    retire(views, "small", 1)  # the model is still there, but nothing names it
    with pytest.raises(VersionStateError, match=r"small@1 is retired \(model walker 1\.0\.0\).*successor is small@3"):
        registry.set_alias("walker", "champion", "1.0.0")
    with pytest.raises(VersionStateError, match="small@1 is retired"):
        world.register_model(settings, tmp_path, (V1,), "runner")


def test_a_model_without_champion_is_needed_by_its_name(settings: Settings, views: Connection, tmp_path: Path) -> None:
    world.register_model(settings, tmp_path, (V2,), "walker")
    with pytest.raises(VersionStateError, match=r"model walker@1\.0\.0 \(latest\)"):
        retire(views, "small", 2)


def test_a_version_is_not_retired_while_an_alias_is_being_set(views: Connection, database: str) -> None:
    with views.transaction():
        require_usable(views, [("small", 2)], where="test", lock=True)
        other = psycopg.connect(database, options="-c lock_timeout=200")
        with other, pytest.raises(psycopg.errors.LockNotAvailable):
            retire(other, "small", 2)
    with psycopg.connect(database) as other:
        retire(other, "small", 2)


def test_a_database_from_before_promotions_keeps_what_was_read(empty_database: str, tmp_path: Path) -> None:
    own = next(m for m in migrations() if m.name.endswith("_view_versions.sql"))
    before = tmp_path / "sql"
    before.mkdir()
    for migration in migrations()[: own.number - 1]:
        (before / migration.name).write_bytes(migration.path.read_bytes())
    with psycopg.connect(empty_database) as connection:
        migrate(connection, folder=before)
        assert promoted_versions(connection) == {}
        require_usable(connection, [("small", 1)], where="test")
        for spec in (V1, V2):  # as that version registered them
            connection.execute(
                "INSERT INTO tapeline.feature_view_versions"
                " (view, version, lineage_hash, plan_hash, table_name, definition) VALUES (%s, %s, %s, %s, %s, %s)",
                (
                    spec.name,
                    spec.version,
                    spec.lineage_hash,
                    spec.plan.hash,
                    f"features.{spec.table}",
                    Jsonb(spec.definition()),
                ),
            )
        connection.commit()
        migrate(connection)
        assert promoted_versions(connection) == {"small": 2}
        register_view(connection, V3)
        assert promoted_versions(connection) == {"small": 2}


@given(st.lists(st.tuples(st.sampled_from(["promote", "rollback", "retire"]), st.integers(1, 4)), max_size=20))
def test_the_stack_is_what_was_promoted_and_not_taken_back(rows: list[tuple[Any, int]]) -> None:
    history = [Promotion("small", version, decision, "", "", 0) for decision, version in rows]
    stack = promotion_stack(1, history)
    assert stack
    holding = [version for decision, version in rows if decision != "retire"]
    assert stack[-1] == (holding[-1] if holding else 1)
    assert set(stack) <= {1, *holding}
