"""The operating-system account that PostgreSQL runs under, and what that account can reach.

PostgreSQL refuses to run as root. Started by root it therefore runs as the account `tapeline`, if the machine has one,
else as `nobody`; started by anyone else it runs as that user.
"""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapeline.core.errors import ConfigurationError

_UNPRIVILEGED = ("tapeline", "nobody")


@dataclass(frozen=True)
class Account:
    """A user of the operating system.

    Attributes
    ----------
    name
        Login name.
    uid, gid
        User and group number.
    """

    name: str
    uid: int
    gid: int

    @property
    def is_caller(self) -> bool:
        """Whether this process runs under the account already."""
        return self.uid == os.geteuid()

    @property
    def process_options(self) -> dict[str, Any]:
        """What `subprocess` needs to start a process under this account."""
        return {} if self.is_caller else {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can_enter(self, folder: Path) -> bool:
        """Whether the account may pass through a folder and all its parents, to reach what is named inside."""
        return self.is_caller or all(self._may_pass(step) for step in (folder, *folder.parents) if step.exists())

    def _may_pass(self, folder: Path) -> bool:
        status = folder.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid == self.gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)

    def own(self, folder: Path) -> Path:
        """Make a folder that only this account (and root) may enter; it must not belong to somebody else.

        Raises
        ------
        ConfigurationError
            If the folder exists as another account's, or as something other than a folder.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        if status.st_uid not in {self.uid, os.geteuid()} or not stat.S_ISDIR(status.st_mode):
            raise ConfigurationError(
                f"folder {folder} belongs to user {status.st_uid}, not to {self.name}",
                remedy="Remove it, or choose another data folder with TAPELINE_HOME",
            )
        if status.st_uid != self.uid:
            os.chown(folder, self.uid, self.gid)
        folder.chmod(0o700)
        return folder


def caller() -> Account:
    """The account of this process.

    Raises
    ------
    ConfigurationError
        If the process runs under a number that has no name: PostgreSQL and its peer authentication need one.
    """
    try:
        entry = pwd.getpwuid(os.geteuid())
    except KeyError:
        raise ConfigurationError(
            f"user number {os.geteuid()} has no entry in /etc/passwd, which embedded PostgreSQL needs",
            remedy="Add one, run as a named user, or set TAPELINE_POSTGRES_URL to a server that runs elsewhere",
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def postgres_account() -> Account:
    """The account that PostgreSQL runs under when this process starts it."""
    here = caller()
    if here.uid != 0:
        return here
    for name in _UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise ConfigurationError(
        "PostgreSQL refuses to run as root and this machine has no unprivileged account",
        remedy="Create one with: useradd --system tapeline",
    )
