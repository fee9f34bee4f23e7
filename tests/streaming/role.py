"""A worker process that the tests kill: ``python -m tests.streaming.role DATABASE REDIS LEASE_MS PARTITIONS``."""

from __future__ import annotations

import sys

import psycopg
import redis
from tapeline.streaming.worker import Worker

from tests.streaming.world import VIEWS, plan


def main() -> None:
    database, address, lease_ms, partitions = sys.argv[1:]
    client = redis.Redis.from_url(address)
    worker = Worker(
        plan(partitions=int(partitions)),
        VIEWS,
        redis=client,
        connect=lambda: psycopg.connect(database),
        lease_ms=int(lease_ms),
    )
    print("ready", flush=True)
    worker.run(lambda: False, block_ms=5)


if __name__ == "__main__":
    main()
