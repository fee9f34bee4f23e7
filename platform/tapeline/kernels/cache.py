"""The private folder where compiled kernels are kept."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import tomllib
from functools import cache
from pathlib import Path

from tapeline.core.errors import ConfigurationError
from tapeline.core.home import nearest_home

_PRIVATE = 0o700
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


@cache
def kernel_sources_hash() -> str:
    """SHA-256 (hexadecimal) over the bytes of every source file of this package."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.relative_to(Path(__file__).parent).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _home() -> Path:
    """The data folder by the rule of :class:`tapeline.core.settings.Settings`, without importing pydantic here."""
    configured = os.environ.get("TAPELINE_HOME")
    if configured is None:
        try:
            text = Path(os.environ.get("TAPELINE_CONFIG", "tapeline.toml")).read_text(encoding="utf-8")
            configured = tomllib.loads(text).get("home")
        except (OSError, tomllib.TOMLDecodeError):  # the settings report a bad file, with its place
            configured = None
    home = nearest_home() if configured is None else Path(str(configured)).expanduser()
    return home.resolve()


def private_folder(folder: Path) -> Path:
    """Make a folder that only this user can enter; cached machine code is executed, so nobody else may write it.

    Raises
    ------
    ConfigurationError
        If the folder exists and belongs to, or can be written by, somebody else.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=_PRIVATE)
    status = folder.stat()
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & _OTHERS_MAY_WRITE):
        raise ConfigurationError(
            "the folder of compiled kernels can be written by another user",
            where=str(folder),
            remedy="Remove it, or run: chmod 700 on it as its owner",
        )
    return folder


@cache
def cache_folder() -> Path:
    """The folder of compiled kernels: ``<home>/kernels/<hash of all kernel sources>``, mode 0700.

    Where the data folder cannot be written (a read-only image), a temporary folder of this process's own takes its
    place: kernels then compile at every start.
    """
    try:
        parent = private_folder(_home() / "kernels")
        return private_folder(parent / kernel_sources_hash()[:32])
    except (PermissionError, OSError) as error:
        if isinstance(error, ConfigurationError):
            raise
        return Path(tempfile.mkdtemp(prefix="tapeline-kernels-"))
