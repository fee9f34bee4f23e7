"""``python -m tests.streaming.kills SEED``: the trials of a seed, each kill told; with more seeds, one after another.

``python -m tests.streaming.kills --seconds S --from SEED --counts FILE`` goes on with one seed after another for so long, and
keeps in the file what they came to; that is how ``make soak`` runs it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from tests.streaming.kills.trial import Servers, Trials


def main() -> int:
    """0 if nothing was lost; a fault ends it with an error that says what."""
    parser = argparse.ArgumentParser(prog="python -m tests.streaming.kills")
    parser.add_argument("seeds", type=int, nargs="*")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--from", dest="first", type=int, default=1)
    parser.add_argument("--counts", type=Path)
    given = parser.parse_args()
    logging.getLogger("tapeline").setLevel(logging.ERROR)  # the quality of random prices is no news
    deadline = time.monotonic() + given.seconds
    seeds: Iterable[int] = given.seeds or itertools.count(given.first)
    servers = Servers()
    try:
        with tempfile.TemporaryDirectory(prefix="tapeline-kills-") as folder:
            for seed in seeds:
                outcome = Trials(servers, seed, Path(folder) / str(seed), lambda line: print(line, flush=True)).run()
                print(f"seed {seed}: {asdict(outcome)}, no fault", flush=True)
                if given.counts is not None:
                    with given.counts.open("a") as file:
                        file.write(json.dumps({"seed": seed, **asdict(outcome)}) + "\n")
                if not given.seeds and time.monotonic() > deadline:
                    break
    finally:
        servers.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
