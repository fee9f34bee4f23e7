"""Backup and restore: recording times survive, damage is named, and a killed run leaves nothing visible."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import psycopg
import pyarrow.parquet as pq
import pytest
from tapeline.compute import backfill
from tapeline.core.errors import IntegrityError, ParameterError, SchemaError
from tapeline.datasets import Generated, export, rebuild
from tapeline.datasets.point_in_time import as_of_join
from tapeline.registry import Registry
from tapeline.registry.backup import backup, restore, verify_backup
from tapeline.registry.store import FolderStore
from tapeline.storage import migrations as migrations_module
from tapeline.storage.migrations import migrate
from tapeline.storage.raw import append_bars

from tests.datasets.market import LAG_US, PLAN, SOURCE, SPEC, add_prices, bars_of, sessions_from
from tests.registry.bundles import LINEAGE_HASH, PLAN_HASH, make_bundle

TABLES = (
    "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname IN ('tapeline', 'features', 'feast') AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
    " AND c.relname NOT IN ('schema_migrations', 'edition_policies', 'daily_summaries') ORDER BY 1, 2"
)


def content(connection: psycopg.Connection) -> dict[str, list[str]]:
    """Every row of every table, recording times included."""
    found = {}
    for schema, name in connection.execute(TABLES).fetchall():
        rows = connection.execute(f'SELECT t::text FROM "{schema}"."{name}" t').fetchall()
        found[f"{schema}.{name}"] = sorted(row for (row,) in rows)
    connection.rollback()
    return found


def market(connection: psycopg.Connection) -> None:
    """Bars of two symbols with a correction, their features by a real back-fill, and a table as Feast's registry has them."""
    connection.execute(
        "INSERT INTO tapeline.sources (source, kind, declared_lag_us, calendar) VALUES (%s, 'bars', %s, 'XNYS')",
        (SOURCE, LAG_US),
    )
    connection.execute("DROP SCHEMA IF EXISTS feast CASCADE")  # the Community server of the tests has one database
    connection.execute("CREATE SCHEMA feast")
    connection.execute(
        "CREATE TABLE feast.feature_views (name text NOT NULL, project varchar(50) NOT NULL, at bigint NOT NULL,"
        " proto bytea, PRIMARY KEY (name, project))"
    )
    connection.execute("CREATE INDEX by_project ON feast.feature_views (project DESC)")
    connection.execute("INSERT INTO feast.feature_views VALUES ('a', 'p', 1, '\\x00ff'), ('b', 'p', 2, NULL)")
    connection.execute(
        "INSERT INTO tapeline.quarantine (source, table_name, location, rule, reason, content, content_sha256)"
        " VALUES ('s', 't', 'line 1', 'r', 'ü \"quoted\"', '{\"a\": [1, null]}', 'x')"
    )
    connection.commit()
    sessions = sessions_from("2010-01-04", 60)
    closes = 50 + np.cumsum(np.random.default_rng(0).normal(size=60))
    for symbol in ("AAA", "BBB"):
        add_prices(connection, symbol, sessions, closes)
    backfill(connection, SPEC)
    append_bars(connection, bars_of("AAA", part(sessions, 30), np.array([70.0])), SOURCE, declared_lag_us=LAG_US)
    connection.commit()
    backfill(connection, SPEC)


def part(sessions, index):
    return type(sessions)("XNYS", sessions.open_us[index : index + 1], sessions.close_us[index : index + 1])


@pytest.fixture
def saved(connection, tmp_path):
    """A database with a market, and its backup."""
    market(connection)
    return backup(connection, tmp_path / "saved", None), tmp_path / "saved"


@pytest.fixture
def other(empty_database):
    with psycopg.connect(empty_database, options="-c timezone=UTC") as opened:
        yield opened


