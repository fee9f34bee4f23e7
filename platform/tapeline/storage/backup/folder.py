"""A folder that appears complete or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tapeline.core.errors import ParameterError

_PREFIX = ".incoming-backup-"
_LOCK_NAME = ".lock"
_MADE_WITHIN_S = 60


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """A hidden folder beside the target, which takes the target's name when the block ends well, and else is removed.

    What killed runs left beside it is removed first: a run that lives holds a lock in its folder.

    Raises
    ------
    ParameterError
        If the target exists and is not an empty folder.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ParameterError(f"{target} is in use", remedy="Name a folder that is not there yet")
    parent = target.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(parent)
    incoming = parent / f"{_PREFIX}{uuid.uuid4().hex}"
    incoming.mkdir(mode=0o700)
    try:
        with (incoming / _LOCK_NAME).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield incoming
            (incoming / _LOCK_NAME).unlink()
            _sync(incoming)
            if target.exists():
                target.rmdir()
            incoming.rename(target)
            _sync_folder(parent)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def remove_leftovers(parent: Path) -> list[Path]:
    """Remove what runs that were killed left in a folder; returns what."""
    removed = []
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            with (folder / _LOCK_NAME).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
        except FileNotFoundError:  # just being made or finished, or killed in the moment before it was locked
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime > _MADE_WITHIN_S:
                    folder.rmdir()
                    removed.append(folder)
        except OSError:  # it lives, or is another user's
            continue
    return removed


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_dir():
            _sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
