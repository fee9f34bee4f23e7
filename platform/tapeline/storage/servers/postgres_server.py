"""Embedded PostgreSQL: make the cluster, start it, stop it. Drives the wheel's own programs and nothing else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psycopg

from tapeline.core.errors import UnavailableError
from tapeline.storage.servers.account import caller, postgres_account
from tapeline.storage.servers.binaries import postgres_programs
from tapeline.storage.servers.options import ServerOptions, postgres_configuration
from tapeline.storage.servers.place import DATABASE, Place
from tapeline.storage.servers.processes import ProcessIdentity, is_taken, processes_inside, reap

_INCLUDED = "tapeline.conf"
_LOG = "tapeline-start.log"
_PID_FILE = "postmaster.pid"
_START_S = 60.0
_STOP_S = 60.0
_ORPHANS_S = 10.0


def create_cluster(place: Place, options: ServerOptions) -> None:
    """Make an empty cluster unless there is one. A try that was killed half-way is done again from the start.

    The locale is PostgreSQL's built-in C.UTF-8: text sorts by code point on every machine, whatever its C library says.
    """
    account = postgres_account()
    if place.cluster.is_dir():
        return
    programs = options.postgres_programs or postgres_programs(account)
    draft = place.postgres_data / "draft"  # inside, because the account may not create folders beside its own
    shutil.rmtree(draft, ignore_errors=True)
    result = subprocess.run(
        [
            programs / "initdb",
            f"--pgdata={draft}",
            f"--username={DATABASE}",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--auth-local=peer",
            "--auth-host=reject",
            "--data-checksums",
            "--no-instructions",
            *([] if options.durable else ["--no-sync"]),
        ],
        **account.process_options,
        cwd=place.postgres_data,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise UnavailableError(
            f"PostgreSQL's initdb failed: {result.stderr.strip() or result.stdout.strip()}",
            where=str(place.postgres_data),
            remedy="Mend what it complains about and run `tapeline up` again",
        )
    with (draft / "postgresql.conf").open("a") as file:
        file.write(f"\n# Written anew at each start; ALTER SYSTEM overrides it.\ninclude_if_exists = '{_INCLUDED}'\n")
    draft.rename(place.cluster)


def start_postgres(place: Place, options: ServerOptions) -> ProcessIdentity:
    """Start PostgreSQL and wait until it answers; create the database if it is missing.

    Raises
    ------
    UnavailableError
        If it does not answer in a minute; the message carries the end of its log.
    """
    create_cluster(place, options)
    _configure(place, options)
    clear_stale_pid_file(place)
    account = postgres_account()
    programs = options.postgres_programs or postgres_programs(account)
    deadline = time.monotonic() + _START_S
    while True:
        with (place.folder / _LOG).open("wb") as log:
            process = subprocess.Popen(
                [programs / "postgres", "-D", place.cluster],
                **account.process_options,
                cwd=place.cluster,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the caller's terminal must not reach it
                preexec_fn=options.before_start,  # noqa: PLW1509 - only set in a process without threads
            )
        identity = ProcessIdentity.of(process.pid)
        if identity is not None and _wait_until_ready(place, identity, deadline):
            process.returncode = 0  # it outlives this object on purpose
            return identity
        process.wait()
        # After kill -9 of the server its workers need a moment to notice; until then their shared memory bars the way. And the
        # log collector of the one that did not start writes down why only after that one has ended.
        _wait_for_orphans(place)
        if "pre-existing shared memory block" not in _log_tail(place) or time.monotonic() > deadline:
            raise UnavailableError(
                f"PostgreSQL did not start: {_log_tail(place)}",
                where=str(place.postgres_data),
                remedy="See the log there; `tapeline doctor` checks disk and memory",
            )
        time.sleep(0.1)


def stop_postgres(place: Place, *, immediate: bool = False) -> bool:
    """Stop PostgreSQL: open transactions are rolled back, everything committed is on disk.

    Parameters
    ----------
    place
        Where it runs.
    immediate
        Do not write a checkpoint; the next start recovers from the log instead.

    Returns
    -------
    bool
        Whether it ran.
    """
    identity = running_postgres(place)
    if identity is None:
        return False
    identity.stop(signal.SIGQUIT if immediate else signal.SIGINT, timeout_s=_STOP_S)
    return True


def running_postgres(place: Place) -> ProcessIdentity | None:
    """The server that runs on these data, if one does."""
    pid = _recorded_pid(place.cluster / _PID_FILE)
    identity = None if pid is None else ProcessIdentity.of(pid)
    if identity is None or not _works_in(identity, place.cluster):
        return None
    return identity


def clear_stale_pid_file(place: Place) -> None:
    """Remove lock files, of the data folder and of the socket, whose number the system gives to some other program, or to a dead one
    that nobody reaped or that is still going.

    PostgreSQL itself would take any of these for a running server. They are removed only once no process works in the data folder
    any more. Where the number is free PostgreSQL's own check decides: it sees whether workers still hold the shared memory.
    """
    pid = _recorded_pid(place.cluster / _PID_FILE)
    if pid is None or running_postgres(place) is not None:
        return
    reap(pid)
    if not is_taken(pid):
        return
    if _wait_for_orphans(place):
        for file in (place.cluster / _PID_FILE, place.postgres_socket_lock):
            if _recorded_pid(file) == pid:
                file.unlink(missing_ok=True)


def _wait_for_orphans(place: Place) -> bool:
    """Give processes without their server a while to end; whether all did."""
    deadline = time.monotonic() + _ORPHANS_S
    while next(processes_inside(place.cluster), None) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _recorded_pid(file: Path) -> int | None:
    try:
        return abs(int(file.read_text().split("\n", 1)[0]))
    except (OSError, ValueError):
        return None


def _works_in(identity: ProcessIdentity, folder: Path) -> bool:
    try:
        return Path(f"/proc/{identity.pid}/cwd").samefile(folder)
    except FileNotFoundError:
        return not Path("/proc").is_dir()  # without /proc the lock file is all there is to go by
    except OSError:
        return False


def _configure(place: Place, options: ServerOptions) -> None:
    """Write settings and who may connect: the caller, by the operating system's word, as the one role."""
    settings = postgres_configuration(place.postgres_run, options)
    lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in settings.items()]
    user = caller().name.replace('"', '""')
    files = {
        _INCLUDED: "\n".join(lines) + "\n",
        "pg_hba.conf": f"local all {DATABASE} peer map=tapeline\n",
        "pg_ident.conf": f'tapeline "{user}" {DATABASE}\n',
    }
    account = postgres_account()
    for name, content in files.items():
        path = place.cluster / name
        path.write_text(content)
        path.chmod(0o600)
        if not account.is_caller:
            os.chown(path, account.uid, account.gid)


def _wait_until_ready(place: Place, identity: ProcessIdentity, deadline: float) -> bool:
    url = f"postgresql://{DATABASE}@/postgres?host={place.postgres_run}"
    while time.monotonic() < deadline:
        if not identity.is_alive:
            return False
        try:
            with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
                known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
                if known is None:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
            return True
        except psycopg.OperationalError:
            time.sleep(0.02)
    identity.stop(signal.SIGINT, timeout_s=5.0)
    return False


def _log_tail(place: Place) -> str:
    pieces = []
    logs = [place.folder / _LOG]
    with suppress(OSError):
        logs += sorted((place.cluster / "log").glob("*.log"), key=lambda path: path.stat().st_mtime)[-1:]
    for log in logs:
        with suppress(OSError):
            pieces += log.read_text(errors="replace").strip().splitlines()[-5:]
    return " | ".join(pieces) or "it wrote no log"


def _environment() -> dict[str, str]:
    # Nothing of the caller's: PGDATA, PGOPTIONS or a locale would change what the programs do.
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
