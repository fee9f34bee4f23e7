"""Where the data folder is when nobody says: one rule for the settings and for the kernels' cache."""

from __future__ import annotations

import os
from pathlib import Path

HOME = Path(".tapeline")


def nearest_home() -> Path:
    """``.tapeline`` of the working folder, else of the nearest folder above it that has one of this user's.

    So a command works in any folder of a checkout, as git's do. Another user's folder is passed over: its owner could
    lead us to servers of theirs.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        home = folder / HOME
        try:
            if home.is_dir() and home.stat().st_uid == os.getuid():
                return home
        except OSError:
            continue
    return HOME
