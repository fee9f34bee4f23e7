"""The hidden folder beside its place in which a data set is made: a lock, a journal, and what is finished.

``.NAME.exporting/`` holds ``set/``, which becomes the data set, and ``journal.jsonl``. The journal's first line is the
request; each later one says that something lies on the disk for good: the entity rows, a slice, the manifest. A process that
is killed leaves all of it, and the same request goes on after the last line.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tapeline.core.errors import AlreadyRunningError, ParameterError
from tapeline.datasets.manifest import MANIFEST_NAME
from tapeline.datasets.part_files import sync_file, sync_folder

_JOURNAL, _LOCK, _SET, _OLD = "journal.jsonl", "lock", "set", "replaced"

Record = dict[str, Any]


def work_folder(out_dir: Path) -> Path:
    """Where a data set for that place is made."""
    place = out_dir.absolute()
    return place.with_name(f".{place.name}.exporting")


def check_folder(out_dir: Path, *, overwrite: bool) -> None:
    """Refuse a folder that is in use.

    Raises
    ------
    ParameterError
        If it holds anything and `overwrite` is not set, or holds something that is no data set.
    """
    if not out_dir.exists() or (out_dir.is_dir() and not any(out_dir.iterdir())):
        return
    if not overwrite:
        raise ParameterError(f"{out_dir} is in use", remedy="Choose another folder, or pass --overwrite")
    if not (out_dir / MANIFEST_NAME).is_file():
        raise ParameterError(f"{out_dir} holds something that is no data set", remedy="Choose another folder")


class WorkFolder:
    """An unfinished data set. Get one with `opened_work`.

    Attributes
    ----------
    folder
        The folder itself.
    set
        What becomes the data set.
    spill
        For what is needed only while it is made.
    records
        What is finished, in order; the request is not among them.
    """

    def __init__(self, out_dir: Path, folder: Path, records: list[Record]) -> None:
        self._out_dir = out_dir.absolute()
        self.folder = folder
        self.set = folder / _SET
        self.spill = folder / "spill"
        self.records = records

    def begin(self, request: Record) -> None:
        """Start anew: nothing is finished."""
        for one in self.folder.iterdir():
            if one.is_dir() and one.name != _OLD:
                shutil.rmtree(one)
        self.set.mkdir()
        self._write([{"request": request}])
        self.records = []

    def add(self, record: Record) -> None:
        """Note that something is finished; it is on the disk already, and so is this note when this returns."""
        with (self.folder / _JOURNAL).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.records.append(record)

    def keep(self, request: Record, count: int) -> None:
        """Forget all but the first records: what they describe is not there any more."""
        self.records = self.records[:count]
        self._write([{"request": request}, *self.records])

    def publish(self) -> None:
        """Move the finished data set to its place, and in the same moment what was there away from it."""
        for folder, _, files in os.walk(self.set):
            for name in files:
                sync_file(Path(folder, name))
            sync_folder(Path(folder))
        if self._out_dir.exists():
            self._out_dir.rename(self.folder / _OLD)
        self.set.rename(self._out_dir)
        sync_folder(self._out_dir.parent)

    def put_back(self) -> None:
        """Undo half a replacement: the old data set was moved away, the new one is not in its place."""
        old = self.folder / _OLD
        if old.exists() and not self._out_dir.exists():
            old.rename(self._out_dir)

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, records: list[Record]) -> None:
        fresh = self.folder / f"{_JOURNAL}.new"
        fresh.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        sync_file(fresh)
        fresh.rename(self.folder / _JOURNAL)
        sync_folder(self.folder)


@contextmanager
def opened_work(out_dir: Path, *, restart: bool) -> Iterator[tuple[WorkFolder, Record | None]]:
    """The work folder of a place, locked against other processes, and the request that was begun in it, if any.

    Parameters
    ----------
    out_dir
        Where the data set will be.
    restart
        Forget what was begun.

    Raises
    ------
    AlreadyRunningError
        If another export writes to the same place.
    """
    folder = work_folder(out_dir)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder, out_dir):
        request, records = (None, []) if restart else _read(folder)
        work = WorkFolder(out_dir, folder, records)
        work.put_back()
        yield work, request


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """In which points two requests differ."""
    return [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]


@contextmanager
def _locked(folder: Path, out_dir: Path) -> Iterator[None]:
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            continue  # another process finished, and took the folder away
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _same_file(handle, folder / _LOCK):
                break
            os.close(handle)
        except BlockingIOError:
            os.close(handle)
            raise AlreadyRunningError(
                f"another export to {out_dir} is running",
                where=str(folder),
                remedy="Wait for it, or choose another folder",
            ) from None
    try:
        yield
    finally:
        os.close(handle)


def _same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _read(folder: Path) -> tuple[Record | None, list[Record]]:
    """The request and the records; a last line that was not written to its end does not count."""
    try:
        lines = (folder / _JOURNAL).read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return None, []
    records: list[Record] = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
        if not line.endswith("\n"):
            records.pop()
    if not records or "request" not in records[0] or not (folder / _SET).is_dir():
        return None, []
    return records[0]["request"], records[1:]
