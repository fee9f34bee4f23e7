"""A Python environment for a peer, made on demand from its requirements."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path


def interpreter(folder: Path) -> Path:
    """The interpreter of the environment for ``folder/requirements.txt``; makes the environment if they are new."""
    environment = Path(__file__).parents[1] / ".peers" / folder.name
    requirements = folder / "requirements.txt"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    python, stamp = environment / "bin" / "python", environment / "requirements.sha256"
    if not (stamp.exists() and stamp.read_text() == wanted):
        environment.parent.mkdir(exist_ok=True)
        uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
        if uv:
            subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, environment], check=True)
            install = [uv, "pip", "install", "--quiet", "--python", python]
        else:
            subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
            install = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, "-r", requirements], check=True)
        stamp.write_text(wanted)
    return python
