"""``make soak``: every property test and kill trials, again and again with new seeds, for SOAK_MINUTES.

One file of tests with one seed is a process of its own, and a third of the time goes to kill trials (`tests.crash`). The
state file remembers what is next and what was done, so that soaks of several days add up. A failure stops the soak
and prints the command that shows it again.
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

from tests.soak.progress import ROOT, STATE, Progress

TRIALS_SHARE = 1 / 3
"""Of the time."""
TRIALS_S = 120.0
"""Kill trials at a time: the server and the processes that they fork from start once."""


class CaseCounter:
    """Counts the examples that hypothesis ran and passed, and the cases that they compared; writes them down at the end."""

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
        from tests.support.cases import counted

        self.target.write_text(json.dumps({"cases": self.cases, "compared": counted}))


def run(file: str, seed: int) -> int:
    """Run the property tests of a file with a seed inside this process; the exit code.

    Tests that hypothesis drives by a function inside carry no mark, so of files that have none all tests run.
    """
    marked = "\n@given" in (ROOT / file).read_text(encoding="utf-8")
    return int(
        pytest.main(
            [file, *(["-m", "hypothesis"] if marked else []), f"--hypothesis-seed={seed}", "-q", "--no-header"],
            plugins=[CaseCounter(Path(os.environ["SOAK_COUNT_FILE"]))],
        )
    )


def _process(arguments: list[str], count_file: Path) -> subprocess.CompletedProcess[str]:
    count_file.parent.mkdir(parents=True, exist_ok=True)
    count_file.unlink(missing_ok=True)
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT, env=os.environ | {"SOAK_COUNT_FILE": str(count_file)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def _failed(ended: subprocess.CompletedProcess[str], again: str) -> bool:
    if ended.returncode == 0:
        return False
    print(ended.stdout[-8_000:], ended.stderr[-4_000:], sep="\n")
    print(f"soak: FAILED; again with: {again}")
    return True


def soak_properties(done: Progress) -> bool:
    """One file of property tests with one seed; whether it passed."""
    file, seed = done.next(), done.seed
    count_file = STATE.with_suffix(".count")
    ended = _process(["tests.soak", file, str(seed)], count_file)
    if _failed(ended, f"pytest {file} --hypothesis-seed={seed}"):
        return False
    counts = json.loads(count_file.read_text())
    done.add_properties(file, counts["cases"], counts["compared"])
    done.save()
    compared = sum(counts["compared"].values())
    told = f", {compared:,} cases compared with the plain rule" if compared else ""
    print(f"soak: seed {seed}, {file}: {counts['cases']:,} examples{told}; {done.cases:,} examples in all", flush=True)
    return True


def soak_trials(done: Progress, seconds: float) -> bool:
    """Kill trials for some time, half of it upon streams; whether nothing was lost."""
    kinds = (
        ("tests.crash", lambda: done.trials_seed, done.add_trials),
        ("tests.streaming.kills", lambda: done.stream_seed, done.add_stream_trials),
    )
    for number, (module, seed, add) in enumerate(kinds):
        count_file = STATE.with_suffix(".trials")
        ended = _process(
            [module, "--seconds", str(seconds / 2), "--from", str(seed()), "--counts", str(count_file)], count_file
        )
        for line in count_file.read_text().splitlines() if count_file.exists() else ():
            add(json.loads(line))
        done.save()
        if _failed(ended, f"python -m {module} {seed()}"):
            return False
        print(f"soak: {done.told()[number]}", flush=True)
    return True


def main() -> int:
    """Feast's universal tests once, then the rest until the time is over; 0 if all of it passed."""
    if subprocess.run([sys.executable, "-m", "tests.universal"], cwd=ROOT, check=False).returncode != 0:
        print("soak: FAILED; again with: python -m tests.universal")
        return 1
    begun = time.monotonic()
    length_s = 60 * float(os.environ.get("SOAK_MINUTES", "60"))
    done = Progress.load()
    print(f"soak: going on with seed {done.seed}, {done.cases:,} examples in {done.runs} runs so far", flush=True)
    print("soak so far:", *done.told(), sep="\n  ", flush=True)
    trials_s = 0.0
    while (elapsed := time.monotonic() - begun) < length_s:
        trials_due = trials_s <= TRIALS_SHARE * elapsed
        passed = soak_trials(done, min(TRIALS_S, TRIALS_SHARE * length_s)) if trials_due else soak_properties(done)
        if not passed:
            return 1
        trials_s += (time.monotonic() - begun - elapsed) * trials_due
    print(f"soak: {done.cases:,} examples of property tests in {done.runs} runs, none failed", *done.told(), sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], int(sys.argv[2])) if len(sys.argv) > 1 else main())
