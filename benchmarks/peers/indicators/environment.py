"""Rounds of a peer in its own environment, one at a time, so that ours can be measured in between."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.python import interpreter

HERE = Path(__file__).parent


class Rounds(Protocol):
    def __call__(self, count: int) -> float:
        """Seconds of one round of so many bars of all symbols (pandas-ta: of so many symbols)."""
        ...


@contextmanager
def peer(
    name: str, indicators: Sequence[str], bars: NDArray[np.float64], *, warm_up: int = 0, rotation: int = 1
) -> Iterator[Rounds]:
    """A worker process with that peer, warmed up."""
    about = {"peer": name, "names": list(indicators), "warm_up": warm_up, "rotation": rotation}
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "task.npz"
        np.savez(task, bars=bars, about=np.array(json.dumps(about)))
        process = subprocess.Popen(
            [interpreter(HERE), "-I", HERE / "worker.py", task],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        sent, received = process.stdin, process.stdout
        try:
            if received.readline().strip() != "ready":
                raise RuntimeError(f"{name} did not start")

            def advance(count: int) -> float:
                sent.write(f"{count}\n")
                sent.flush()
                return float(received.readline())

            yield advance
        finally:
            sent.close()
            process.wait(60)
