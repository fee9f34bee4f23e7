"""Runs a test session's servers and outlives nobody.

Started as ``python server_guard.py FOLDER`` with a pipe as standard input. It starts the servers, prints ``ready``, and
waits for the pipe to close, which the system does when the test process ends, whatever ended it. Then it kills the
servers and removes the folder. Should this process itself be killed, the servers die with it.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from tapeline.storage.servers.options import ServerOptions
from tapeline.storage.servers.place import Place
from tapeline.storage.servers.postgres_server import running_postgres, start_postgres
from tapeline.storage.servers.processes import ProcessIdentity, processes_inside
from tapeline.storage.servers.valkey_server import start_valkey

OWNER = "owner"


def end(folder: Path) -> None:
    """Kill whatever works in the folder, then remove it. Nothing in it is worth a gentle stop."""
    postgres = running_postgres(Place.inside(folder))
    if postgres is not None:
        postgres.stop(signal.SIGQUIT, timeout_s=5.0)
    for process in list(processes_inside(folder)):
        process.stop(signal.SIGKILL, timeout_s=5.0)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Start, wait for the pipe to close, end."""
    folder = Path(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # only the pipe counts: Ctrl-C reaches the tests, and they close it
    try:
        me = ProcessIdentity.of(os.getpid())
        assert me is not None
        (folder / OWNER).write_text(f"{me.pid} {me.started}")
        place = Place.inside(folder)
        place.own()
        options = ServerOptions(durable=False, die_with_parent=True)
        start_valkey(place, options)
        start_postgres(place, options)
        print("ready", flush=True)
        sys.stdin.buffer.read()
    finally:
        end(folder)


if __name__ == "__main__":
    main()
