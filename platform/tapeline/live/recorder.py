"""Writes recordings; their form is told in :mod:`tapeline.live.recording`."""

from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path
from typing import IO

from tapeline.core.errors import ConfigurationError, DiskFullError
from tapeline.core.hashing import canonical_json
from tapeline.live.frames import Frame
from tapeline.live.recording import BLOCK, BLOCK_MAGIC, FRAME, HEAD, HEAD_MAGIC, NAME, VERSION, block_checksum, zstd
from tapeline.live.source import LiveSource

BLOCK_BYTES = 1 << 18
"""A block is closed when it has so many, or when its frames' events are about to be sent."""
FILE_BYTES = 256 << 20
KEEP_BYTES = 16 << 30
_PARTS_MAX = 10_000


class Recorder:
    """Writes one run. For one thread.

    Parameters
    ----------
    folder
        Where; made if it does not exist.
    source
        What is recorded; it is kept with the frames, without any secret.
    run_us
        When the run began, µs: its name.
    file_bytes
        Size from which on the next file is begun.
    keep_bytes
        Size of all recordings of this source from which on earlier runs are removed, the oldest first.

    Raises
    ------
    ConfigurationError
        If the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        source: LiveSource,
        run_us: int,
        *,
        file_bytes: int = FILE_BYTES,
        keep_bytes: int = KEEP_BYTES,
    ) -> None:
        self._folder = folder
        self._source = source
        self._run = run_us
        self._file_bytes = file_bytes
        self._keep_bytes = keep_bytes
        self._codec = zstd()
        self._frames: list[bytes] = []
        self._waiting = 0
        self._part = -1
        self._run_bytes = 0
        self._file: IO[bytes] | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._begin_file()
        except OSError as error:
            raise _told(error, folder) from error

    @property
    def is_full(self) -> bool:
        """Whether the run has half of all room: the next one should begin, so that earlier ones can be removed."""
        return 2 * self._run_bytes >= self._keep_bytes or self._part + 1 >= _PARTS_MAX

    def append(self, frame: Frame) -> None:
        """Take a frame in; it is written with its block."""
        tag = frame.tag.encode()
        self._frames += [FRAME.pack(frame.kind, len(tag), len(frame.data), frame.receive_us), tag, frame.data]
        self._waiting += FRAME.size + len(tag) + len(frame.data)
        if self._waiting >= BLOCK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits: a process that is killed from here on does not lose it.

        Raises
        ------
        DiskFullError
            If there is no room.
        """
        if not self._frames or self._file is None:
            return
        raw = b"".join(self._frames)
        packed = self._codec.compress(raw, asbytes=True)
        count = len(self._frames) // 3
        head = BLOCK.pack(BLOCK_MAGIC, len(raw), len(packed), count, block_checksum(len(raw), packed, count))
        at = self._file.tell()
        try:
            _write(self._file, head + packed)
        except OSError as error:
            self._file.truncate(at)  # what came later would stand behind half a block
            self._file.seek(at)
            raise _told(error, self._folder) from error
        try:
            self._frames, self._waiting = [], 0
            self._run_bytes += len(head) + len(packed)
            if self._file.tell() >= self._file_bytes:
                self._begin_file()
        except OSError as error:
            raise _told(error, self._folder) from error

    def close(self) -> None:
        """Write what waits and end the file, which then is on the disk."""
        try:
            self.flush()
        finally:
            self._end_file()

    def _begin_file(self) -> None:
        self._end_file()
        self._part += 1
        content = {
            "name": self._source.name,
            "run": self._run,
            "part": self._part,
            "source": self._source.model_dump(mode="json"),
        }
        body = canonical_json(content)
        path = self._folder / f"{self._source.name}-{self._run:016d}-{self._part:04d}.tlrec"
        self._file = path.open("xb", buffering=0)
        _write(self._file, HEAD.pack(HEAD_MAGIC, VERSION, len(body), zlib.crc32(body)) + body)
        self._remove_old()

    def _end_file(self) -> None:
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def _remove_old(self) -> None:
        """Remove whole runs, the oldest first, until there is room; never the one that is being written."""
        runs: dict[int, list[Path]] = {}
        for path in self._folder.iterdir():
            match = NAME.fullmatch(path.name)
            if match and match["name"] == self._source.name:
                runs.setdefault(int(match["run"]), []).append(path)
        sizes = {run: sum(path.stat().st_size for path in paths) for run, paths in runs.items()}
        total = sum(sizes.values())
        for run in sorted(runs):
            if total <= self._keep_bytes or run >= self._run:
                return
            total -= sizes[run]
            for path in sorted(runs[run], reverse=True):  # its first file last: a run without that one is not replayed
                path.unlink()


def _write(file: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _told(error: OSError, folder: Path) -> DiskFullError | ConfigurationError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFullError("the recording does not fit on the disk", where=str(folder), remedy="Make room")
    return ConfigurationError(f"the recording cannot be written: {error.strerror}", where=str(folder))
