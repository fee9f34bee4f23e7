"""Versions of one view through Feast's API: promotion, rollback, side by side, retirement."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from feast import FeatureService, FeatureStore, Field, RequestSource
from feast.errors import FeatureNameCollisionError, FeatureViewPinConflict
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64
from tapeline.core.errors import UnknownNameError, VersionStateError
from tapeline.core.settings import Settings
from tapeline.feast_ext.on_demand import whole_service
from tapeline.feast_ext.promoted import REFRESH_SECONDS, PromotedVersions
from tapeline.feast_ext.resolve import retrieval_plan
from tapeline.feast_ext.views import feature_view
from tapeline.storage.view_decisions import promote, retire, rollback

from tests.feast_ext.versioned_world import (
    ENTITY_ROWS,
    SYMBOL,
    V1,
    V2,
    add_version,
    apply,
    historical,
    is_whole,
    latest,
    materialize,
    online,
    open_store,
    process_settings,
)

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(120)]

PLAIN = ["small:sma_3"]


@pytest.fixture
def store(settings: Settings, connection: psycopg.Connection, tmp_path: Path) -> Iterator[FeatureStore]:
    """Version 1 applied and promoted, then version 2 applied, both materialized."""
    with process_settings(settings):
        opened = open_store(tmp_path)
        add_version(connection, V1)
        unversioned = FeatureService(name="unversioned", features=["small:sma_3"])
        apply(opened, V1, [FeatureService(name="first", features=[feature_view(V1, SYMBOL)]), unversioned])
        add_version(connection, V2)
        apply(
            opened,
            V2,
            [
                FeatureService(name="second", features=[feature_view(V2, SYMBOL)]),
                FeatureService(
                    name="both",
                    features=[feature_view(V1, SYMBOL), feature_view(V2, SYMBOL)[["sma_3"]]],
                ),
            ],
        )
        materialize(opened)
        yield opened


def settle() -> None:
    """Wait until online readers must have seen a promotion."""
    time.sleep(REFRESH_SECONDS + 0.02)


def test_what_was_applied_last_changes_nothing_until_it_is_promoted(
    store: FeatureStore, connection: psycopg.Connection
) -> None:
    def read_everywhere() -> set[int]:
        settle()
        (selection,) = retrieval_plan(store, "unversioned").views
        service = store.get_feature_service("unversioned")
        (checked,) = whole_service(store, "unversioned")[0].views
        found = {selection.version, int(selection.table[-1]), checked.version, int(checked.table[-1])}
        for columns in (
            historical(store, PLAIN),
            historical(store, service),
            online(store, PLAIN),
            online(store, service),
            asyncio.run(_online_async(store)),
        ):
            found.add(next(spec.version for spec in (V1, V2) if columns == {"sma_3": latest(spec, "sma_3")}))
        return found

    assert read_everywhere() == {1}
    promote(connection, "small", 2, reason="better")
    assert read_everywhere() == {2}
    assert rollback(connection, "small").after == 1
    assert read_everywhere() == {1}
    apply(store, V2)  # the files still say version 2
    store.refresh_registry()
    assert read_everywhere() == {1}


async def _online_async(store: FeatureStore) -> dict[str, list]:
    answer = (await store.get_online_features_async(features=PLAIN, entity_rows=ENTITY_ROWS)).to_dict()
    return {name: column for name, column in answer.items() if name != "symbol"}


def test_named_versions_stay_what_they_are(store: FeatureStore, connection: psycopg.Connection) -> None:
    for version in (1, 2, 1):
        promote(connection, "small", version)
        settle()
        for name, spec in (("first", V1), ("second", V2)):
            service = store.get_feature_service(name)
            expected = {column: latest(spec, column) for column in spec.columns}
            assert historical(store, service) == expected
            assert online(store, service) == expected
            (selection,) = retrieval_plan(store, name).views
            assert (selection.version, selection.table) == (spec.version, f"features.{spec.table}")


def test_both_versions_side_by_side_in_one_call(store: FeatureStore) -> None:
    features = ["small@v1:sma_3", "small@v2:sma_3", "small@v1:rsi_4", "small@v2:mom_2", "small:sma_3"]
    expected = {
        "small@v1__sma_3": latest(V1, "sma_3"),
        "small@v2__sma_3": latest(V2, "sma_3"),
        "small@v1__rsi_4": latest(V1, "rsi_4"),
        "small@v2__mom_2": latest(V2, "mom_2"),
        "small__sma_3": latest(V1, "sma_3"),
    }
    assert historical(store, features, full=True) == expected
    assert online(store, features, full=True) == expected
    for read in (historical, online):
        with pytest.raises(FeatureNameCollisionError):
            read(store, features)
    plan = retrieval_plan(store, "both")
    assert [(view.version, view.output_names) for view in plan.views] == [
        (1, ("small@v1__sma_3", "rsi_4")),
        (2, ("small@v2__sma_3",)),
    ]


def test_a_feature_of_the_other_version_is_refused_or_named(
    store: FeatureStore, connection: psycopg.Connection
) -> None:
    for read in (historical, online):
        with pytest.raises(UnknownNameError, match=r"'mom_2' \(small@v1, the promoted version\)"):
            read(store, ["small:mom_2"])
        with pytest.raises(Exception, match=r"rsi_4"):  # Feast's own check, by what was applied last
            read(store, ["small:rsi_4"])
        assert read(store, ["small@v1:rsi_4"]) == {"rsi_4": latest(V1, "rsi_4")}
    promote(connection, "small", 2)
    settle()
    for read in (historical, online):
        assert read(store, ["small:mom_2"]) == {"mom_2": latest(V2, "mom_2")}


def test_files_of_an_older_version_cannot_be_applied(store: FeatureStore) -> None:
    """Feast compares them with what was applied last: the way back is a rollback."""
    with pytest.raises(FeatureViewPinConflict):
        apply(store, V1)
    assert historical(store, PLAIN) == {"sma_3": latest(V1, "sma_3")}


def test_on_demand_views_read_the_promoted_version(store: FeatureStore, connection: psycopg.Connection) -> None:
    price = RequestSource(name="price", schema=[Field(name="price", dtype=Float64)])

    @on_demand_feature_view(
        sources=[feature_view(V2, SYMBOL)[["sma_3"]], price],
        schema=[Field(name="above", dtype=Float64)],
        mode="python",
    )
    def distance(inputs):
        return {"above": [p - a for p, a in zip(inputs["price"], inputs["sma_3"], strict=True)]}

    store.apply([distance])
    rows = [{**row, "price": 5000.0} for row in ENTITY_ROWS]
    for version, spec in ((1, V1), (2, V2)):
        promote(connection, "small", version)
        settle()
        answer = store.get_online_features(features=["distance:above"], entity_rows=rows).to_dict()
        assert answer["above"] == [5000.0 - average for average in latest(spec, "sma_3")]


def test_a_retired_version_is_refused_to_what_is_new(
    store: FeatureStore, connection: psycopg.Connection, redis_url: str
) -> None:
    promote(connection, "small", 2)
    retire(connection, "small", 1, reason="nobody reads it")
    settle()
    with pytest.raises(VersionStateError, match=r"small@1 is retired .*successor is small@2"):
        historical(store, ["small@v1:rsi_4"])
    assert online(store, ["small@v1:rsi_4"]) == {"rsi_4": latest(V1, "rsi_4")}  # what runs goes on
    assert historical(store, PLAIN) == {"sma_3": latest(V2, "sma_3")}
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
        materialize(store)
        assert {key.split(b":")[2] for key in client.keys("tl:tapeline:small*")} == {b"small@2"}


def test_readers_see_one_whole_version_while_it_changes(store: FeatureStore, connection: psycopg.Connection) -> None:
    """Offline and online, readers and one that promotes and rolls back: never a mix, and both are seen."""
    features = ["small:sma_3"]
    over = threading.Event()
    seen: dict[str, list[int]] = {"historical": [], "online": []}
    failures: list[object] = []

    def read(name: str) -> None:
        reader = open_store(Path(str(store.repo_path)))
        while not over.is_set():
            columns = historical(reader, features) if name == "historical" else online(reader, features)
            whole = [spec.version for spec in (V1, V2) if is_whole(columns, spec)]
            if len(whole) != 1:
                failures.append(columns)
            seen[name] += whole

    threads = [threading.Thread(target=read, args=(name,)) for name in seen]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not all(
        min(versions.count(1), versions.count(2)) >= 3 for versions in seen.values()
    ):
        promote(connection, "small", 2)
        time.sleep(0.4)
        rollback(connection, "small")
        time.sleep(0.4)
    over.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert all(set(versions) == {1, 2} for versions in seen.values()), seen


def test_what_was_promoted_last_holds_while_the_database_is_away(
    store: FeatureStore, connection: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    versions = PromotedVersions()
    assert versions.current(store.config)["small"] == 1
    promote(connection, "small", 2)
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid()"
    )
    connection.commit()
    settle()
    assert versions.current(store.config)["small"] == 2, "a connection that broke is opened again"
    away = store.config.model_copy()
    away._offline_store = store.config.offline_store.model_copy(update={"url": "postgresql://127.0.0.1:1/none"})
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid()"
    )
    connection.commit()
    settle()
    assert versions.current(away)["small"] == 2
    assert "those known last hold" in caplog.text
