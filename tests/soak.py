"""``make soak``: every property test, again and again with new seeds, for SOAK_MINUTES; goes on where the last run stopped.

Each round is a process of its own. The state file remembers the next seed and the cases done, so that soaks of several days
add up. A failing round stops the soak and prints the seed that shows it again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STATE = Path(os.environ.get("TAPELINE_HOME", ROOT / ".tapeline")) / "soak.json"


class CaseCounter:
    """Counts the examples that hypothesis ran and passed, and writes them down at the end of a round."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.cases = 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Iterator[None]:
        from hypothesis.internal import observability

        def count(observation: object, *_: object) -> None:
            self.cases += getattr(observation, "status", "") == "passed"

        with observability.with_observability_callback(count):
            yield

    def pytest_sessionfinish(self) -> None:
        self.target.write_text(json.dumps({"cases": self.cases}))


def load() -> dict[str, int]:
    """The state of the soaks so far."""
    if STATE.exists():
        stored = json.loads(STATE.read_text())
        return {"next_seed": int(stored["next_seed"]), "cases": int(stored["cases"]), "rounds": int(stored["rounds"])}
    return {"next_seed": 1, "cases": 0, "rounds": 0}


def save(state: dict[str, int]) -> None:
    """Write the state, whole or not at all."""
    STATE.parent.mkdir(parents=True, exist_ok=True)
    partial = STATE.with_suffix(".partial")
    partial.write_text(json.dumps(state))
    partial.replace(STATE)


def one_round(seed: int) -> int:
    """Run all property tests with one seed inside this process; the exit code."""
    return int(
        pytest.main(
            ["tests", "-m", "hypothesis", f"--hypothesis-seed={seed}", "-q", "--no-header"],
            plugins=[CaseCounter(Path(os.environ["SOAK_COUNT_FILE"]))],
        )
    )


def main() -> int:
    """Rounds until the time is over; 0 if all of them passed."""
    deadline = time.monotonic() + 60 * float(os.environ.get("SOAK_MINUTES", "60"))
    state = load()
    print(
        f"soak: going on at seed {state['next_seed']}, {state['cases']:,} cases in {state['rounds']} rounds so far",
        flush=True,
    )
    while time.monotonic() < deadline:
        seed = state["next_seed"]
        count_file = STATE.with_suffix(".count")
        count_file.parent.mkdir(parents=True, exist_ok=True)
        count_file.unlink(missing_ok=True)
        environment = os.environ | {"SOAK_COUNT_FILE": str(count_file)}
        run = subprocess.run(
            [sys.executable, "-m", "tests.soak", "--round", str(seed)],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if run.returncode != 0:
            print(run.stdout[-8_000:], run.stderr[-2_000:], sep="\n")
            print(f"soak: seed {seed} FAILED; again with: pytest -m hypothesis --hypothesis-seed={seed}")
            return 1
        cases = json.loads(count_file.read_text())["cases"]
        state = {"next_seed": seed + 1, "cases": state["cases"] + cases, "rounds": state["rounds"] + 1}
        save(state)
        print(f"soak: seed {seed} passed, {cases:,} cases; {state['cases']:,} in all", flush=True)
    print(f"soak: {state['cases']:,} cases in {state['rounds']} rounds, none failed")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--round"]:
        sys.exit(one_round(int(sys.argv[2])))
    sys.exit(main())
