"""What do many chunks cost? The same rows in hypertables of 10 and of 1,000 chunks, TimescaleDB's Apache edition.

100,000 entity rows, of which the planner makes what it will; and 10,000 by lookups, where each chunk has its price. The connection,
and those beside it, stay open: a new session would first learn of each chunk.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from tapeline.datasets.point_in_time import Method, as_of_join
from tapeline.storage.postgres import Connection

from benchmarks.harness import Result, compare, interleave
from benchmarks.stored.minutes import Minutes
from tests.editions.server import EditionServer

GROUP = "offline"
FEW = Minutes("few_chunks", symbols=50, minutes=14 * 24 * 60, features=20)
MANY = Minutes("many_chunks", symbols=50, minutes=14 * 24 * 60, features=20)
CHUNKS = {FEW: 10, MANY: 1_000}
ROUNDS = 11
HOUR_US = 3_600_000_000


def run() -> Iterator[Result]:
    """Measure."""
    server = EditionServer("apache")
    try:
        with server.fresh_database() as url:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("CREATE EXTENSION timescaledb")
            for stored, chunks in CHUNKS.items():
                stored.create(url, chunks)
            with Connection.connect(url) as connection:
                yield _compared(connection, 100_000, "auto", 0.77)
                yield _compared(connection, 10_000, "lookup", 0.0)
    finally:
        server.close()


def _compared(connection: psycopg.Connection, entity_rows: int, method: Method, goal: float) -> Result:
    def join(stored: Minutes, number: int) -> None:
        rows = stored.entity_rows(entity_rows, number)
        table = as_of_join(connection, [stored.selection(HOUR_US)], rows, method=method)
        if table.column(stored.columns[0]).null_count > entity_rows // 100:
            raise AssertionError("too few entity rows found a value for the comparison to mean anything")

    many, few = interleave(lambda number: join(MANY, number), lambda number: join(FEW, number), rounds=ROUNDS)
    each_us = 1e6 * float((many - few).mean()) / (CHUNKS[MANY] - CHUNKS[FEW])
    how = "" if method == "auto" else f", by {method}s"
    return compare(
        f"1,000 chunks, {entity_rows:,} entity rows × 20 features, 1 h TTL{how}",
        ours=many,
        theirs=few,
        peer="the same rows in 10 chunks",
        unit="s",
        better="lower",
        goal_ratio=goal,
        sizes={"stored_rows": MANY.rows, "entity_rows": entity_rows},
        notes=f"a chunk costs {each_us:.0f} µs"
        + ("; goal: at most 1.3 times, a ratio of 0.77" if goal else "; no goal"),
    )
