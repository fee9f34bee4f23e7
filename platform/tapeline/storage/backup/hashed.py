"""Files that are hashed while they are written or read."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any


class HashedFile(io.RawIOBase):
    """A file opened for reading or for writing, with the SHA-256 and number of the bytes that went through.

    Parameters
    ----------
    path
        The file; for writing it must not exist.
    mode
        ``rb`` or ``xb``.
    """

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__()
        self._file: Any = path.open(mode, buffering=0)
        self._digest = hashlib.sha256()
        self.count = 0

    @property
    def sha256(self) -> str:
        """Of what went through so far."""
        return self._digest.hexdigest()

    def readable(self) -> bool:
        return bool(self._file.readable())

    def writable(self) -> bool:
        return bool(self._file.writable())

    def readinto(self, buffer: Any) -> int:
        count = int(self._file.readinto(buffer) or 0)
        self._take(memoryview(buffer)[:count])
        return count

    def write(self, data: Any) -> int:
        view = memoryview(data)
        written = 0
        while written < len(view):  # a raw file may take less than it is given
            written += int(self._file.write(view[written:]))
        self._take(view)
        return written

    def flush(self) -> None:
        if not self._file.closed:
            self._file.flush()

    def fileno(self) -> int:
        return int(self._file.fileno())

    def close(self) -> None:
        self._file.close()
        super().close()

    def drain(self) -> None:
        """Read to the end."""
        buffer = bytearray(1 << 20)
        while self.readinto(buffer):
            pass

    def _take(self, view: memoryview) -> None:
        self._digest.update(view)
        self.count += len(view)
