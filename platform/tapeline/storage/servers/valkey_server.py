"""Embedded Valkey: start it, stop it. It runs as the caller and answers on a socket that only the caller reaches."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import redis

from tapeline.core.errors import UnavailableError
from tapeline.storage.servers.binaries import valkey_program
from tapeline.storage.servers.options import ServerOptions, memory_bytes
from tapeline.storage.servers.place import Place
from tapeline.storage.servers.processes import ProcessIdentity

_PID_FILE = "valkey.pid"
_LOG = "valkey.log"
_CONFIGURATION = "valkey.conf"
_START_S = 60.0
_STOP_S = 30.0
_LOG_BYTES_MAX = 16 << 20


def start_valkey(place: Place, options: ServerOptions) -> ProcessIdentity:
    """Start Valkey and wait until it has loaded its data.

    Every write is in the append-only file before it is acknowledged, so killing the server loses none. Nothing is evicted: a
    full server refuses writes rather than lose a feature value silently.

    Raises
    ------
    UnavailableError
        If it does not answer in a minute; the message carries the end of its log.
    """
    program = valkey_program()
    log = place.valkey_data / _LOG
    if log.is_file() and log.stat().st_size > _LOG_BYTES_MAX:
        log.replace(log.with_suffix(".log.1"))
    path = place.valkey_data / _CONFIGURATION
    path.write_text("".join(f"{name} {value}\n" for name, value in _configuration(place, options)))
    process = subprocess.Popen(
        [program, path],
        cwd=place.valkey_data,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=options.before_start,  # noqa: PLW1509 - only set in a process without threads
    )
    identity = ProcessIdentity.of(process.pid)
    if identity is None or not _wait_until_ready(place, identity):
        process.kill()
        process.wait()
        raise UnavailableError(
            f"Valkey did not start: {_log_tail(log)}",
            where=str(place.valkey_data),
            remedy="See valkey.log there; `tapeline doctor` checks disk and memory",
        )
    process.returncode = 0  # it outlives this object on purpose
    return identity


def stop_valkey(place: Place) -> bool:
    """Stop Valkey after it has written everything to disk; false if it did not run."""
    identity = running_valkey(place)
    if identity is None:
        return False
    identity.stop(signal.SIGTERM, timeout_s=_STOP_S)
    return True


def running_valkey(place: Place) -> ProcessIdentity | None:
    """The server that runs on these data, if one does."""
    try:
        identity = ProcessIdentity.of(int((place.valkey_data / _PID_FILE).read_text()))
    except (OSError, ValueError):
        return None
    if identity is None:
        return None
    try:
        return identity if Path(f"/proc/{identity.pid}/cwd").samefile(place.valkey_data) else None
    except FileNotFoundError:
        return None if Path("/proc").is_dir() else identity
    except OSError:
        return None


def _configuration(place: Place, options: ServerOptions) -> list[tuple[str, str]]:
    return [
        ("port", "0"),
        ("unixsocket", _quoted(place.valkey_socket)),
        ("unixsocketperm", "700"),
        ("dir", _quoted(place.valkey_data)),
        ("pidfile", _quoted(place.valkey_data / _PID_FILE)),
        ("logfile", _quoted(place.valkey_data / _LOG)),
        ("daemonize", "no"),
        ("databases", "16"),
        ("save", '""'),
        ("appendonly", "yes"),
        ("appendfsync", "everysec" if options.durable else "no"),
        ("maxmemory", str(memory_bytes() // 2)),
        ("maxmemory-policy", "noeviction"),
    ]


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _wait_until_ready(place: Place, identity: ProcessIdentity) -> bool:
    client = redis.Redis(unix_socket_path=str(place.valkey_socket), socket_timeout=5.0)
    deadline = time.monotonic() + _START_S
    with client:
        while time.monotonic() < deadline and identity.is_alive:
            try:
                client.ping()
            except redis.RedisError:  # not listening yet, or still loading
                time.sleep(0.01)
            else:
                return True
    return False


def _log_tail(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()[-5:]
    except OSError:
        lines = []
    return " | ".join(lines) or "it wrote no log"
