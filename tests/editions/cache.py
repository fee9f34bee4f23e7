"""A folder for what is fetched once and used by every later run."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tapeline.storage.servers.account import postgres_account


class EditionUnavailable(Exception):
    """This machine cannot run an edition; the message says why."""


def cache_folder() -> Path:
    """The user's cache, or a system one where PostgreSQL's account may not enter the user's."""
    personal = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve()
    chosen = personal if postgres_account().can_enter(personal) else Path("/var/cache")
    folder = chosen / "tapeline"
    folder.mkdir(parents=True, exist_ok=True)
    if chosen != personal:
        folder.chmod(0o755)
    return folder


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Let two test runs that start together fetch once."""
    with (cache_folder() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
