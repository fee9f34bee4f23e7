"""Kill trials from the command line: the trials of some seeds, or of one seed after another for some time."""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any


def run_trials(
    package: str, start: Callable[[], Any], trials: Callable[[Any, int, Path, Callable[[str], None]], Any]
) -> int:
    """``python -m PACKAGE SEED …`` or ``--seconds S --from SEED --counts FILE``, which keeps in the file what they came to; 0 if
    nothing was lost.

    Parameters
    ----------
    package
        Its name.
    start
        Starts the servers, which have a ``close``.
    trials
        Makes the trials of a seed from the servers, the seed, a folder, and what tells of each kill; their ``run`` gives a
        data class with the counts, and raises at a fault.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {package}")
    parser.add_argument("seeds", type=int, nargs="*")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--from", dest="first", type=int, default=1)
    parser.add_argument("--counts", type=Path)
    given = parser.parse_args()
    logging.getLogger("tapeline").setLevel(logging.ERROR)  # the quality of random prices is no news
    deadline = time.monotonic() + given.seconds
    seeds: Iterable[int] = given.seeds or itertools.count(given.first)
    servers = start()
    try:
        with tempfile.TemporaryDirectory(prefix="tapeline-trials-") as folder:
            for seed in seeds:
                outcome = trials(servers, seed, Path(folder) / str(seed), lambda line: print(line, flush=True)).run()
                print(f"seed {seed}: {asdict(outcome)}, no fault", flush=True)
                if given.counts is not None:
                    with given.counts.open("a") as file:
                        file.write(json.dumps({"seed": seed, **asdict(outcome)}) + "\n")
                if not given.seeds and time.monotonic() > deadline:
                    break
    finally:
        servers.close()
    return 0