def test_every_row_comes_back_with_its_recording_time(connection, saved, other):
    manifest, folder = saved
    before = content(connection)
    assert {name for name, rows in before.items() if rows} >= {
        "tapeline.bars", "features.tiny__v1", "tapeline.quarantine", "feast.feature_views", "tapeline.state_snapshots",
    }  # fmt: skip
    assert manifest.rows == sum(map(len, before.values()))
    done = restore(other, folder, None)
    assert done.loaded.rows == manifest.rows
    assert content(other) == before
    # Identities go on where they stood, keys and indexes are there.
    next_id = other.execute(
        "INSERT INTO tapeline.quarantine (source, table_name, location, rule, reason, content, content_sha256)"
        " VALUES ('s', 't', 'line 2', 'r', '', '{}', 'y') RETURNING id"
    ).fetchone()
    assert next_id == (2,)
    with pytest.raises(psycopg.errors.UniqueViolation):
        other.execute("INSERT INTO feast.feature_views VALUES ('a', 'p', 1, NULL)")
    other.rollback()
    indexes = [name for (name,) in other.execute("SELECT indexdef FROM pg_indexes WHERE schemaname <> 'pg_catalog'")]
    assert any("feature_views USING btree (project DESC)" in text for text in indexes)
    assert any("tiny__v1 USING btree (symbol, event_timestamp DESC" in text for text in indexes)
    with pytest.raises(psycopg.errors.CheckViolation):
        other.execute("INSERT INTO features.tiny__v1 VALUES ('A', '2010-01-02', '2010-01-01', now(), 0, 1, 1)")


@pytest.mark.parametrize("target", ["none", "apache", "community"])
@pytest.mark.parametrize("origin", ["none", "apache", "community"])
@pytest.mark.edition("apache")
def test_from_any_edition_to_any_other(origin, target, request, tmp_path):
    if origin == target == "community":
        pytest.skip("the Community server of the tests has one database: see the test of its policies")
    urls = {}
    for edition in dict.fromkeys((origin, target)):
        name = "empty_database" if edition == "none" else f"{edition}_database"
        urls[edition] = request.getfixturevalue(name)
    with psycopg.connect(urls[origin], options="-c timezone=UTC") as connection:
        migrate(connection, chunk_interval_us=7 * 86_400_000_000)
        market(connection)
        if origin == "community":
            chunks = "SELECT count(public.compress_chunk(c)) FROM public.show_chunks('tapeline.bars') c"
            assert connection.execute(chunks).fetchone()[0] > 3
            connection.commit()
        before = content(connection)
        manifest = backup(connection, tmp_path / "saved", None)
        assert manifest.edition == origin
        if origin == target:
            restore(connection, tmp_path / "saved", None, overwrite=True)
            assert content(connection) == before
            return
    with psycopg.connect(urls[target], options="-c timezone=UTC") as other:
        other.execute("DROP SCHEMA IF EXISTS feast CASCADE")
        other.commit()
        done = restore(other, tmp_path / "saved", None, chunk_interval_us=7 * 86_400_000_000)
        assert done.loaded.edition == target
        assert content(other) == before
        if target != "none":
            hypertables = other.execute(
                "SELECT hypertable_name, num_chunks FROM timescaledb_information.hypertables"
                " WHERE hypertable_schema IN ('tapeline', 'features')"
            ).fetchall()
            counts = dict(hypertables)
            assert counts["bars"] > 3
            assert counts["tiny__v1"] > 3


@pytest.mark.edition("community")
def test_a_policy_that_was_removed_stays_removed(community_database, tmp_path):
    with psycopg.connect(community_database, options="-c timezone=UTC") as connection:
        migrate(connection)
        connection.execute("SELECT public.remove_compression_policy('tapeline.trades')")
        connection.commit()
        market(connection)
        before = content(connection)
        backup(connection, tmp_path / "saved", None)
        restore(connection, tmp_path / "saved", None, overwrite=True)
        assert content(connection) == before
        jobs = set(
            connection.execute(
                "SELECT hypertable_name, proc_name FROM timescaledb_information.jobs WHERE hypertable_schema = 'tapeline'"
            ).fetchall()
        )
        assert ("bars", "policy_compression") in jobs
        assert ("trades", "policy_compression") not in jobs
        connection.rollback()
        migrate(connection)
        again = connection.execute(
            "SELECT count(*) FROM timescaledb_information.jobs WHERE hypertable_name = 'trades'"
            " AND proc_name = 'policy_compression'"
        ).fetchone()
        assert again == (0,)


