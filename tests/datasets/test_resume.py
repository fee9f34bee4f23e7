"""Exports that are killed, that find no room, lose their database, or meet another one."""

from __future__ import annotations

import json
import random
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import polars as pl
import psycopg
import pytest
from tapeline.core.errors import AlreadyRunningError, LimitError, ParameterError, UnavailableError
from tapeline.core.timestamps import from_us
from tapeline.datasets import Generated, export, read_data, read_manifest, rebuild
from tapeline.datasets.workfolder import work_folder
from tapeline.storage.postgres import sibling

from tests.datasets.market import LAG_US, PLAN, add_values, open_market

CHILD = """
import sys
from pathlib import Path
import psycopg
from tapeline.datasets import Generated, export, rebuild
from tests.datasets.market import PLAN
url, out, what = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
def tell(progress):
    print(progress.stage, progress.done, flush=True)
with psycopg.connect(url) as connection:
    print("ready", flush=True)
    if what == "export":
        export(connection, PLAN, Generated(), out, labels="direction:5d", slice_rows=6, notify=tell, overwrite=True)
    else:
        rebuild(connection, Path(what), out_dir=out, notify=tell)
print("done", flush=True)
"""


class Stop(Exception):
    """Raised by a test where an export is to end."""


@pytest.fixture
def sessions(connection):
    return open_market(connection)


