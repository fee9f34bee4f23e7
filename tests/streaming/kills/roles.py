"""The processes of a trial: a producer, which notes what Redis acknowledged, and workers."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import redis
from tapeline.core.errors import LimitError, UnavailableError
from tapeline.streaming.producer import Producer
from tapeline.streaming.worker import Worker

from tests.streaming.world import VIEWS, disordered, plan

LEASE_MS = 600
PARTITIONS = 3
EVENTS = 240
"""Sent during each trial."""
PIECE = 12
DISORDER = 0.03
TRIALS_MAX = 64


def tape(seed: int) -> Any:
    """All events of a seed."""
    return disordered(seed, EVENTS * TRIALS_MAX, DISORDER)


def stream() -> Any:
    """The stream of a seed."""
    return plan(partitions=PARTITIONS)


def produce(folder: Path, address: str, seed: int, upto: int) -> None:
    """Send what was not noted to be acknowledged, up to some event, and note each piece on the disk."""
    events, noted = tape(seed), folder / "acknowledged"
    rng = np.random.default_rng([seed, upto, time.time_ns()])
    while True:
        try:
            with redis.Redis.from_url(address) as client:
                producer = Producer(client, stream(), block_events=5)
                while (first := acknowledged(folder)) < upto:
                    producer.send(events.chosen(np.arange(first, min(upto, first + PIECE))))
                    with noted.open("a") as file:
                        file.write(f"{min(upto, first + PIECE)}\n")
                        file.flush()
                        os.fsync(file.fileno())
                    time.sleep(float(rng.uniform(0, 0.03)))
            return
        except (UnavailableError, LimitError):
            time.sleep(0.05)


def acknowledged(folder: Path) -> int:
    """Events that are noted; a line that was cut off counts for nothing."""
    noted = folder / "acknowledged"
    lines = noted.read_text().split("\n")[:-1] if noted.exists() else []
    return int(lines[-1]) if lines else 0


def work(database: str, address: str) -> None:
    """Work until told to end; begin with a new worker where a server was away."""
    asked = [False]
    signal.signal(signal.SIGTERM, lambda *_: asked.__setitem__(0, True))
    for rest_s in itertools.repeat(0.05):
        try:
            with redis.Redis.from_url(address) as client:
                worker = Worker(
                    stream(), VIEWS, redis=client, connect=lambda: psycopg.connect(database), lease_ms=LEASE_MS
                )
                try:
                    while not asked[0]:
                        worker.step(block_ms=5)
                except BaseException:
                    worker.give_up()
                    raise
                worker.close()
                return
        except (UnavailableError, psycopg.OperationalError):
            if asked[0]:
                return
            time.sleep(rest_s)


def guarded(body: Callable[..., None], error: Path, *arguments: Any) -> None:
    """Run a role; what it raises is written down."""
    logging.getLogger("tapeline").setLevel(logging.ERROR)
    try:
        body(*arguments)
    except BaseException:
        error.write_text(traceback.format_exc())
        raise
