"""A test run that is killed leaves nothing behind that the next one trips over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from tapeline.storage.servers.processes import ProcessIdentity, processes_inside

from tests.support.server_guard import OWNER
from tests.support.session import PREFIX, TEMPORARY, SessionServers, remove_leftovers

ROOT = Path(__file__).resolve().parents[1]
RUN = """
import os, sys, time
from tests.support.session import SessionServers
servers = SessionServers()
if "fork" in sys.argv and os.fork() == 0:
    sys.stdout.close()
    os.close(1)
    time.sleep(60)
    os._exit(0)
print(servers.folder, flush=True)
time.sleep(600)
"""


@pytest.fixture
def run() -> subprocess.Popen[str]:
    """A process that started servers as a test run does, and hangs."""
    return subprocess.Popen([sys.executable, "-c", RUN], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def folder_of(run: subprocess.Popen[str]) -> Path:
    assert run.stdout is not None
    folder = Path(run.stdout.readline().strip())
    assert len(list(processes_inside(folder))) > 2, "PostgreSQL with its workers, and Valkey"
    return folder


def guard_of(folder: Path) -> ProcessIdentity:
    pid, _, started = (folder / OWNER).read_text().partition(" ")
    return ProcessIdentity(int(pid), started)


def wait_until_gone(folder: Path, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not folder.exists() and not list(processes_inside(folder)):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_servers_and_folder_go_with_the_run(run: subprocess.Popen[str], number: signal.Signals) -> None:
    folder = folder_of(run)
    run.send_signal(number)
    run.communicate()
    assert wait_until_gone(folder, 15)


def test_a_forked_child_that_outlives_the_run_does_not_keep_its_servers() -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, "fork"], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    folder = folder_of(run)
    run.kill()
    run.wait()
    try:
        assert wait_until_gone(folder, 15)
    finally:
        os.killpg(run.pid, signal.SIGKILL)  # the child
        run.communicate()


def test_servers_go_even_with_their_guard_and_the_next_run_removes_the_folder(run: subprocess.Popen[str]) -> None:
    folder = folder_of(run)
    guard = guard_of(folder)
    os.kill(guard.pid, signal.SIGKILL)
    assert guard.wait(5)
    run.kill()
    run.communicate()
    deadline = time.monotonic() + 15
    while list(processes_inside(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(processes_inside(folder)) == []
    assert folder in remove_leftovers()
    assert not folder.exists()


def test_a_run_beside_this_one_is_left_alone(run: subprocess.Popen[str]) -> None:
    folder = folder_of(run)
    try:
        assert folder not in remove_leftovers()
        mine = SessionServers({"postgres": {}})
        assert mine.folder != folder
        with psycopg.connect(mine.postgres_url("tapeline")) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        mine.close()
        assert not mine.folder.exists()
        assert guard_of(folder).is_alive
    finally:
        run.kill()
        run.communicate()
    assert wait_until_gone(folder, 15)


def test_a_folder_that_somebody_is_still_making_is_left_alone() -> None:
    fresh = TEMPORARY / f"{PREFIX}being-made-{os.getpid()}"
    fresh.mkdir()
    try:
        assert fresh not in remove_leftovers()
        os.utime(fresh, (0, 0))
        assert fresh in remove_leftovers(), "nobody takes that long"
    finally:
        fresh.rmdir() if fresh.exists() else None