def child(*arguments):
    return subprocess.Popen([sys.executable, "-c", CHILD, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def stop_at(rows):
    def notify(progress):
        if progress.stage == "rows" and progress.done >= rows:
            raise Stop

    return notify


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_killed_at_random_moments_it_goes_on_to_the_same_bytes(connection, database, sessions, tmp_path):
    """SIGKILL, again and again, until it comes through; until then there is nothing in its place."""
    expected = export(connection, PLAN, Generated(), tmp_path / "expected", labels="direction:5d", slice_rows=6)
    moment = random.Random(11)
    out, kills, taken_up = tmp_path / "d", 0, 0
    for _ in range(20):
        process = child(database, out, "export")
        rows_left = moment.randrange(1, 6) if kills else 0
        for line in process.stdout:
            taken_up += line.startswith("reading again")
            rows_left -= line.startswith("rows")
            if rows_left <= 0 and not line.startswith("ready"):
                time.sleep(moment.random() * 0.03)
                process.kill()
                break
        if process.wait() == 0:
            break
        kills += 1
        assert not out.exists() or read_manifest(out).row_count == expected.row_count
        if out.exists():
            break
    assert kills >= 2
    assert taken_up
    found = read_manifest(out)
    read_data(out)
    assert found.content_sha256 == expected.content_sha256
    assert [part.rows for part in found.parts] == [part.rows for part in expected.parts]
    count = connection.execute(
        "SELECT count(*) FROM tapeline.datasets WHERE as_of = %s", (from_us(found.as_of_us),)
    ).fetchone()
    assert count == (1,)
    connection.rollback()
    rest = export(connection, PLAN, Generated(), out, labels="direction:5d", overwrite=True)
    assert rest.content_sha256 == expected.content_sha256
    assert names(tmp_path) == ["d", "expected"]


def test_it_goes_on_as_of_the_vintage_it_began_with(connection, sessions, tmp_path):
    expected = export(connection, PLAN, Generated(), tmp_path / "expected", slice_rows=9)
    with pytest.raises(Stop):
        export(connection, PLAN, Generated(), tmp_path / "d", slice_rows=9, notify=stop_at(18))
    assert not (tmp_path / "d").exists()
    add_values(connection, "AAA", type(sessions)("XNYS", sessions.open_us, sessions.close_us), np.ones((40, 2)))
    time.sleep(0.02)
    seen = []
    found = export(connection, PLAN, Generated(), tmp_path / "d", notify=seen.append)
    assert [one.done for one in seen if one.stage == "reading again"][-1] >= 18
    assert found.content_sha256 == expected.content_sha256
    assert found.as_of_us < export(connection, PLAN, Generated(), tmp_path / "new").as_of_us
    assert names(tmp_path) == ["d", "expected", "new"]


def test_what_was_damaged_since_is_made_again(connection, sessions, tmp_path):
    expected = export(connection, PLAN, Generated(), tmp_path / "expected", slice_rows=9)
    for damaged in ("data/part-00001.parquet", "entities/part-00000.parquet"):
        with pytest.raises(Stop):
            export(connection, PLAN, Generated(), tmp_path / "d", slice_rows=9, notify=stop_at(36))
        file = work_folder(tmp_path / "d") / "set" / damaged
        text = bytearray(file.read_bytes())
        text[len(text) // 2] ^= 1
        file.write_bytes(text)
        journal = work_folder(tmp_path / "d") / "journal.jsonl"
        journal.write_text(journal.read_text() + '{"slice": 4, "par')
        found = export(connection, PLAN, Generated(), tmp_path / "d", slice_rows=9, overwrite=True)
        assert found.content_sha256 == expected.content_sha256
        read_data(tmp_path / "d")
        (tmp_path / "d").rename(tmp_path / damaged.partition("/")[0])


def test_another_request_does_not_go_on_with_it(connection, sessions, tmp_path):
    with pytest.raises(Stop):
        export(connection, PLAN, Generated(), tmp_path / "d", labels="direction:5d", slice_rows=9, notify=stop_at(18))
    for options, point in (
        ({"labels": "direction:4d"}, "labels"),
        ({"labels": "direction:5d", "keep_without_label": True}, "rows without label"),
        ({"labels": "direction:5d", "partition_by": "year"}, "partitioning"),
    ):
        with pytest.raises(ParameterError, match=rf"differs in {point}.*--restart") as told:
            export(connection, PLAN, Generated(), tmp_path / "d", **options)
        assert ".d.exporting" in str(told.value)
    with pytest.raises(ParameterError, match="entity rows"):
        export(connection, PLAN, Generated(("AAA",)), tmp_path / "d", labels="direction:5d")
    found = export(connection, PLAN, Generated(("AAA",)), tmp_path / "d", labels="direction:5d", restart=True)
    assert found.row_count == 35
    assert names(tmp_path) == ["d"]


def test_rows_in_memory_are_told_apart_by_their_content(connection, sessions, tmp_path):
    moments = [from_us(int(close) + LAG_US) for close in sessions.close_us]
    rows = pl.DataFrame({"symbol": ["AAA"] * 40, "event_timestamp": moments})
    expected = export(connection, PLAN, rows, tmp_path / "expected")
    with pytest.raises(Stop):
        export(connection, PLAN, rows, tmp_path / "d", slice_rows=9, notify=stop_at(18))
    with pytest.raises(ParameterError, match="other entity rows"):
        export(connection, PLAN, rows.tail(39), tmp_path / "d")
    found = export(connection, PLAN, rows.reverse(), tmp_path / "d")
    assert found.content_sha256 == expected.content_sha256


def test_without_a_vintage_that_pins_it_it_starts_anew(connection, sessions, tmp_path):
    """One snapshot for all slices: what was read in another may not be mixed with it."""
    plan = replace(PLAN, views=(replace(PLAN.views[0], created_column=None),))
    changed = []

    def correct(progress):
        if progress.stage == "rows" and not changed:
            changed.append(progress)
            with psycopg.connect(connection.info.dsn) as other:
                part = type(sessions)("XNYS", sessions.open_us[30:], sessions.close_us[30:])
                # Without a created column nothing but the sequence makes one of two rows of a moment the later.
                add_values(other, "AAA", part, np.full((10, 2), 5.0), sequence=1)

    found = export(connection, plan, Generated(), tmp_path / "d", slice_rows=9, notify=correct)
    assert changed
    assert 5.0 not in read_data(tmp_path / "d")["sma_3"].to_pylist()
    with pytest.raises(Stop):
        export(connection, plan, Generated(), tmp_path / "e", slice_rows=9, notify=stop_at(9))
    connection.rollback()
    later = export(connection, plan, Generated(), tmp_path / "e", slice_rows=9)
    assert later.content_sha256 != found.content_sha256
    assert later.content_sha256 == export(connection, plan, Generated(), tmp_path / "f").content_sha256


def test_two_exports_to_one_folder(connection, database, sessions, tmp_path):
    inside = []

    def second(progress):
        if progress.stage == "rows" and not inside:
            with psycopg.connect(database) as other:
                for restart in (False, True):
                    with pytest.raises(AlreadyRunningError, match="another export"):
                        export(other, PLAN, Generated(), tmp_path / "d", restart=restart)
                inside.append(export(other, PLAN, Generated(), tmp_path / "e").content_sha256)

    found = export(connection, PLAN, Generated(), tmp_path / "d", slice_rows=9, notify=second)
    assert inside == [found.content_sha256]
    assert names(tmp_path) == ["d", "e"]


def test_a_lost_connection_is_replaced(connection, database, sessions, tmp_path):
    expected = export(connection, PLAN, Generated(), tmp_path / "expected", labels="direction:5d")
    connection.commit()
    ended = []

    def cut(progress):
        if progress.stage == "rows" and len(ended) < 2:
            with psycopg.connect(database, autocommit=True) as other:
                others = "datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
                rows = other.execute(
                    f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"
                ).fetchall()
                ended.append(len(rows))

    found = export(connection, PLAN, Generated(), tmp_path / "d", labels="direction:5d", slice_rows=9, notify=cut)
    assert ended == [1, 1]
    assert found.content_sha256 == expected.content_sha256
    assert connection.closed


def test_a_lost_snapshot_ends_it_clearly(connection, database, sessions, tmp_path):
    plan = replace(PLAN, views=(replace(PLAN.views[0], created_column=None),))

    def cut(progress):
        if progress.stage == "rows":
            with psycopg.connect(database, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))

    with pytest.raises(UnavailableError, match="snapshot"):
        export(connection, plan, Generated(), tmp_path / "d", slice_rows=9, notify=cut)
    assert not (tmp_path / "d").exists()


def test_a_connection_lost_before_the_first_slice_is_named(connection, database, sessions, tmp_path):
    first = export(connection, PLAN, Generated(), tmp_path / "first")
    for again in (
        lambda own: export(own, PLAN, Generated(), tmp_path / "d"),
        lambda own: rebuild(own, tmp_path / "first"),
    ):
        with sibling(connection) as own:
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", (own.info.backend_pid,))
            with pytest.raises(UnavailableError, match=r"PostgreSQL went away.*run it again"):
                again(own)
    assert not (tmp_path / "d").exists()
    assert export(connection, PLAN, Generated(), tmp_path / "d").content_sha256 == first.content_sha256


def test_a_database_that_stays_away_ends_it_clearly(connection, database, sessions, tmp_path, monkeypatch):
    monkeypatch.setattr("tapeline.datasets.database.WAITS_S", (0.01, 0.01))
    name = connection.info.dbname

    def cut(progress):
        if progress.stage == "rows":
            with psycopg.connect(database.replace(name, "postgres"), autocommit=True) as admin:
                admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
                admin.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))

    with pytest.raises(UnavailableError, match="same command again"):
        export(connection, PLAN, Generated(), tmp_path / "d", slice_rows=9, notify=cut)
    with psycopg.connect(database.replace(name, "postgres"), autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    with psycopg.connect(database) as again:
        seen = []
        export(again, PLAN, Generated(), tmp_path / "d", slice_rows=9, notify=seen.append)
        assert "reading again" in {one.stage for one in seen}


def test_no_room_on_the_disk(connection, sessions, tmp_path):
    """A limit on the size of files stands for a full disk: the same write fails. With room, it goes on."""
    expected = export(connection, PLAN, Generated(), tmp_path / "expected", slice_rows=9)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(progress):
        if progress.stage == "rows" and progress.done >= 18:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))

    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN
    try:
        with pytest.raises(LimitError, match=r"disk is full.*goes on"):
            export(connection, PLAN, Generated(), tmp_path / "d", slice_rows=9, notify=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "d").exists()
    found = export(connection, PLAN, Generated(), tmp_path / "d", slice_rows=9)
    assert found.content_sha256 == expected.content_sha256
    assert names(tmp_path) == ["d", "expected"]


