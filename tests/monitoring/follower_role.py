"""Followers in processes of their own, to be killed: URL of the database, job, and the rows of a step.

Each line on standard input starts one, whose number is printed. They are forked from a process that has loaded and compiled
everything by following a job of its own.
"""

from __future__ import annotations

import os
import sys
import threading

import psycopg
from tapeline.monitoring import follow


def main() -> None:
    url, job, rows = sys.argv[1:]
    follow.STEP_ROWS = int(rows)

    def follower_of(name: str) -> follow.Follower:
        return follow.Follower(lambda: psycopg.connect(url, options="-c timezone=UTC"), name)

    follower_of("warm up").run(threading.Event(), until_idle_s=0.0)
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            follower_of(job).run(threading.Event(), poll_s=0.02)
            return
        print(child, flush=True)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
