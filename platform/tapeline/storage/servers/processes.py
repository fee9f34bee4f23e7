"""Processes by identity: a number alone is not enough, because numbers are used again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessIdentity:
    """One process, told apart from a later one that was given the same number.

    Attributes
    ----------
    pid
        Process number.
    started
        When it started, as the system writes it; compared for equality only.
    """

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """The living process with this number, or none."""
        started = _started(pid)
        return None if started is None else cls(pid, started)

    @property
    def is_alive(self) -> bool:
        """Whether that very process still runs; one that has ended and waits to be reaped does not."""
        return _started(self.pid) == self.started

    def wait(self, timeout_s: float) -> bool:
        """Wait until the process has ended; false if it has not by then."""
        deadline = time.monotonic() + timeout_s
        pause_s = 0.002
        while self.is_alive:
            if time.monotonic() > deadline:
                return not self.is_alive
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.1)
        reap(self.pid)
        return True

    def stop(self, gentle: signal.Signals, *, timeout_s: float) -> bool:
        """Send a signal, and SIGKILL if the process has not ended in time.

        Returns
        -------
        bool
            Whether the gentle signal was enough.
        """
        self.send(gentle)
        if self.wait(timeout_s):
            return True
        self.send(signal.SIGKILL)
        self.wait(10.0)
        return False

    def send(self, number: signal.Signals) -> None:
        """Send a signal if the process is still this one."""
        if self.is_alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def is_taken(pid: int) -> bool:
    """Whether the system still lists the number, be it for a process that ended and was not reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def reap(pid: int) -> None:
    """Collect the exit status of a child of ours that ended, so that its number is free."""
    with suppress(ChildProcessError, OSError):
        os.waitpid(pid, os.WNOHANG)


def _started(pid: int) -> str | None:
    if pid <= 0:
        return None
    if _PROC.is_dir():
        try:
            # The command's name, in parentheses, may hold anything; what follows the last one is regular.
            fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            return None
        return None if fields[0] in "ZX" else fields[19]
    shown = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split(maxsplit=1)
    return None if len(shown) < 2 or shown[0].startswith("Z") else shown[1].strip()


def processes_inside(folder: Path) -> Iterator[ProcessIdentity]:
    """Living processes whose working folder is `folder` or below it.

    Both servers work inside their data folder, so this finds what a killed parent left behind. Only processes that the
    caller may look into are seen; without ``/proc`` none are.
    """
    inside = str(folder.resolve())
    for entry in _PROC.iterdir() if _PROC.is_dir() else ():
        if not entry.name.isdigit():
            continue
        try:
            working = str((entry / "cwd").readlink()).removesuffix(" (deleted)")
        except OSError:
            continue
        if working == inside or working.startswith(inside + os.sep):
            identity = ProcessIdentity.of(int(entry.name))
            if identity is not None:
                yield identity
