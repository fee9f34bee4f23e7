"""How long does the newest value of 50 features of 25 symbols take to come from PostgreSQL, as known now?

The view's table has one-minute rows of 25 symbols; the newest rows are kept beside it. The peer is the query that one
writes first, DISTINCT ON over the same table and index, in turn on the same connection. Both give the same matrix.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from tapeline.core.timestamps import from_us, to_us
from tapeline.features.request import FeatureRequest
from tapeline.features.view import FeatureViewSpec, TradeBars
from tapeline.storage.feature_matrix import FeatureMatrixReader
from tapeline.storage.feature_tables import qualified_name, register_view
from tapeline.storage.migrations import migrate

from benchmarks.harness import Result, absolute, compare, interleave
from benchmarks.stored.minutes import server

GROUP = "offline"
SYMBOLS = tuple(f"SYM{number}" for number in range(25))
FEATURES = 50
MINUTES = int(os.environ.get("MATRIX_MINUTES", "8000"))
ROUNDS = 200
GOAL_MS = 5.0
AT_US = to_us("2013-06-01T00:00:00+00:00")
PEER = "SELECT DISTINCT ON"
SPEC = FeatureViewSpec(
    name="matrix",
    version=1,
    rows=TradeBars("bench", "XNYS", 60_000_000),
    features=tuple(FeatureRequest.of("SMA", timeperiod=period) for period in range(2, FEATURES + 2)),
    ttl_us=0,
)


def fill(connection: psycopg.Connection) -> int:
    """The view's table with minutes up to the moment asked about."""
    register_view(connection, SPEC)
    values = ", ".join(f"sin(s * {i + 1} + m / {i + 7}.0)" for i in range(FEATURES))
    connection.execute(
        f"INSERT INTO {qualified_name(SPEC)} SELECT 'SYM' || s, t, t, now(), 0, {values}"
        f" FROM generate_series(0, {len(SYMBOLS) - 1}) s, generate_series(1, {MINUTES}) m,"
        " LATERAL (SELECT %s::timestamptz - m * interval '1 min') AS times(t)",
        (from_us(AT_US),),
    )
    connection.commit()
    connection.autocommit = True
    connection.execute(f"VACUUM ANALYZE {qualified_name(SPEC)}")
    connection.execute("VACUUM ANALYZE latest.matrix__v1")
    return MINUTES * len(SYMBOLS)


def naive(connection: psycopg.Connection) -> NDArray[np.float64]:
    """The matrix by the query that one writes first."""
    query = sql.SQL(
        "SELECT DISTINCT ON (symbol) symbol, {} FROM {} WHERE symbol = ANY(%(symbols)s) AND event_timestamp <= %(at)s"
        " AND available_timestamp <= %(at)s"
        " ORDER BY symbol, event_timestamp DESC, sequence DESC, available_timestamp DESC, created_timestamp DESC"
    ).format(sql.SQL(", ").join(map(sql.Identifier, SPEC.columns)), sql.Identifier(*qualified_name(SPEC).split(".")))
    rows = connection.execute(query, {"symbols": list(SYMBOLS), "at": from_us(AT_US)}, binary=True).fetchall()
    found = {symbol: values for symbol, *values in rows}
    return np.array([found[symbol] for symbol in SYMBOLS])


def run() -> Iterator[Result]:
    """Measure."""
    with server() as url, psycopg.connect(url) as connection:
        migrate(connection)
        rows = fill(connection)
        reader = FeatureMatrixReader(connection, "matrix")
        ours = reader.read(SYMBOLS, at_us=AT_US)
        if not np.array_equal(ours.values, naive(connection)):
            raise AssertionError("the two matrices differ")
        mine, _ = interleave(lambda _: reader.read(SYMBOLS, at_us=AT_US), lambda _: None, rounds=ROUNDS, warm_up=10)
        few, theirs = interleave(lambda _: reader.read(SYMBOLS, at_us=AT_US), lambda _: naive(connection), rounds=20)
        sizes: dict[str, int | float | str] = {"symbols": len(SYMBOLS), "features": FEATURES, "stored_rows": rows}
        p95 = np.percentile(mine.reshape(-1, ROUNDS // 4), 95, axis=1) * 1e3
        question = f"feature matrix, {len(SYMBOLS)} symbols × {FEATURES} features, newest"
        yield absolute(
            f"{question}, p95", ours=p95, unit="ms", at_most=GOAL_MS, sizes=sizes,
            notes=f"95th percentile of {ROUNDS // 4} calls, median of 4 such; p50 {np.median(mine) * 1e3:.2f} ms",
            if_missed="other work on the machine: alone on it, a call takes about 1 ms",
        )  # fmt: skip
        yield compare(
            question, ours=few * 1e3, theirs=theirs * 1e3, peer=PEER, unit="ms", better="lower", goal_ratio=1.0,
            sizes=sizes, notes="same table, index and connection; equal matrices",
        )  # fmt: skip
