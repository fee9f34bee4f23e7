"""Examines the machine, the database and the online store, and says what to do about each problem."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tapeline.core.errors import TapelineError
from tapeline.core.settings import Settings
from tapeline.storage.postgres import connect
from tapeline.storage.redis import connect_redis
from tapeline.storage.servers.account import postgres_account
from tapeline.storage.servers.binaries import SHARED_FOLDER, postgres_programs, valkey_program
from tapeline.storage.servers.checks import Check, megabytes
from tapeline.storage.servers.doctor_postgres import examine_database
from tapeline.storage.servers.doctor_redis import examine_online_store
from tapeline.storage.servers.options import memory_bytes
from tapeline.storage.servers.place import Place

_DISK_WARN_BYTES = 5 << 30
_DISK_FAIL_BYTES = 512 << 20
_MEMORY_WARN_BYTES = 2 << 30


def examine(settings: Settings) -> list[Check]:
    """Check everything once. A server that is away is a failed check, not an error.

    Parameters
    ----------
    settings
        Which data folder and servers.

    Returns
    -------
    list of Check
        In the order: machine, database, online store.
    """
    try:
        checks = [*_machine(settings)]
    except TapelineError as error:
        checks = [Check("data folder", "fail", error.what, error.remedy)]
    try:
        with connect(settings, autocommit=True) as connection:
            checks += examine_database(connection, settings)
    except TapelineError as error:
        checks.append(Check("postgresql", "fail", error.what, error.remedy))
    try:
        with connect_redis(settings) as client:
            checks += examine_online_store(client, settings)
    except TapelineError as error:
        checks.append(Check("online store", "fail", error.what, error.remedy))
    return checks


def _machine(settings: Settings) -> Iterator[Check]:
    place = Place.of_home(settings.home_path)
    folders = {settings.home_path}
    if settings.postgres_url is None:
        yield _programs()
        folders.add(place.postgres_data)
    yield from _disks(folders)
    memory = memory_bytes()
    yield Check(
        "memory",
        "ok" if memory >= _MEMORY_WARN_BYTES else "warn",
        megabytes(memory),
        None
        if memory >= _MEMORY_WARN_BYTES
        else "Give it 2 GB or more: the servers, a back-fill and training share it",
    )
    yield from _orphans()


def _programs() -> Check:
    try:
        account = postgres_account()
        programs = postgres_programs(account)
        valkey_program()
    except TapelineError as error:
        return Check("embedded servers", "fail", error.what, error.remedy)
    return Check("embedded servers", "ok", f"PostgreSQL would run as {account.name} from {programs}")


def _disks(folders: set[Path]) -> Iterator[Check]:
    """Free space where the data lie; folders on one disk are told once."""
    seen = set()
    for folder in sorted(folders):
        there = next(step for step in (folder, *folder.parents) if step.exists())
        device = there.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        free = shutil.disk_usage(there).free
        if not os.access(there, os.W_OK):
            yield Check("disk", "fail", f"{there} may not be written", "Choose another data folder with TAPELINE_HOME")
        elif free < _DISK_WARN_BYTES:
            verdict = "fail" if free < _DISK_FAIL_BYTES else "warn"
            remedy = "Free some, or move TAPELINE_HOME: a full disk stops PostgreSQL"
            yield Check("disk", "fail" if verdict == "fail" else "warn", f"{megabytes(free)} free at {there}", remedy)
        else:
            yield Check("disk", "ok", f"{megabytes(free)} free at {there}")


def _orphans() -> Iterator[Check]:
    """Databases that were put outside a data folder which is gone."""
    for folder in sorted(SHARED_FOLDER.glob("*")) if SHARED_FOLDER.is_dir() else ():
        note = folder / "home"
        try:
            home = Path(note.read_text())
        except OSError:
            continue
        if not (home / "servers").is_dir():
            yield Check(
                "left over",
                "warn",
                f"the database in {folder} belonged to {home}, which is gone",
                f"If nobody wants it back: rm -r {folder}",
            )
