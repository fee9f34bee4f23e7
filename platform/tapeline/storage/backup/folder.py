"""A folder that appears complete or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tapeline.core.errors import ParameterError

_PREFIX = ".incoming-backup-"
_LOCK = ".lock"


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """A hidden folder beside the target, which takes the target's name when the block ends well, and else is removed.

    What killed runs left beside it is removed first: a run that lives holds a lock, in a file beside its folder.

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
    with _locked(incoming):
        try:
            incoming.mkdir(mode=0o700)
            yield incoming
            _sync(incoming)
            if target.exists():
                target.rmdir()
            incoming.rename(target)
            _sync_folder(parent)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock that says that the folder's maker lives. Its file is there for as long as the folder is."""
    path = folder.with_name(folder.name + _LOCK)
    while True:
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():  # somebody who cleans up came between the two
                continue
            try:
                yield
            finally:
                path.unlink()
            return


def remove_leftovers(parent: Path) -> list[Path]:
    """Remove what runs that were killed left in a folder; returns what."""
    removed = []
    for path in parent.glob(f"{_PREFIX}*{_LOCK}"):
        folder = path.with_name(path.name.removesuffix(_LOCK))
        with suppress(OSError), path.open("r+") as lock:  # it lives, has just ended, or is another user's
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder.exists():
                shutil.rmtree(folder)
                removed.append(folder)
            path.unlink()
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