def test_vintages_rebuilds_and_later_corrections_survive(connection, other, tmp_path):
    market(connection)
    first = export(connection, PLAN, Generated(), tmp_path / "early", labels="direction:5d")
    sessions = sessions_from("2010-01-04", 60)
    append_bars(connection, bars_of("BBB", part(sessions, 20), np.array([90.0])), SOURCE, declared_lag_us=LAG_US)
    connection.commit()
    backfill(connection, SPEC)
    connection.commit()
    second = export(connection, PLAN, Generated(), tmp_path / "late", labels="direction:5d")
    assert first.content_sha256 != second.content_sha256
    manifest = backup(connection, tmp_path / "saved", None)
    assert first.as_of_us < second.as_of_us <= manifest.safe_horizon_us <= manifest.taken_us
    restore(other, tmp_path / "saved", None)
    for name, old in (("early", first), ("late", second)):
        again = rebuild(other, tmp_path / name)
        assert again.same
        assert again.manifest.content_sha256 == old.content_sha256
    rows = pq.read_table(tmp_path / "early" / "entities")
    for vintage_us in (first.as_of_us - 1, first.as_of_us, second.as_of_us - 1, second.as_of_us, None):
        here, there = (
            as_of_join(c, PLAN.views, rows, vintage_us=vintage_us, with_times=True) for c in (connection, other)
        )
        assert pl.DataFrame(here).equals(pl.DataFrame(there)), "NaN equal to NaN"
    # The restored database goes on: the same correction gives the same rows on both.
    for database in (connection, other):
        database.rollback()
        append_bars(database, bars_of("AAA", part(sessions, 40), np.array([20.0])), SOURCE, declared_lag_us=LAG_US)
        database.commit()
        report = backfill(database, SPEC)
        assert report.rows_added > 10
        database.commit()
        assert rebuild(database, tmp_path / "late").same
    values = "SELECT symbol, event_timestamp, sequence, sma_3::text, rsi_4::text FROM features.tiny__v1 ORDER BY 1, 2, 3, 4, 5"
    assert connection.execute(values).fetchall() == other.execute(values).fetchall()


def test_registered_models_come_along(connection, other, tmp_path):
    connection.execute("CREATE TABLE features.daily_technical__v2 (symbol text, rsi_14 float8, roc_10 float8)")
    connection.execute(
        "INSERT INTO tapeline.feature_view_versions (view, version, lineage_hash, plan_hash, table_name, definition)"
        " VALUES ('daily_technical', 2, %s, %s, 'daily_technical__v2', '{}')",
        (LINEAGE_HASH, PLAN_HASH),
    )
    connection.commit()
    make_bundle(tmp_path / "b")
    record = Registry(connection, tmp_path / "artifacts").register(tmp_path / "b", aliases=["champion"])
    manifest = backup(connection, tmp_path / "saved", FolderStore(tmp_path / "artifacts"))
    assert manifest.bundles == (record.bundle_sha256,)
    assert restore(other, tmp_path / "saved", FolderStore(tmp_path / "elsewhere")).bundles == 1
    registry = Registry(other, tmp_path / "elsewhere")
    found = registry.resolve("daily_direction", "champion")
    assert registry.fetch(found).name == record.bundle_sha256
    assert found == record
    altered = tmp_path / "saved" / "bundles" / record.bundle_sha256 / "model.onnx"
    altered.write_bytes(altered.read_bytes()[:-1] + b"!")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        verify_backup(tmp_path / "saved")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def edit_manifest(folder: Path) -> None:
    data = json.loads((folder / "manifest.json").read_text())
    data["tables"][0]["rows"] += 1
    (folder / "manifest.json").write_text(json.dumps(data))


