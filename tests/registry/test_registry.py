from __future__ import annotations

import threading

import psycopg
import pytest
from tapeline.core.errors import IntegrityError, LineageError, ParameterError, UnknownNameError
from tapeline.registry import Registry, parse_reference

from tests.registry.bundles import LINEAGE_HASH, PLAN_HASH, make_bundle


@pytest.fixture
def registry(connection, tmp_path):
    connection.execute("CREATE TABLE features.daily_technical__v2 (symbol text, rsi_14 float8, roc_10 float8)")
    connection.execute(
        "INSERT INTO tapeline.feature_view_versions (view, version, lineage_hash, plan_hash, table_name, definition)"
        " VALUES ('daily_technical', 2, %s, %s, 'daily_technical__v2', '{}')",
        (LINEAGE_HASH, PLAN_HASH),
    )
    connection.commit()
    return Registry(connection, tmp_path / "artifacts")


def test_register_resolve_fetch(registry, tmp_path):
    make_bundle(tmp_path / "b")
    record = registry.register(tmp_path / "b", aliases=["champion"])
    assert (record.version, record.aliases, record.parent_sha256) == ("1.0.0", ("champion",), None)
    assert registry.resolve("daily_direction") == record
    manifest = registry.manifest(record)
    assert manifest.version == "1.0.0"
    assert manifest.address == record.bundle_sha256 == registry.fetch(record).name
    assert record.metrics == {"model": {"accuracy": 0.5}}


def test_the_same_bundle_again_changes_nothing(registry, tmp_path):
    make_bundle(tmp_path / "b")
    assert registry.register(tmp_path / "b") == registry.register(tmp_path / "b")
    assert len(registry.records()) == 1


def test_versions_follow_one_another(registry, tmp_path):
    make_bundle(tmp_path / "b1")
    make_bundle(tmp_path / "b2", weights=(0.1, 0.2))
    make_bundle(tmp_path / "b3", weights=(0.1,), names=("rsi_14",))
    make_bundle(tmp_path / "b4", weights=(0.2,), names=("rsi_14",))
    first, second, third = (registry.register(tmp_path / name) for name in ("b1", "b2", "b3"))
    fourth = registry.register(tmp_path / "b4", bump="patch")
    assert [r.version for r in (first, second, third, fourth)] == ["1.0.0", "1.1.0", "2.0.0", "2.0.1"]
    assert second.parent_sha256 == first.bundle_sha256
    make_bundle(tmp_path / "b5", weights=(0.3,), names=("rsi_14",))
    assert registry.register(tmp_path / "b5", version="10.0.0").version == "10.0.0"
    assert registry.resolve("daily_direction", "latest").version == "10.0.0"
    make_bundle(tmp_path / "b6", weights=(0.4,), names=("rsi_14",))
    with pytest.raises(ParameterError, match="never change"):
        registry.register(tmp_path / "b6", version="10.0.0")


def test_aliases_move(registry, tmp_path):
    make_bundle(tmp_path / "b1")
    make_bundle(tmp_path / "b2", weights=(0.1, 0.2))
    registry.register(tmp_path / "b1", aliases=["champion"])
    registry.register(tmp_path / "b2", aliases=["challenger"])
    assert registry.resolve("daily_direction").version == "1.0.0"
    assert registry.set_alias("daily_direction", "champion", "challenger").aliases == ("challenger", "champion")
    assert registry.resolve("daily_direction", "champion").version == "1.1.0"
    assert registry.resolve("daily_direction", "1.0.0").aliases == ()
    for alias in ("latest", "Champion", "1"):
        with pytest.raises(ParameterError):
            registry.set_alias("daily_direction", alias, "1.0.0")


def test_unknown_names_come_with_the_nearest(registry, tmp_path):
    make_bundle(tmp_path / "b")
    registry.register(tmp_path / "b", aliases=["champion"])
    with pytest.raises(UnknownNameError, match="daily_direction"):
        registry.resolve("dayly_direction")
    with pytest.raises(UnknownNameError, match="champion"):
        registry.resolve("daily_direction", "champoin")


def test_a_model_asking_for_features_that_are_not_there(registry, tmp_path):
    make_bundle(tmp_path / "b", names=("rsi_14", "roc_12"))
    with pytest.raises(UnknownNameError, match="roc_10"):
        registry.register(tmp_path / "b")
    assert registry.records() == []
    assert not (tmp_path / "artifacts").exists()


def test_a_model_of_another_definition(registry, connection, tmp_path):
    connection.execute("UPDATE tapeline.feature_view_versions SET lineage_hash = 'other'")
    make_bundle(tmp_path / "b")
    with pytest.raises(LineageError, match="lineage"):
        registry.register(tmp_path / "b")
    connection.execute("UPDATE tapeline.feature_view_versions SET view = 'daily_technicals'")
    with pytest.raises(UnknownNameError, match="daily_technicals@v2"):
        registry.register(tmp_path / "b")


def test_a_corrupted_artifact_is_never_loaded(registry, tmp_path):
    make_bundle(tmp_path / "b")
    record = registry.register(tmp_path / "b")
    path = registry.fetch(record) / "model.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        registry.fetch(record)


def test_two_at_once_get_two_versions(registry, database, tmp_path):
    versions: list[str] = []

    def register(number: int) -> None:
        make_bundle(tmp_path / f"b{number}", weights=(0.1 * number, 1.0))
        with psycopg.connect(database) as own:
            versions.append(Registry(own, tmp_path / "artifacts").register(tmp_path / f"b{number}").version)

    threads = [threading.Thread(target=register, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == ["1.0.0", "1.1.0", "1.2.0"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [("m", ("m", None)), ("m@1.2.3", ("m", "1.2.3")), ("m@champion", ("m", "champion")), ("m@latest", ("m", "latest"))],
)
def test_references(text, parts):
    assert parse_reference(text) == parts


@pytest.mark.parametrize("text", ["", "M", "m@", "m@1.2", "m@v1.0.0@2", "../m"])
def test_malformed_references(text):
    with pytest.raises(ParameterError, match="names no model"):
        parse_reference(text)
