"""Runs servers for tests and outlives nobody.

Started as ``python server_guard.py FOLDER ORDER`` with a pipe as standard input. It starts what the order (JSON) names, prints
``ready``, and waits for the pipe to close, which the system does when the test process ends, whatever ended it. Then it
kills the servers and removes the folder. Should this process itself be killed, the servers die with it.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

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


def start(folder: Path, order: dict[str, Any]) -> None:
    """Start what the order names: ``valkey``, ``postgres`` (with programs and settings), or any ``command``."""
    place = Place.inside(folder)
    if order:
        place.own()
    options = ServerOptions(durable=False, die_with_parent=True)
    if order.get("valkey"):
        start_valkey(place, options)
    if "postgres" in order:
        wanted = order["postgres"]
        programs = Path(wanted["programs"]) if "programs" in wanted else None
        settings = tuple((name, value) for name, value in wanted.get("settings", ()))
        start_postgres(
            place,
            ServerOptions(durable=False, die_with_parent=True, postgres_programs=programs, postgres_settings=settings),
        )
    if "command" in order:
        server = subprocess.Popen(
            order["command"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            preexec_fn=options.before_start,  # noqa: PLW1509 - this process has one thread
        )
        assert server.stdout is not None
        if server.stdout.readline().strip() != b"ready":
            raise RuntimeError(f"{order['command'][0]} did not get ready")


def main() -> None:
    """Start, wait for the pipe to close, end."""
    folder, order = Path(sys.argv[1]), json.loads(sys.argv[2])
    parent = os.getppid()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # only the pipe counts: Ctrl-C reaches the tests, and they close it
    try:
        me = ProcessIdentity.of(os.getpid())
        assert me is not None
        (folder / OWNER).write_text(f"{me.pid} {me.started}")
        start(folder, order)
        print("ready", flush=True)
        # A child that the tests forked may hold the pipe open after them, so their process is watched too.
        while os.getppid() == parent and not select.select([sys.stdin], [], [], 1.0)[0]:
            pass
    finally:
        end(folder)


if __name__ == "__main__":
    main()
