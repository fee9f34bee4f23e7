"""Guards for traps in the layout itself."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_platform_folder_is_no_package() -> None:
    """`platform/__init__.py` would shadow the standard library for everything started from the root."""
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_the_standard_library_platform_is_seen_from_the_root() -> None:
    code = "import platform; print(platform.python_version())"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == platform.python_version()
