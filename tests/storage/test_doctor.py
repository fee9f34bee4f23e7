"""The doctor sees each illness it is meant to see, and names the cure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis
from tapeline.core.settings import Settings
from tapeline.storage.servers import doctor, doctor_postgres
from tapeline.storage.servers.checks import Check, is_local, megabytes
from tapeline.storage.servers.doctor import examine
from tapeline.storage.servers.doctor_redis import _transport as redis_transport

Alter = Callable[[str], None]


@pytest.fixture
def alter(database: str) -> Alter:
    """Runs a statement on the test's database; {} stands for its name."""

    def run(statement: str) -> None:
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute(statement.format(f'"{admin.info.dbname}"'))

    return run


def named(checks: list[Check], name: str) -> Check:
    found = [check for check in checks if check.name == name]
    assert len(found) == 1, [check.name for check in checks]
    return found[0]


def test_a_healthy_pair_has_one_fault_that_tests_chose(settings: Settings) -> None:
    checks = examine(settings)
    assert [check.name for check in checks if check.verdict == "fail"] == ["durability"], "fsync is off in tests"
    assert all(check.remedy for check in checks if check.verdict != "ok")
    for name in ("disk", "memory", "postgresql", "schema", "timescaledb", "safe horizon", "time to live", "eviction"):
        named(checks, name)


@pytest.mark.parametrize(
    ("statement", "name", "verdict", "remedy"),
    [
        ("ALTER DATABASE {} SET timezone = 'Asia/Tokyo'", "time zone", "warn", "UTC"),
        ("ALTER DATABASE {} SET jit = on", "jit", "warn", "jit = off"),
        ("ALTER DATABASE {} SET synchronous_commit = off", "durability", "fail", "RESET"),
        ("DELETE FROM tapeline.schema_migrations WHERE number > 2", "schema", "fail", "tapeline migrate"),
        ("DROP FUNCTION tapeline.safe_horizon()", "safe horizon", "fail", None),
        (
            (
                "INSERT INTO tapeline.sources VALUES ('slow', 'bars', 7200000000); "
                "INSERT INTO tapeline.feature_view_versions VALUES ('hourly', 1, 'h', 'p', 'hourly__v1', "
                '\'{{"ttl_us": 3600000000, "rows": {{"source": "slow"}}}}\')'
            ),
            "time to live",
            "warn",
            "longer TTL",
        ),
    ],
)
def test_each_illness_of_the_database(
    settings: Settings, alter: Alter, statement: str, name: str, verdict: str, remedy: str | None
) -> None:
    if name != "durability":
        assert named(examine(settings), name).verdict == "ok"
    alter(statement)
    check = named(examine(settings), name)
    assert check.verdict == verdict
    if remedy is not None:
        assert remedy in (check.remedy or "")


def test_a_transaction_that_holds_the_horizon_is_named(
    settings: Settings, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_postgres, "_HORIZON_LAG_WARN_S", 0.0)
    with psycopg.connect(database, application_name="sleeper") as holder:
        holder.execute("SELECT 1")
        check = named(examine(settings), "safe horizon")
        assert check.verdict == "warn"
        assert "sleeper" in check.found
        assert f"pg_terminate_backend({holder.info.backend_pid})" in (check.remedy or "")


@pytest.mark.parametrize(
    ("setting", "value", "name"),
    [
        ("maxmemory-policy", "allkeys-lru", "eviction"),
        ("maxmemory", "0", "online store memory"),
        ("maxmemory", "1", "online store memory"),
        ("appendonly", "no", "online store durability"),
    ],
)
def test_each_illness_of_the_online_store(
    settings: Settings, redis_url: str, setting: str, value: str, name: str
) -> None:
    assert named(examine(settings), name).verdict == "ok"
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        former = client.config_get(setting)[setting]
        client.config_set(setting, value)
        try:
            check = named(examine(settings), name)
        finally:
            client.config_set(setting, former)
    assert check.verdict == "warn"
    assert check.remedy


def test_servers_that_are_away_are_findings_and_not_errors(tmp_path: Path) -> None:
    checks = examine(Settings(home=tmp_path))
    assert {check.name for check in checks if check.verdict == "fail"} == {"postgresql", "online store"}
    assert all("tapeline up" in (check.remedy or "") for check in checks if check.verdict == "fail")


def test_a_full_disk_is_seen(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_DISK_WARN_BYTES", 1 << 60)
    assert named(examine(settings), "disk").verdict == "warn"
    monkeypatch.setattr(doctor, "_DISK_FAIL_BYTES", 1 << 60)
    assert named(examine(settings), "disk").verdict == "fail"


def test_a_database_whose_home_is_gone_is_reported(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "SHARED_FOLDER", tmp_path / "shared")
    left = tmp_path / "shared" / "abc"
    left.mkdir(parents=True)
    (left / "home").write_text(str(tmp_path / "gone"))
    check = named(examine(settings), "left over")
    assert str(left) in (check.remedy or "")


@pytest.mark.parametrize(
    ("url", "verdict"),
    [
        ("redis://cache:6379/0", "warn"),
        ("redis://me:secret@10.0.0.1:6379/0", "warn"),
        ("rediss://me:secret@cache:6379/0", "ok"),
        ("redis://127.0.0.1:6379/0", "ok"),
        ("redis://localhost", "ok"),
        ("redis://[::1]:6379/0", "ok"),
        ("unix:///run/valkey.sock", "ok"),
    ],
)
def test_what_leaves_the_machine_in_the_clear_is_seen(tmp_path: Path, url: str, verdict: str) -> None:
    check = redis_transport(Settings(home=tmp_path, redis_url=url))
    assert check.verdict == verdict
    assert "secret" not in check.found


def test_local_hosts_and_sizes() -> None:
    assert [is_local(host) for host in ("", "/run/pg", "localhost", "db.example")] == [True, True, True, False]
    assert (megabytes(5 << 20), megabytes(3 << 30)) == ("5 MB", "3.0 GB")
