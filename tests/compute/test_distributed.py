"""Back-fills on a local Ray cluster of two workers: the same rows as one process gives, whatever dies, and nothing told of secrets."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tapeline.compute import backfill, backfill_on_ray, ray_cluster
from tapeline.core.errors import MissingExtraError, UnavailableError
from tapeline.features.view import FeatureViewSpec

from tests.compute.oracle import BARS, TRADES, Scenario, bar_scenario, bits, read_table, record, trade_scenario
from tests.support.session import SessionServers

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="NOT TESTED: back-fills on Ray. It is not installed: pip install 'tapeline[ray]'",
)
SECRET = "s3cret-of-the-database"
DATABASE = "test_ray"
ANSWER_S = 120.0
RUNS = 2


class Driver:
    """A process that runs back-fills on its own cluster."""

    def __init__(self, url: str) -> None:
        environment = os.environ | {"TAPELINE_POSTGRES_URL": url, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.compute.ray_driver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[2],
        )
        started = self.answer()
        self.session = Path(started["session"])
        self.address = started["address"]

    def ask(self, spec: FeatureViewSpec, **options: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"view": spec.definition(), "options": options}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], ANSWER_S)[0], "the driver does not answer"
        line = self._process.stdout.readline()
        assert line, "the driver has ended"
        return json.loads(line)

    def fill(self, spec: FeatureViewSpec, **options: Any) -> dict[str, Any]:
        self.ask(spec, **options)
        return self.answer()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(60)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()


@pytest.fixture(scope="module")
def url(servers: SessionServers, _template: str) -> Iterator[str]:
    """One database for the module: the workers of a cluster keep to that of their environment."""
    name = sql.Identifier(DATABASE)
    with psycopg.connect(servers.postgres_url("postgres"), autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(name, sql.Identifier(_template))
        )
    yield make_conninfo(servers.postgres_url(DATABASE), password=SECRET)
    with psycopg.connect(servers.postgres_url("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture(scope="module")
def driver(url: str) -> Iterator[Driver]:
    running = Driver(url)
    yield running
    running.close()
    shutil.rmtree(running.session.parents[1], ignore_errors=True)  # its driver was killed


@pytest.fixture
def connection(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url, options="-c timezone=UTC") as opened:
        yield opened


def named(spec: FeatureViewSpec, name: str, source: str) -> FeatureViewSpec:
    """The view under another name, over a source of its own."""
    return replace(spec, name=name, rows=replace(spec.rows, source=source))


def add_source(connection: psycopg.Connection, spec: FeatureViewSpec) -> None:
    with connection.transaction():
        connection.execute(
            "INSERT INTO tapeline.sources (source, kind, declared_lag_us) VALUES (%s, %s, 0)",
            (spec.rows.source, spec.rows.raw),
        )


def contents(connection: psycopg.Connection, spec: FeatureViewSpec) -> dict[str, list[Any]]:
    """All rows of a view's table in the order in which they rank, without when each was written."""
    return {
        symbol: [
            (event, number, available, bits(values))
            for event, number, available, _, values in sorted(rows, key=lambda row: row[:4])
        ]
        for symbol, rows in read_table(connection, spec).items()
    }


def kept(connection: psycopg.Connection, spec: FeatureViewSpec) -> list[Any]:
    """All snapshots of a view, without when each was written, and each entity's progress."""
    rows = connection.execute(
        "SELECT entity, event_timestamp, sequence, available_timestamp, rows_seen, NULL::timestamptz"
        " FROM tapeline.state_snapshots WHERE view = %(view)s UNION ALL"
        " SELECT entity, NULL, NULL, NULL, NULL, available_timestamp FROM tapeline.backfill_progress WHERE view = %(view)s",
        {"view": spec.name},
    ).fetchall()
    connection.commit()
    return sorted(rows, key=repr)


