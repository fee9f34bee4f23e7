"""How long does a dense join take, compared with merely reading as many rows?

10 million entity rows of 200 symbols, 20 features, a time to live of one hour, to Arrow in memory, against the time that ADBC
takes to read the 10 million stored rows. Both in this process, in turn.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from adbc_driver_postgresql import dbapi
from tapeline.datasets.point_in_time import as_of_join

from benchmarks.harness import Result, compare, interleave
from benchmarks.stored.minutes import Minutes, server

GROUP = "offline"
STORED = Minutes("minutes", symbols=200, minutes=50_000, features=20)
ROUNDS = 3
HOUR_US = 3_600_000_000


def run() -> Iterator[Result]:
    """Measure."""
    with server() as url, psycopg.connect(url) as connection:
        STORED.create(url)
        selection = STORED.selection(HOUR_US)

        def join(number: int) -> None:
            table = as_of_join(connection, [selection], STORED.dense_rows(STORED.rows, number))
            if table.column(STORED.columns[0]).null_count > STORED.rows // 100:
                raise AssertionError("too few entity rows found a value for the comparison to mean anything")

        def read(_number: int) -> None:
            with dbapi.connect(url, autocommit=True) as other, other.cursor() as cursor:
                cursor.execute(f"SELECT * FROM public.{STORED.table}")
                rows = cursor.fetch_arrow_table().num_rows
            if rows != STORED.rows:
                raise AssertionError("ADBC did not read every row")

        mine, other = interleave(join, read, rounds=ROUNDS)
        yield compare(
            "dense point-in-time join, 10 M entity rows × 20 features, 10 M stored rows, to Arrow",
            ours=mine,
            theirs=other,
            peer="ADBC reading 10 M rows of that width",
            unit="s",
            better="lower",
            goal_ratio=0.67,
            sizes={"stored_rows": STORED.rows, "entity_rows": STORED.rows, "features": STORED.features},
            notes="goal: at most 1.5 times the peer's time, a ratio of 0.67",
        )
