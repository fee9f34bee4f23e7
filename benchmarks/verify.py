"""How many served values a second does continuous verification compare, all of them sampled?

The log is that of a model with a hundred features; each answer stands on another stored row, so no two ask the rule the same.
A round is a job of its own over the whole log, from its first look to the last line of its journal. The peer reads the
same rows of the log and of the view's table with psycopg, and compares nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing

import numpy as np
import psycopg
import pyarrow as pa
from psycopg.types.json import Jsonb
from tapeline.core.timestamps import MINUTE_US, from_us
from tapeline.features.request import FeatureRequest
from tapeline.features.view import FeatureViewSpec, SessionBars
from tapeline.monitoring.findings import Cause
from tapeline.monitoring.follow import Follower
from tapeline.monitoring.journal import read_totals
from tapeline.storage.feature_tables import append_rows, register_view
from tapeline.storage.migrations import migrate

from benchmarks.harness import Result, absolute, compare, interleave
from tests.serving import world
from tests.support.session import SessionServers

GROUP = ("online", "verify")
SYMBOLS, ROWS = 100, 100
ANSWERS = 10_000
FEATURES = 100
ROUNDS = 5
GOAL_RATIO = 0.1
GOAL_VALUES = 50_000
BUNDLE = "b" * 64
VIEW = FeatureViewSpec(
    "hundred",
    1,
    SessionBars("bench", "XNYS"),
    tuple(FeatureRequest.of("SMA", timeperiod=period) for period in range(2, FEATURES + 2)),
    ttl_us=0,
)


def fill(connection: psycopg.Connection) -> None:
    """Feature rows of some symbols, a registered model, and answers each of which stands on a row of its own."""
    symbols = np.repeat(np.arange(SYMBOLS), ROWS)
    names = [f"SYM{number:03}" for number in symbols.tolist()]
    event_us = world.NOW_US + np.tile(np.arange(ROWS), SYMBOLS) * MINUTE_US
    values = np.random.default_rng(1).standard_normal((len(symbols), FEATURES))
    register_view(connection, VIEW)
    zeros = np.zeros(len(symbols), dtype=np.int64)
    with connection.transaction(), connection.cursor() as cursor:
        append_rows(cursor, VIEW, pa.array(names), event_us, zeros, event_us, zeros.astype(np.bool_), values)
        manifest = world.make_manifest([VIEW], "bench").model_dump(mode="json")
        cursor.execute(
            "INSERT INTO tapeline.models (model, version, bundle_sha256, manifest, metrics)"
            " VALUES ('bench', '1.0.0', %s, %s, '{}')",
            (BUNDLE, Jsonb(manifest)),
        )
        columns = (
            "request_id, entity, model, model_version, bundle_sha256, served_timestamp, request_timestamp, vector,"
            " statuses, prediction, views"
        )
        with cursor.copy(f"COPY tapeline.served_vectors ({columns}) FROM STDIN") as copy:
            for number in range(ANSWERS):
                at_us = int(event_us[number])
                view = {
                    "view": VIEW.name, "version": 1, "plan_hash": VIEW.plan.hash, "origin": "store", "event_us": at_us,
                    "available_us": at_us, "sequence": 0, "partial": False, "state_event_us": None,
                    "state_sequence": None,
                }  # fmt: skip
                moment = from_us(at_us + MINUTE_US // 2)
                copy.write_row(
                    (
                        uuid.uuid4(), names[number], "bench", "1.0.0", BUNDLE, moment, moment,
                        values[number].astype("<f8").tobytes(), b"\1" * FEATURES, [0.5], Jsonb([view]),
                    )
                )  # fmt: skip
    connection.autocommit = True
    connection.execute("VACUUM ANALYZE")
    connection.autocommit = False


def verified(url: str, job: str) -> None:
    """Verify the whole log as a job of its own."""
    with closing(Follower(lambda: psycopg.connect(url, options="-c timezone=UTC"), job)) as follower:
        while follower.step():
            pass


def read_plainly(url: str) -> None:
    """Read the same rows, and do nothing with them."""
    with psycopg.connect(url) as connection:
        log = connection.execute("SELECT * FROM tapeline.served_vectors", binary=True).fetchall()
        rows = connection.execute(f"SELECT * FROM features.{VIEW.table}", binary=True).fetchall()
    if len(log) != ANSWERS or len(rows) != SYMBOLS * ROWS:
        raise AssertionError("not all rows were read")


def run() -> Iterator[Result]:
    """Measure."""
    with ExitStack() as stack:
        servers = SessionServers()
        stack.callback(servers.close)
        url = servers.postgres_url("postgres")
        connection = stack.enter_context(psycopg.connect(url, options="-c timezone=UTC"))
        migrate(connection)
        fill(connection)
        verified(url, "first")
        totals = read_totals(connection, "first")
        if (totals.vectors, totals.of_cause(Cause.UNKNOWN)) != (ANSWERS, 0) or len(totals.counts) != 1:
            raise AssertionError(f"the log does not verify: {totals}")
        values = ANSWERS * FEATURES
        sizes: dict[str, int | float | str] = {
            "answers": ANSWERS, "features": FEATURES, "symbols": SYMBOLS, "stored rows": SYMBOLS * ROWS,
        }  # fmt: skip
        ours_s, theirs_s = interleave(
            lambda number: verified(url, f"round {number} {uuid.uuid4()}"),
            lambda _: read_plainly(url),
            rounds=ROUNDS,
        )
        yield compare(
            f"served values verified a second, {ANSWERS:,} answers × {FEATURES}, all sampled",
            ours=values / ours_s,
            theirs=values / theirs_s,
            peer="psycopg, the same rows read and not compared",
            unit="values/s",
            better="higher",
            goal_ratio=GOAL_RATIO,
            sizes=sizes,
        )
        yield absolute(
            "time for each served value verified, the same run (50,000 values/s are 20 µs)",
            ours=ours_s / values * 1e6,
            unit="µs",
            at_most=1e6 / GOAL_VALUES,
            sizes=sizes,
        )