def until(what: Callable[[], Any], seconds: float = ANSWER_S) -> Any:
    """Wait for something to be."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.02)
    return found


@pytest.fixture
def watch(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url, autocommit=True) as opened:
        yield opened


def tasks_that_wait(watch: psycopg.Connection) -> list[int]:
    """Processes of tasks that wait for the lock of a table."""
    rows = watch.execute(
        "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'tapeline ray %'"
        " AND wait_event_type = 'Lock' AND wait_event = 'relation'"
    ).fetchall()
    return [int(name.rpartition(":")[2]) for (name,) in rows]


@contextlib.contextmanager
def held_up(url: str) -> Iterator[None]:
    """Nobody can write progress within the block, so no task can end."""
    with psycopg.connect(url) as opened:
        opened.execute("LOCK TABLE tapeline.backfill_progress IN SHARE MODE")
        yield


def made(symbols: Sequence[str], seed: int) -> list[Scenario]:
    rng = np.random.default_rng(seed)
    scenarios = []
    for symbol in symbols:
        scenario = bar_scenario(symbol, rng, 1)
        while not scenario.rows:
            scenario = bar_scenario(symbol, rng, 1)
        scenarios.append(scenario)
    return scenarios


# Without Ray ----------------------------------------------------------------------------------------------------------


def test_without_ray_the_error_names_the_extra(connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"ray is not installed.*tapeline\[ray\]"), ray_cluster():
        pass
    with pytest.raises(MissingExtraError, match=r"tapeline\[ray\]"):
        backfill_on_ray(connection, BARS)


# With it --------------------------------------------------------------------------------------------------------------


@needs_ray
@pytest.mark.parametrize("view", [BARS, TRADES], ids=lambda view: view.name)
def test_the_rows_are_those_of_one_process_bit_for_bit(
    driver: Driver, connection: psycopg.Connection, view: FeatureViewSpec
) -> None:
    here = named(view, f"{view.name}_here", f"{view.name}-same")
    there = named(view, f"{view.name}_there", f"{view.name}-same")
    add_source(connection, here)
    rng = np.random.default_rng(17)
    make = bar_scenario if view is BARS else trade_scenario
    scenarios = [make(f"{view.rows.raw}{number:02}", rng, RUNS) for number in range(24)]
    total = 0
    for run in range(RUNS):  # corrections, late rows and splits come with the second
        record(connection, here, scenarios, run)
        one = backfill(connection, here)
        found = driver.fill(there, entities_per_task=5)
        assert "report" in found, found
        assert {
            name: found["report"][name]
            for name in ("entities", "entities_changed", "rows_read", "rows_computed", "rows_added", "snapshots_added")
        } == {
            name: one.as_dict()[name]
            for name in ("entities", "entities_changed", "rows_read", "rows_computed", "rows_added", "snapshots_added")
        }
        assert 0 < found["report"]["quality"] <= 1  # judged by what is written together, so by tasks
        assert sum(found["told"]) == one.entities
        assert len(found["told"]) == -(-one.entities // 5)
        assert contents(connection, there) == contents(connection, here)
        assert kept(connection, there) == kept(connection, here)
        total += one.rows_added
    assert total > 100
    assert driver.fill(there)["report"]["rows_added"] == 0


@needs_ray
def test_a_worker_that_is_killed_at_work_is_followed_by_another_exactly(
    driver: Driver, connection: psycopg.Connection, watch: psycopg.Connection, url: str
) -> None:
    here, there = named(BARS, "kill_here", "kill"), named(BARS, "kill_there", "kill")
    add_source(connection, here)
    record(connection, here, made([f"K{number}" for number in range(8)], 3), 0)
    backfill(connection, here)
    with held_up(url):
        driver.ask(there, entities_per_task=4)  # a task for each processor
        working = until(lambda: len(found := tasks_that_wait(watch)) == 2 and found)
        os.kill(working[0], signal.SIGKILL)
        # The dead worker's session has its part still, and waits for the table; whoever does the part again waits for it.
        until(
            lambda: watch.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tapeline ray %'"
                " AND wait_event = 'advisory'"
            ).fetchone()[0]
        )
    found = driver.answer()
    assert "report" in found, found
    assert found["report"]["entities"] == sum(found["told"]) == 8
    assert contents(connection, there) == contents(connection, here)
    assert kept(connection, there) == kept(connection, here)


@needs_ray
def test_another_run_waits_for_all_tasks_and_tasks_are_bounded(
    driver: Driver, connection: psycopg.Connection, watch: psycopg.Connection, url: str
) -> None:
    view = named(BARS, "waiting", "waiting")
    add_source(connection, view)
    record(connection, view, made([f"W{number}" for number in range(6)], 4), 0)
    second: list[Any] = []
    with held_up(url):
        driver.ask(view, entities_per_task=1, tasks_max=1)
        until(lambda: tasks_that_wait(watch))
        other = threading.Thread(target=lambda: second.append(backfill(connection, view)))
        other.start()
        pid = connection.info.backend_pid
        until(
            lambda: watch.execute(
                "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'advisory'", (pid,)
            ).fetchone()
        )
        time.sleep(0.3)
        assert len(tasks_that_wait(watch)) == 1  # of two processors one is idle
        assert not second
    first = driver.answer()
    other.join(60)
    assert first["report"]["rows_added"] > 0
    assert second[0].rows_added == 0
    assert second[0].entities == 6


@needs_ray
def test_an_error_of_a_task_comes_through_as_itself_and_the_run_can_be_repeated(
    driver: Driver, connection: psycopg.Connection
) -> None:
    view = named(BARS, "refused", "refused")
    add_source(connection, view)
    record(connection, view, made([f"E{number}" for number in range(6)], 5), 0)
    connection.execute("CREATE TABLE refused AS SELECT 'E3' AS entity")
    connection.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.entity IN (SELECT entity FROM refused) THEN
                RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON tapeline.backfill_progress FOR EACH ROW EXECUTE FUNCTION refuse();
    """)
    connection.commit()
    found = driver.fill(view, entities_per_task=1)
    assert found["error"] == "DiskFullError"
    assert "no room" in found["message"]
    assert "features.refused__v1" in found["message"]
    assert "E3" not in contents(connection, view)
    connection.execute("DROP TRIGGER refuse ON tapeline.backfill_progress")
    connection.commit()
    assert driver.fill(view, entities_per_task=1)["report"]["entities"] == 6
    assert set(contents(connection, view)) == {f"E{number}" for number in range(6)}
    assert driver.fill(view, symbols=["E33"])["error"] == "UnknownNameError"
    assert driver.fill(view, tasks_max=0)["error"] == "ParameterError"


