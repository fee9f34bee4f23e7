"""Servers of one test session, in a folder of their own: in memory where there is room, else under /tmp."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tapeline.storage.servers.place import Place
from tapeline.storage.servers.processes import ProcessIdentity

from tests.support.server_guard import OWNER, end

PREFIX = "tapeline-tests-"
TEMPORARY = Path("/tmp")
MEMORY = Path("/dev/shm")
MEMORY_BYTES_MIN = 4 << 30
"""Free room in memory from which on servers work there; those of several workers and editions share it."""
QUICK = [["max_wal_size", "256MB"], ["shared_buffers", "128MB"]]
"""Settings of a server that a database is made and dropped in for every test: each of that walks all buffers twice."""
_STARTING_S = 120.0


class SessionServers:
    """Starts servers under a guard process, which ends them when this process ends, however it ends.

    Parameters
    ----------
    order
        What to start, as `server_guard` understands it; none: the embedded PostgreSQL and Valkey. With an empty
        order the guard only watches the folder, and ends what others start in it.
    """

    def __init__(self, order: dict[str, Any] | None = None) -> None:
        remove_leftovers()
        if order is None:
            order = {"valkey": True, "postgres": {"settings": QUICK}}
        # A database for each test is hundreds of files, which takes ten times as long on a disk.
        where = MEMORY if "postgres" in order and has_room(MEMORY) else TEMPORARY
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=where))
        self.folder.chmod(0o755)  # PostgreSQL's account must pass through; what is inside is private
        self.place = Place.inside(self.folder)
        guard = Path(__file__).with_name("server_guard.py")
        self._guard = subprocess.Popen(
            [
                sys.executable,
                guard,
                self.folder,
                json.dumps(order),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._guard.stdout is not None
        if self._guard.stdout.readline().strip() != "ready":
            _, errors = self._guard.communicate()
            raise RuntimeError(f"the test servers did not start:\n{errors}")

    def postgres_url(self, database: str) -> str:
        """Address of one database of the session's PostgreSQL."""
        return f"postgresql://tapeline@/{database}?host={self.place.postgres_run}"

    def redis_url(self, database: int) -> str:
        """Address of one logical database of the session's Valkey."""
        return f"unix://{self.place.valkey_socket}?db={database}"

    def close(self) -> None:
        """End the servers and remove their folder."""
        self._guard.communicate(timeout=60)


def has_room(memory: Path) -> bool:
    """Whether servers can work in a file system in memory: a container's may be small, or forbid to run what lies in it."""
    try:
        status = os.statvfs(memory)
    except OSError:
        return False
    enough = shutil.disk_usage(memory).free >= MEMORY_BYTES_MIN
    return enough and os.access(memory, os.W_OK) and not status.f_flag & os.ST_NOEXEC


def remove_leftovers() -> list[Path]:
    """Remove what earlier sessions left whose guard is gone; sessions that run beside this one are left alone."""
    removed = []
    for folder in (*TEMPORARY.glob(f"{PREFIX}*"), *MEMORY.glob(f"{PREFIX}*")):
        try:
            pid, _, started = (folder / OWNER).read_text().partition(" ")
            abandoned = not ProcessIdentity(int(pid), started).is_alive
        except FileNotFoundError:
            try:
                abandoned = time.time() - folder.stat().st_mtime > _STARTING_S
            except FileNotFoundError:  # the other session removed it meanwhile
                continue
        except (PermissionError, ValueError):
            continue
        if abandoned:
            end(folder)
            removed.append(folder)
    return removed
