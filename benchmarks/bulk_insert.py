"""How fast are rows inserted into an indexed hypertable, against psql's own binary ``\\copy`` of the same rows?

The table is like a feature table of 20 features: key index, chunks of 30 days, a CHECK. Both sides begin with rows in the
client's hands (an Arrow table; a file in PostgreSQL's binary format, written by ``\\copy … TO``) and end with the commit; each opens
its own connection, and each round goes into the emptied table. psql is that of the server's own installation. A server of
this benchmark's own runs as in production, with fsync. What lies in the table after both is compared.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from tapeline.storage.arrow import copy_arrow
from tapeline.storage.copy_encoder import encode_arrow, known_type
from tapeline.storage.keyed_rows import KeyedTable, append_keyed
from tapeline.storage.migrations import migrate
from tapeline.storage.servers.account import postgres_account
from tapeline.storage.servers.binaries import postgres_programs
from tapeline.storage.servers.options import ServerOptions
from tapeline.storage.servers.place import DATABASE, Place
from tapeline.storage.servers.postgres_server import start_postgres, stop_postgres

from benchmarks.harness import Result, absolute, alone, compare, interleave
from tests.editions import timescaledb_apache
from tests.editions.cache import EditionUnavailable

GROUP = ("offline",)
FEATURES = 20
SYMBOLS = 50
MANY, FEW = 1_000_000, 1_000
SPACING_US = 5 * 60 * 1_000_000
FIRST_US = 1_362_096_000_000_000  # 2013-03-01
ROUNDS_MANY, ROUNDS_FEW = 5, 40
TABLE = "public.minutes"
KEYED = KeyedTable(TABLE, ("symbol",), "event_timestamp", "available_timestamp", "created_timestamp", "sequence")
PEER = "psql \\copy, binary"
OIDS = {pa.string(): 25, pa.int64(): 20, pa.float64(): 701, pa.timestamp("us", tz="UTC"): 1184}


@dataclass(frozen=True)
class Server:
    """Where to insert, and the psql that came with it."""

    url: str
    psql: list[str]
    edition: str


@contextmanager
def server() -> Iterator[Server]:
    """TimescaleDB's Apache edition where it can be had, else the embedded PostgreSQL."""
    try:
        programs: Path = timescaledb_apache.programs()
        settings, psql = timescaledb_apache.SETTINGS, _with_own_library(programs)
    except EditionUnavailable:
        programs = postgres_programs(postgres_account())
        settings, psql = (), [str(programs / "psql")]
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="tapeline-bench-") as folder:
        Path(folder).chmod(0o755)  # the server's own account must pass through
        place = Place.inside(Path(folder) / "s")
        place.folder.mkdir()
        place.folder.chmod(0o755)
        place.own()
        start_postgres(place, ServerOptions(postgres_programs=programs, postgres_settings=settings))
        try:
            url = f"postgresql://{DATABASE}@/{DATABASE}?host={place.postgres_run}"
            with psycopg.connect(url) as connection:
                migrate(connection)
                edition = connection.execute("SELECT tapeline.edition()").fetchone()
            yield Server(url, psql, f"TimescaleDB {edition[0] if edition else 'none'}")
        finally:
            stop_postgres(place)


def _with_own_library(programs: Path) -> list[str]:
    """The command that starts Debian's psql with the C library that came with it."""
    root = programs.parents[4]
    (loader,) = root.glob("usr/lib/*-linux-gnu/ld-linux-*.so.*")
    return [str(loader), "--library-path", str(loader.parent), str(programs / "psql")]


def create(url: str) -> None:
    """The empty table."""
    features = ", ".join(f"feature_{i} float8" for i in range(FEATURES))
    with psycopg.connect(url) as connection:
        connection.execute(f"""
            CREATE TABLE {TABLE} (symbol text NOT NULL, event_timestamp timestamptz NOT NULL,
                available_timestamp timestamptz NOT NULL, created_timestamp timestamptz NOT NULL DEFAULT now(),
                sequence bigint NOT NULL, {features}, CHECK (available_timestamp >= event_timestamp))
        """)
        connection.execute(
            f"CREATE INDEX ON {TABLE} (symbol, event_timestamp DESC, sequence DESC, available_timestamp DESC,"
            " created_timestamp DESC)"
        )
        connection.execute(f"SELECT tapeline.make_hypertable('{TABLE}')")


def rows(count: int) -> pa.Table:
    """Rows of all symbols, one symbol after the other."""
    each = count // SYMBOLS
    at = pa.array(np.tile(FIRST_US + SPACING_US * np.arange(each), SYMBOLS)).cast(pa.timestamp("us", tz="UTC"))
    values = np.random.default_rng(5).normal(size=(FEATURES, count))
    symbols = pa.array([f"SYM{i}" for i in range(SYMBOLS)])
    return pa.table(
        {
            "symbol": symbols.take(pa.array(np.repeat(np.arange(SYMBOLS), each))),
            "event_timestamp": at,
            "available_timestamp": at,
            "sequence": np.zeros(count, dtype=np.int64),
            **{f"feature_{i}": column for i, column in enumerate(values)},
        }
    )


