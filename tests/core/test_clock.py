"""The clocks: live, standing still, and one that another process moves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tapeline.core.clock import LiveClock, ReplayClock, TapeClock, clock_from
from tapeline.core.errors import ParameterError


def test_a_tape_clock_is_moved_by_another_process(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "clock"
    mine = TapeClock.create(path, 5)
    other = clock_from(f"tape:{path}")
    assert isinstance(other, ReplayClock)
    assert other.now_us() == 5
    move = "import sys; from pathlib import Path; from tapeline.core.clock import TapeClock"
    subprocess.run([sys.executable, "-c", f"{move}; TapeClock(Path(sys.argv[1])).move_to(-7)", path], check=True)
    assert (mine.now_us(), other.now_us()) == (-7, -7)
    TapeClock.create(path, 1 << 60)
    assert other.now_us() == 1 << 60, "whoever has it open sees it set back"


def test_what_is_no_clock(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"123")
    for name in ("missing", "short", "."):
        with pytest.raises(ParameterError, match="no clock can be read"):
            clock_from(f"tape:{tmp_path / name}")
    assert isinstance(clock_from("live"), LiveClock)