DAMAGE = {
    "a flipped bit": (lambda folder: flip(folder / "tables/tapeline.bars.copy.zst"), r"tapeline\.bars has SHA-256"),
    "a cut file": (
        lambda folder: os.truncate(folder / "tables/features.tiny__v1.copy.zst", 100),
        r"features\.tiny__v1 has SHA-256",
    ),
    "a lost file": (
        lambda folder: (folder / "tables/tapeline.trades.copy.zst").unlink(),
        r"tapeline\.trades is missing",
    ),
    "a strange file": (lambda folder: (folder / "tables/x").touch(), "tables/x is not part"),
    "an edited manifest": (edit_manifest, "the manifest has SHA-256"),
    "half a manifest": (lambda folder: os.truncate(folder / "manifest.json", 500), "the manifest is damaged"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "there is no backup"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_backup_is_refused_by_name(name, saved, other):
    damage, message = DAMAGE[name]
    damage(saved[1])
    with pytest.raises(IntegrityError, match=message):
        restore(other, saved[1], None)
    assert content(other) == {}


def test_a_file_that_changes_after_it_was_verified_rolls_everything_back(saved, other, monkeypatch):
    _, folder = saved
    real = migrations_module.apply_migrations

    def damage_then_apply(*arguments, **options):
        flip(folder / "tables/tapeline.state_snapshots.copy.zst")
        return real(*arguments, **options)

    monkeypatch.setattr("tapeline.storage.backup.loading.apply_migrations", damage_then_apply)
    with pytest.raises(IntegrityError, match=r"tapeline\.state_snapshots"):
        restore(other, folder, None)
    assert content(other) == {}


def test_a_database_in_use_is_left_alone_unless_told(saved, connection):
    _, folder = saved
    before = content(connection)
    with pytest.raises(ParameterError, match=r"not empty: .* has rows.*--overwrite"):
        restore(connection, folder, None)
    assert content(connection) == before
    connection.execute("DELETE FROM tapeline.bars")
    connection.execute("INSERT INTO feast.feature_views VALUES ('c', 'p', 3, NULL)")
    connection.commit()
    restore(connection, folder, None, overwrite=True)
    assert content(connection) == before


def test_a_freshly_migrated_database_is_empty_enough(saved, other, connection):
    migrate(other)
    restore(other, saved[1], None)
    assert content(other) == content(connection)


def test_a_target_folder_in_use_is_refused(saved, connection):
    with pytest.raises(ParameterError, match="in use"):
        backup(connection, saved[1], None)


def test_an_older_schema_is_brought_up_to_date(empty_database, tmp_path, monkeypatch):
    """A backup of this version's schema, restored by a version with one migration more."""
    newer = tmp_path / "newer"
    newer.mkdir()
    for migration in migrations_module.migrations():
        (newer / migration.name).write_text(migration.sql)
    last = newer / f"{len(list(newer.iterdir())) + 1:04}_extra.sql"
    last.write_text("CREATE TABLE tapeline.extra (a integer);")
    with psycopg.connect(empty_database, options="-c timezone=UTC") as old:
        migrate(old)
        market(old)
        before = content(old)
        backup(old, tmp_path / "saved", None)
        with monkeypatch.context() as patch:
            patch.setattr(migrations_module, "_packaged_folder", lambda: newer)
            done = restore(old, tmp_path / "saved", None, overwrite=True)
            assert done.loaded.migrated == (last.name,)
            migrations_module.require_schema(old)
            after = content(old)
            assert {name: rows for name, rows in after.items() if name in before} == before
            backup(old, tmp_path / "newest", None)
        with pytest.raises(SchemaError, match="does not know"):
            restore(old, tmp_path / "newest", None, overwrite=True)


RUN = """
import sys, psycopg
from pathlib import Path
from tapeline.registry.backup import backup, restore
action, url, folder = sys.argv[1:]
with psycopg.connect(url) as connection:
    print("go", flush=True)
    if action == "backup":
        backup(connection, Path(folder), None)
    else:
        restore(connection, Path(folder), None)
print("done", flush=True)
"""


def run(action: str, url: str, folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", RUN, action, url, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"
    return process


@pytest.mark.parametrize("seed", range(4))
def test_a_backup_that_is_killed_leaves_no_folder_and_the_next_removes_what_it_left(
    seed, connection, database, tmp_path
):
    market(connection)
    started = time.perf_counter()
    backup(connection, tmp_path / "whole", None)
    took = time.perf_counter() - started
    process = run("backup", database, tmp_path / "killed")
    time.sleep(random.Random(seed).uniform(0, took))
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate()
    if "done" not in output and (tmp_path / "killed").exists():
        verify_backup(tmp_path / "killed")  # killed after the folder had got its name
    backup(connection, tmp_path / "next", None)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("seed", range(4))
def test_a_restore_that_is_killed_leaves_an_empty_database(seed, saved, connection, empty_database, other):
    started = time.perf_counter()
    restore(other, saved[1], None)
    took = time.perf_counter() - started
    for schema in ("tapeline", "features", "feast"):
        other.execute(f"DROP SCHEMA {schema} CASCADE")
    other.commit()
    process = run("restore", empty_database, saved[1])
    time.sleep(random.Random(seed).uniform(0, took))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        busy = other.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        ).fetchone()
        other.rollback()
        if busy == (0,):
            break
        time.sleep(0.05)
    found = content(other)
    assert found in ({}, content(connection)), "all or nothing"


def test_other_schemas_and_what_cannot_be_described(connection, other, tmp_path):
    connection.execute("CREATE TABLE public.logged (id bigserial, at timestamptz DEFAULT now(), x float8[], y jsonb)")
    connection.execute("INSERT INTO public.logged (x, y) VALUES ('{1,NULL,NaN}', '{}'), (NULL, NULL)")
    connection.commit()
    rows = connection.execute("SELECT * FROM public.logged ORDER BY id").fetchall()
    connection.commit()
    manifest = backup(connection, tmp_path / "saved", None, schemas=("public",))
    assert "public.logged" in {saved.table.full_name for saved in manifest.tables}
    restore(other, tmp_path / "saved", None)
    assert str(other.execute("SELECT * FROM public.logged ORDER BY id").fetchall()) == str(rows)
    assert other.execute("INSERT INTO public.logged DEFAULT VALUES RETURNING id").fetchone() == (3,)
    other.commit()
    with pytest.raises(ParameterError, match=r"public\.logged has rows"):
        restore(other, tmp_path / "saved", None)
    connection.execute("CREATE TABLE public.odd (x float8 DEFAULT random())")
    connection.commit()
    with pytest.raises(SchemaError, match=r"default random\(\) of column x.*public\.odd"):
        backup(connection, tmp_path / "odd", None, schemas=("public",))
    assert [p.name for p in tmp_path.iterdir()] == ["saved"]


def test_a_manifest_cannot_bring_sql(saved, other):
    """A column's type and default are written into SQL, so only plain ones are taken."""
    manifest, folder = saved
    place = next(i for i, t in enumerate(manifest.tables) if t.table.full_name == "features.tiny__v1")
    for change in ({"default": "(SELECT 1)"}, {"type": "float8); DROP TABLE tapeline.bars; --"}):
        data = manifest.model_dump(mode="json")
        data["tables"][place]["table"]["columns"][-1] |= change
        forged = type(manifest).model_validate(data).signed()
        (folder / "manifest.json").write_text(forged.model_dump_json())
        with pytest.raises(SchemaError, match="cannot describe column"):
            restore(other, folder, None)
        assert content(other) == {}


def test_commands(database, redis_url, empty_database, connection, tmp_path):
    market(connection)
    environment = os.environ | {"TAPELINE_HOME": str(tmp_path / "home")}

    def tapeline(*arguments: str, url: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "tapeline", *arguments],
            env=environment | {"TAPELINE_POSTGRES_URL": url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    folder = str(tmp_path / "saved")
    written = json.loads(tapeline("backup", folder, "--json", url=database))
    assert written["rows"] == sum(map(len, content(connection).values()))
    assert "IntegrityError" in tapeline("restore", str(tmp_path / "none"), "--check", url=database, code=1)
    assert json.loads(tapeline("restore", folder, "--check", "--json", url="postgresql:///nowhere"))["intact"]
    assert "not empty" in tapeline("restore", folder, url=database, code=2)
    assert "Restored" in tapeline("restore", folder, url=empty_database)