def run_psql(target: Server, command: str) -> None:
    """One command of psql."""
    subprocess.run(
        [*target.psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", command, target.url], check=True, capture_output=True
    )


def empty(url: str) -> None:
    """No rows, and nothing left to write of those before."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"TRUNCATE {TABLE}")
        connection.execute("CHECKPOINT")


def digest(url: str) -> Any:
    """What lies in the table, without the moment of writing."""
    columns = "symbol, event_timestamp, available_timestamp, sequence, feature_0, feature_19"
    with psycopg.connect(url) as connection:
        return connection.execute(
            f"SELECT count(*), sum(hashtextextended(({columns})::text, 0)::numeric) FROM {TABLE}"
        ).fetchone()


def against_psql(target: Server, table: pa.Table, folder: Path) -> Result:
    """A million rows of ours, and psql's."""
    file = folder / "rows.copy"
    columns = ", ".join(table.column_names)

    def ours(_: int) -> None:
        with psycopg.connect(target.url) as connection, connection.cursor() as cursor:
            copy_arrow(cursor, table, TABLE)

    def theirs(_: int) -> None:
        run_psql(target, f"\\copy {TABLE} ({columns}) FROM '{file}' WITH (FORMAT binary)")

    ours(0)
    expected = digest(target.url)
    run_psql(target, f"\\copy (SELECT {columns} FROM {TABLE}) TO '{file}' WITH (FORMAT binary)")
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    sides = [("ours", ours), ("theirs", theirs)]
    for number in range(ROUNDS_MANY):
        for name, write in sides if number % 2 else sides[::-1]:
            empty(target.url)
            began = time.perf_counter()
            write(number)
            seconds[name].append(time.perf_counter() - began)
            if digest(target.url) != expected:
                raise AssertionError(f"{name} wrote other rows")
    return compare(
        f"bulk insert of {MANY:,} rows × {FEATURES} columns, indexed hypertable",
        ours=seconds["ours"],
        theirs=seconds["theirs"],
        peer=PEER,
        unit="s",
        better="lower",
        goal_ratio=1 / 1.25,
        sizes={"rows": MANY, "features": FEATURES, "symbols": SYMBOLS},
        notes=f"{target.edition}, fsync on; from Arrow in memory against a prepared file; same rows in every round",
    )


def small(target: Server) -> Iterator[Result]:
    """A thousand rows, each round later ones: as they are, beside bytes that were encoded before; then by their keys."""
    with psycopg.connect(target.url) as connection, connection.cursor() as cursor:

        def batch(number: int) -> pa.Table:
            table = rows(FEW)
            later = pa.array(table["event_timestamp"].cast(pa.int64()).to_numpy() + number * FEW * SPACING_US)
            at = later.cast(pa.timestamp("us", tz="UTC"))
            return table.set_column(1, "event_timestamp", at).set_column(2, "available_timestamp", at)

        batches = iter([batch(number) for number in range(2 * ROUNDS_FEW + 3)])
        types = [known_type(OIDS[field.type], field.name) for field in rows(FEW).schema]
        encoded = iter(
            [b"".join(encode_arrow(batch(-1 - n), batch(0).column_names, types)) for n in range(ROUNDS_FEW + 2)]
        )
        statement = f"COPY {TABLE} ({', '.join(batch(0).column_names)}) FROM STDIN (FORMAT binary)"

        def plain(_: int) -> None:
            copy_arrow(cursor, next(batches), TABLE)
            connection.commit()

        def bare(_: int) -> None:
            with cursor.copy(statement) as copy:
                copy.write(next(encoded))
            connection.commit()

        def keyed(_: int) -> None:
            if append_keyed(connection, KEYED, next(batches)).added != FEW:
                raise AssertionError("rows that were not new")

        mine, floor = interleave(plain, bare, rounds=ROUNDS_FEW)
        by_key = alone(keyed, rounds=ROUNDS_FEW)
    sizes: dict[str, int | float | str] = {"rows": FEW, "features": FEATURES}
    question = f"bulk insert of {FEW:,} rows × {FEATURES} columns, indexed hypertable"
    notes = f"{target.edition}, fsync on, commit included"
    known = f"the server's own part, COPY of bytes that were encoded before, took {1e3 * np.median(floor):.1f} ms in the same rounds"
    yield absolute(
        question, ours=mine * 1e3, unit="ms", at_most=10.0, sizes=sizes, notes=f"{notes}; {known}", if_missed=known
    )
    yield absolute(
        f"{question}, idempotent",
        ours=by_key * 1e3,
        unit="ms",
        at_most=40.0,
        sizes=sizes,
        notes=f"{notes}; what a push does: temporary table, newest stored row of each key, insert",
        if_missed="other work on the machine: it sends the rows twice through the server, "
        f"whose own part of the plain insert took {1e3 * np.median(floor):.1f} ms",
    )


def run() -> Iterator[Result]:
    """Measure."""
    with server() as target, tempfile.TemporaryDirectory(dir="/tmp") as folder:
        create(target.url)
        yield against_psql(target, rows(MANY), Path(folder))
        empty(target.url)
        yield from small(target)
