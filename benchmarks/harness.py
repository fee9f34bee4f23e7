"""How every benchmark here measures and reports.

A benchmark is a module of this package with ``GROUP`` (the areas it belongs to: a name or several) and ``run() -> Iterator[Result]``.
Ours and the peer's rounds are interleaved, so that a noisy neighbour slows both; medians are compared, and the spread of
the ratio is that of the rounds: its 10th and 90th percentile.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Result:
    """One answered question.

    Attributes
    ----------
    question
        What was measured, in words; sizes included.
    unit
        Unit of ``ours`` and ``theirs``, for example ``"µs"`` or ``"requests/s"``.
    ours, theirs
        Medians.
    peer
        Name of what ours is compared with; empty where the goal is absolute.
    ratio
        How many times better ours is (time: theirs / ours; rate: ours / theirs); none without a peer.
    goal
        In words, for example ``"≥ 30×"`` or ``"≤ 2 µs"``.
    met
        Whether the goal was met.
    spread
        10th and 90th percentile of the ratio over the rounds, or of ours where there is no peer.
    sizes
        What was measured over.
    notes
        What a reader must know beside the number.
    cause
        Of a missed goal: the reason that profiling found.
    """

    question: str
    unit: str
    ours: float
    peer: str
    theirs: float | None
    ratio: float | None
    goal: str
    met: bool
    spread: tuple[float, float]
    sizes: dict[str, int | float | str] = field(default_factory=dict)
    notes: str = ""
    cause: str = ""


_SPIN = """
import os, sys
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
os.sched_setaffinity(0, {int(sys.argv[1])})
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(100_000):
        pass
"""


@contextmanager
def awake() -> Iterator[None]:
    """Keep all processors from going to sleep, as the kernel's option ``idle=poll`` would.

    Where processors are virtual, to wake one that sleeps takes the host 0.05 to 0.5 ms, depending on what else it does, so that round
    trips of either side would measure the host. A loop of the lowest scheduling class on each gives way to everything at once.
    """
    if not hasattr(os, "SCHED_IDLE"):
        yield
        return
    spinning = [
        subprocess.Popen([sys.executable, "-c", _SPIN, str(processor)]) for processor in os.sched_getaffinity(0)
    ]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def interleave(
    ours: Callable[[int], object], theirs: Callable[[int], object], *, rounds: int, warm_up: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds of each round of both, measured in turn; the order alternates.

    Parameters
    ----------
    ours, theirs
        Called with the round's number, so that they can rotate their inputs.
    rounds
        How many measured rounds.
    warm_up
        How many unmeasured rounds come first.
    """
    samples = np.empty((2, rounds), dtype=np.float64)
    gc.collect()
    for number in range(-warm_up, rounds):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        for which in order:
            call = (ours, theirs)[which]
            begin = time.perf_counter()
            call(max(number, 0))
            elapsed = time.perf_counter() - begin
            if number >= 0:
                samples[which, number] = elapsed
    return samples[0], samples[1]


def alone(call: Callable[[int], object], *, rounds: int, warm_up: int = 2) -> NDArray[np.float64]:
    """Seconds of each round of one that has no peer; called with the round's number."""
    samples = np.empty(rounds, dtype=np.float64)
    gc.collect()
    for number in range(-warm_up, rounds):
        begin = time.perf_counter()
        call(number + warm_up)
        if number >= 0:
            samples[number] = time.perf_counter() - begin
    return samples


def compare(
    question: str,
    *,
    ours: Sequence[float] | NDArray[np.float64],
    theirs: Sequence[float] | NDArray[np.float64],
    peer: str,
    unit: str,
    better: Literal["lower", "higher"],
    goal_ratio: float,
    sizes: dict[str, int | float | str] | None = None,
    notes: str = "",
    if_missed: str = "",
) -> Result:
    """Compare two series of rounds of equal length with one another."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    mine, other = float(np.median(a)), float(np.median(b))
    each = b / a if better == "lower" else a / b
    ratio = other / mine if better == "lower" else mine / other
    low, high = np.percentile(each, [10, 90])
    met = ratio >= goal_ratio
    return Result(
        question, unit, mine, peer, other, ratio, f"≥ {goal_ratio:g}×", met,
        (float(low), float(high)), sizes or {}, notes, "" if met else if_missed,
    )  # fmt: skip


def absolute(
    question: str,
    *,
    ours: Sequence[float] | NDArray[np.float64],
    unit: str,
    at_most: float,
    sizes: dict[str, int | float | str] | None = None,
    notes: str = "",
    if_missed: str = "",
) -> Result:
    """Compare a series of rounds with an absolute limit."""
    a = np.asarray(ours, np.float64)
    mine = float(np.median(a))
    low, high = np.percentile(a, [10, 90])
    met = mine <= at_most
    return Result(
        question, unit, mine, "", None, None, f"≤ {at_most:g} {unit}", met,
        (float(low), float(high)), sizes or {}, notes, "" if met else if_missed,
    )  # fmt: skip


def hardware() -> dict[str, str | int]:
    """The machine, in words."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {"cpu": model, "cores": os.cpu_count() or 0, "system": f"{platform.system()} {platform.machine()}"}


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Installed versions of Python and of the packages named."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def write(name: str, results: Sequence[Result], packages: Sequence[str]) -> Path:
    """Write a benchmark's results as JSON under ``benchmarks/results/``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    common = {
        "versions": versions(packages),
        "hardware": hardware(),
        "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    path.write_text(json.dumps([asdict(result) | common for result in results], indent=2, ensure_ascii=False) + "\n")
    return path


def read(name: str) -> list[Result]:
    """The results that :func:`write` wrote."""
    known = {item.name for item in fields(Result)}
    rows = json.loads((RESULTS / f"{name}.json").read_text())
    return [
        Result(**{key: tuple(value) if key == "spread" else value for key, value in found.items() if key in known})
        for found in rows
    ]


def greatest_kib() -> int:
    """Greatest resident memory of this process so far, KiB.

    Linux counts into ``ru_maxrss`` what the process that started this one held at that moment, so its own mark is read there.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
