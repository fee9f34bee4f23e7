"""How long does ``FeatureStore.get_historical_features`` take on our offline store, on Feast's PostgreSQL store, and on its
DuckDB store over Parquet?

The same call for the same entity rows on feature stores over the same rows, in turn: one-minute rows of 50 symbols over 14 days
in one table of one embedded server, with the index of Tapeline's feature tables. The results of every round are compared.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pandas as pd
import psycopg
import pyarrow.parquet as pq
from feast import FeatureStore
from psycopg import sql
from tapeline.storage.copy_reader import read_query

from benchmarks.harness import Result, compare, interleave
from benchmarks.stored import feast_stores
from benchmarks.stored.minutes import Minutes, as_frame, in_order, server

GROUP = ("walk", "offline")
HOUR, NO_TTL = timedelta(hours=1), timedelta(0)
POSTGRES, DUCKDB = "feast PostgreSQLOfflineStore", "feast DuckDBOfflineStore on Parquet"
NARROW = Minutes("minutes", symbols=50, minutes=14 * 24 * 60, features=20)
WIDE = Minutes("wide_minutes", symbols=50, minutes=14 * 24 * 60, features=100)


@dataclass(frozen=True)
class Question:
    """One comparison."""

    stored: Minutes
    entity_rows: int
    ttl: timedelta
    peer: str
    goal: float
    rounds: int


QUESTIONS = (
    Question(NARROW, 10_000, HOUR, POSTGRES, 50.0, 3),
    Question(NARROW, 100_000, HOUR, POSTGRES, 50.0, 1),
    Question(WIDE, 10_000, HOUR, POSTGRES, 25.0, 3),
    Question(WIDE, 100_000, HOUR, POSTGRES, 25.0, 1),
    Question(NARROW, 1_000, NO_TTL, POSTGRES, 500.0, 3),
    Question(NARROW, 100_000, HOUR, DUCKDB, 2.0, 5),
)


def run() -> Iterator[Result]:
    """Measure."""
    with server() as url, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for stored in (NARROW, WIDE):
            stored.create(url)
        parquet = folder / "minutes.parquet"
        with psycopg.connect(url) as connection:
            table = read_query(connection, sql.SQL("SELECT * FROM public.minutes"))
        pq.write_table(table.drop_columns(["available_timestamp", "created_timestamp", "sequence"]), parquet)
        del table
        for number, question in enumerate(QUESTIONS):
            own = folder / str(number)
            own.mkdir()
            ours = feast_stores.ours(own, url, question.stored, question.ttl)
            if question.peer == POSTGRES:
                theirs = feast_stores.feast_postgres(own, url, question.stored, question.ttl)
            else:
                theirs = feast_stores.feast_duckdb(own, parquet, question.stored, question.ttl)
            yield _answer(question, ours, theirs)


def _answer(question: Question, ours: FeatureStore, theirs: FeatureStore) -> Result:
    stored = question.stored
    references = [f"{stored.table}:{name}" for name in stored.columns]
    results: dict[tuple[str, int], pd.DataFrame] = {}

    def measured(name: str, feature_store: FeatureStore) -> Callable[[int], None]:
        def call(number: int) -> None:
            rows = as_frame(stored.entity_rows(question.entity_rows, number))
            results[name, number] = feature_store.get_historical_features(rows, references).to_df()

        return call

    # A peer that takes minutes is not warmed up with a whole round: a small question does.
    small = as_frame(stored.entity_rows(100, 1_000))
    for feature_store in (ours, theirs):
        feature_store.get_historical_features(small, references).to_df()
    mine, other = interleave(
        measured("ours", ours), measured("theirs", theirs), rounds=question.rounds, warm_up=int(question.rounds > 1)
    )
    for number in range(question.rounds):
        a, b = in_order(results["ours", number]), in_order(results["theirs", number])
        pd.testing.assert_frame_equal(a, b[list(a.columns)], check_exact=True)
        if not a[stored.columns[-1]].notna().sum() > question.entity_rows * 0.9:
            raise AssertionError("too few entity rows found a value for the comparison to mean anything")
    ttl = "1 h TTL" if question.ttl else "no TTL"
    return compare(
        f"point-in-time join, {question.entity_rows:,} entity rows × {stored.features} features, {ttl}",
        ours=mine,
        theirs=other,
        peer=question.peer,
        unit="s",
        better="lower",
        goal_ratio=question.goal,
        sizes={"stored_rows": stored.rows, "symbols": stored.symbols, "features": stored.features},
        notes="results equal in every round; same rows; to_df on both sides",
        if_missed="half of our time does not depend on the rows: Feast's own part of the call, data frames, a connection, a dozen short statements",
    )
