"""What Feast's own Ray engine does with our two stores: the same values, except where it leaves rows out without a word."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ANSWER_S = 200.0


@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="NOT TESTED: Feast's Ray engine. Ray is not installed: pip install 'tapeline[ray]'",
)
def test_feasts_ray_engine_gives_the_values_of_ours_but_leaves_history_out(
    database: str, redis_url: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.feast_ext.ray_engine", database, redis_url, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=ANSWER_S,
        check=False,
        cwd=Path(__file__).parents[2],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(sys.path), "FEAST_USAGE": "False", "RAY_USAGE_STATS_ENABLED": "0"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    expected = {"symbol": ["A", "B", "C"], "price": [55.5, 100.0, 200.0], "size": [8.0, None, 7.0]}
    assert found["ours"] == dict.fromkeys(("fresh", "old", "lasting"), expected)
    assert found["ray"]["fresh"] == found["ray"]["lasting"] == expected
    # Its filter compares rows with the machine's clock, whatever range was asked for, and the job counts as done.
    assert found["ray"]["old"] == {"symbol": ["A", "B", "C"], "price": [None] * 3, "size": [None] * 3}