@needs_ray
def test_no_secret_is_in_what_ray_keeps(driver: Driver) -> None:
    """After the tests above, which had tasks done, errors raised and workers killed."""
    files = [file for file in driver.session.parent.rglob("*") if file.is_file()]
    assert any("worker" in file.name for file in files)
    assert [file for file in files if SECRET.encode() in file.read_bytes()] == []
    assert driver.session.parents[1].stat().st_mode & 0o077 == 0  # nobody else may look


@needs_ray
def test_the_command_starts_a_cluster_and_leaves_nothing_of_it(connection: psycopg.Connection, url: str) -> None:
    view = named(BARS, "by_command", "by-command")
    add_source(connection, view)
    record(connection, view, made([f"C{number}" for number in range(3)], 7), 0)
    before = set(Path("/tmp").glob("tl-ray-*"))
    code = (
        "import json, sys\n"
        "from tapeline.features import catalogue\n"
        "from tapeline.features.view import FeatureViewSpec\n"
        "catalogue.VIEWS = (FeatureViewSpec.from_definition(json.loads(sys.argv.pop())),)\n"
        "from tapeline.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "backfill", "by_command", "--ray", "local", "--ray-tasks", "2", "--no-online", "--json",
         json.dumps(view.definition())],
        capture_output=True, text=True, timeout=ANSWER_S, check=False,
        env=os.environ | {"TAPELINE_POSTGRES_URL": url, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)  # nothing else is printed there
    assert (report["view"], report["entities"]) == ("by_command", 3)
    assert set(contents(connection, view)) == {"C0", "C1", "C2"}
    assert set(Path("/tmp").glob("tl-ray-*")) <= before


@needs_ray
def test_an_address_where_nobody_listens_is_refused_at_once() -> None:
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999"):
        with pytest.raises(UnavailableError, match=f"no Ray cluster answers.*{address}"), ray_cluster(address):
            pass


@needs_ray
def test_a_run_whose_driver_is_killed_is_waited_for_and_taken_up(
    driver: Driver, connection: psycopg.Connection, watch: psycopg.Connection, url: str
) -> None:
    """The last test: it ends the cluster."""
    here, there = named(BARS, "orphan_here", "orphan"), named(BARS, "orphan_there", "orphan")
    add_source(connection, here)
    record(connection, here, made([f"O{number}" for number in range(6)], 6), 0)
    backfill(connection, here)
    second: list[Any] = []
    with held_up(url):
        driver.ask(there, entities_per_task=1)
        until(lambda: len(tasks_that_wait(watch)) == 2)
        driver.kill()
        other = threading.Thread(target=lambda: second.append(backfill(connection, there)))
        other.start()
        pid = connection.info.backend_pid
        until(
            lambda: watch.execute(
                "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'advisory'", (pid,)
            ).fetchone()
        )
        assert not second
    other.join(60)
    assert second[0].entities == 6
    assert contents(connection, there) == contents(connection, here)
    assert kept(connection, there) == kept(connection, here)
