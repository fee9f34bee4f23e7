"""``make soak``: Feast's universal tests, then every property test again and again with new seeds, for SOAK_MINUTES.

It goes on where the last run stopped. One file of tests with one seed is a process of its own. The state file remembers the
next of them and the cases done, so
that soaks of several days add up. A failure stops the soak and prints the command that shows it again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
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


def files() -> list[str]:
    """Test files that hold property tests, in order."""
    found = (path for path in (ROOT / "tests").rglob("test_*.py") if "\n@given" in path.read_text(encoding="utf-8"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


@dataclass
class Progress:
    """What is next, and what has been done: ``seed`` counts rounds over all files, ``after`` is the last file of this round."""

    seed: int = 1
    after: str = ""
    cases: int = 0
    runs: int = 0

    @classmethod
    def load(cls) -> Progress:
        """The progress of the soaks so far."""
        if not STATE.exists():
            return cls()
        stored = json.loads(STATE.read_text())
        return cls(**{field.name: stored.get(field.name, field.default) for field in fields(cls)})

    def save(self) -> None:
        """Write it, whole or not at all."""
        STATE.parent.mkdir(parents=True, exist_ok=True)
        partial = STATE.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self)))
        partial.replace(STATE)

    def next(self) -> str:
        """The file whose turn it is; after the last one, the first with the next seed."""
        waiting = [file for file in files() if file > self.after]
        if not waiting:
            self.seed, self.after = self.seed + 1, ""
            waiting = files()
        return waiting[0]


def run(file: str, seed: int) -> int:
    """Run the property tests of a file with a seed inside this process; the exit code."""
    return int(
        pytest.main(
            [file, "-m", "hypothesis", f"--hypothesis-seed={seed}", "-q", "--no-header"],
            plugins=[CaseCounter(Path(os.environ["SOAK_COUNT_FILE"]))],
        )
    )


def main() -> int:
    """Feast's universal tests once, then files until the time is over; 0 if all of them passed."""
    if subprocess.run([sys.executable, "-m", "tests.universal"], cwd=ROOT, check=False).returncode != 0:
        print("soak: FAILED; again with: python -m tests.universal")
        return 1
    deadline = time.monotonic() + 60 * float(os.environ.get("SOAK_MINUTES", "60"))
    done = Progress.load()
    print(f"soak: going on with seed {done.seed}, {done.cases:,} cases in {done.runs} runs so far", flush=True)
    while time.monotonic() < deadline:
        file, seed = done.next(), done.seed
        count_file = STATE.with_suffix(".count")
        count_file.parent.mkdir(parents=True, exist_ok=True)
        count_file.unlink(missing_ok=True)
        environment = os.environ | {"SOAK_COUNT_FILE": str(count_file)}
        ended = subprocess.run(
            [sys.executable, "-m", "tests.soak", file, str(seed)],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if ended.returncode != 0:
            print(ended.stdout[-8_000:], ended.stderr[-2_000:], sep="\n")
            print(f"soak: FAILED; again with: pytest {file} -m hypothesis --hypothesis-seed={seed}")
            return 1
        cases = json.loads(count_file.read_text())["cases"]
        done.after, done.cases, done.runs = file, done.cases + cases, done.runs + 1
        done.save()
        print(f"soak: seed {seed}, {file}: {cases:,} cases; {done.cases:,} in all", flush=True)
    print(f"soak: {done.cases:,} cases in {done.runs} runs, none failed")
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], int(sys.argv[2])) if len(sys.argv) > 1 else main())
