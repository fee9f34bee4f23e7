"""How the embedded servers run: sized to the machine, durable unless told otherwise."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_MIB = 1 << 20
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class ServerOptions:
    """What a caller may choose.

    Attributes
    ----------
    durable
        False: do not wait for the disk. A crash of the machine (not of the server) may then lose data; for tests.
    die_with_parent
        Have the system end the servers when the process that started them ends, however it ends (Linux).
    postgres_programs
        Folder of another PostgreSQL's programs (one built with TimescaleDB, say); none: those of the wheel.
    postgres_settings
        Settings beside those chosen here, as name and value.
    """

    durable: bool = True
    die_with_parent: bool = False
    postgres_programs: Path | None = None
    postgres_settings: tuple[tuple[str, str], ...] = ()

    @property
    def before_start(self) -> Callable[[], None] | None:
        """What the new process does before it becomes the server."""
        return _die_with_parent if self.die_with_parent and sys.platform == "linux" else None


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def memory_bytes() -> int:
    """Memory this process may use: the machine's, or less if a container is limited."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in _CGROUP_LIMITS:
        try:
            sizes.append(int(Path(limit).read_text()))
        except (OSError, ValueError):  # no such file, or the word "max"
            continue
    return min(sizes)


def postgres_configuration(run: Path, options: ServerOptions) -> dict[str, str]:
    """PostgreSQL settings for a machine shared with the rest of Tapeline.

    Parameters
    ----------
    run
        Folder of the socket.
    options
        The caller's choices.

    Returns
    -------
    dict of str to str
        Setting to value.
    """
    memory = memory_bytes() // _MIB
    shared = max(128, min(memory // 8, 2048))
    return {
        "listen_addresses": "",
        "port": "5432",  # only the socket's name
        "unix_socket_directories": str(run),
        "unix_socket_permissions": "0700",
        "max_connections": "100",
        "shared_buffers": f"{shared}MB",
        "effective_cache_size": f"{max(memory // 2, 2 * shared)}MB",
        "maintenance_work_mem": f"{max(64, min(memory // 16, 512))}MB",
        "work_mem": f"{max(8, min(memory // 256, 64))}MB",
        "max_wal_size": "2GB",
        "min_wal_size": "128MB",
        "checkpoint_timeout": "15min",
        "random_page_cost": "1.1",
        # A point-in-time query plans one cheap lateral lookup and runs it thousands of times; the planner takes the sum for
        # a long query and compiles it, which costs more than it runs.
        "jit": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "fsync": "on" if options.durable else "off",
        # On even where fsync is off: else killing the server alone loses commits.
        "synchronous_commit": "on",
        "full_page_writes": "on" if options.durable else "off",
        "logging_collector": "on",
        "log_directory": "log",
        "log_filename": "postgresql-%a.log",
        "log_truncate_on_rotation": "on",
        "log_rotation_age": "1d",
        "log_rotation_size": "0",
        "log_min_duration_statement": "5s",
        "log_line_prefix": "%m [%p] %a ",
        **dict(options.postgres_settings),
    }