def test_a_replacement_that_was_killed_half_way_is_undone(connection, sessions, tmp_path):
    """The old data set was moved away and the new one was not there yet."""
    old = export(connection, PLAN, Generated(("AAA",)), tmp_path / "d")
    with pytest.raises(Stop):
        export(connection, PLAN, Generated(), tmp_path / "d", slice_rows=9, overwrite=True, notify=stop_at(18))
    assert read_manifest(tmp_path / "d") == old
    (tmp_path / "d").rename(work_folder(tmp_path / "d") / "replaced")
    with pytest.raises(ParameterError, match="in use"):
        export(connection, PLAN, Generated(), tmp_path / "d")
    assert read_manifest(tmp_path / "d") == old
    assert export(connection, PLAN, Generated(), tmp_path / "d", overwrite=True).row_count == 70
    assert names(tmp_path) == ["d"]


def test_a_killed_rebuild_goes_on(connection, database, sessions, tmp_path, monkeypatch):
    manifest = export(connection, PLAN, Generated(), tmp_path / "d", labels="direction:5d", partition_by="month")
    monkeypatch.setattr("tapeline.datasets.slices.SLICE_ROWS_MAX", 9)
    monkeypatch.setattr("tapeline.datasets.slices.SLICE_ROWS_MIN", 9)
    with pytest.raises(Stop):
        rebuild(connection, tmp_path / "d", out_dir=tmp_path / "again", notify=stop_at(18))
    seen = []
    result = rebuild(connection, tmp_path / "d", out_dir=tmp_path / "again", notify=seen.append)
    assert result.same
    assert "reading again" in {one.stage for one in seen}
    assert read_data(tmp_path / "again").num_rows == manifest.row_count
    assert json.loads((tmp_path / "again/manifest.json").read_text())["content_sha256"] == manifest.content_sha256
