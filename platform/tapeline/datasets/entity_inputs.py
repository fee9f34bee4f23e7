"""Where entity rows come from: a table or stream, a file or folder, a query, a range of time, or the venue's sessions.

Whatever it is, it is read once, a batch at a time, and checked as it passes.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import psycopg
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.ipc
from psycopg import sql

from tapeline.compute.sessions import session_times
from tapeline.core.errors import InvalidDataError, ParameterError, SchemaError, UnavailableError
from tapeline.core.timestamps import format_us
from tapeline.datasets.entities import (
    BATCH_ROWS,
    ENTITY_ROWS_MAX,
    SESSION,
    TIME_COLUMN,
    checked,
    generate_entities,
    require_columns,
    require_known,
    too_many,
)
from tapeline.datasets.inputs import PriceSource
from tapeline.datasets.labels import LabelSpec
from tapeline.datasets.plan import RetrievalPlan
from tapeline.datasets.prices import lifetimes
from tapeline.datasets.visible_moments import visible_moments
from tapeline.storage.copy_reader import stream_query
from tapeline.storage.reference import find_source
from tapeline.storage.retrying import is_transient

SYMBOLS_MAX = 1_000_000
STDIN = Path("-")
_FORMATS = {".parquet": "parquet", ".arrow": "ipc", ".feather": "ipc"}


@dataclass(frozen=True)
class Generated:
    """Entity rows to generate: see :func:`tapeline.datasets.entities.generate_entities`."""

    symbols: tuple[str, ...] | None = None
    every: str = SESSION
    start_us: int | None = None
    end_us: int | None = None

    def __str__(self) -> str:
        who = ",".join(self.symbols) if self.symbols is not None else "all"
        start = f" from {format_us(self.start_us)}" if self.start_us is not None else ""
        end = f" to {format_us(self.end_us)}" if self.end_us is not None else ""
        return f"{who} every {self.every}{start}{end}"


@dataclass(frozen=True)
class Query:
    """Entity rows from a SELECT, which runs in the database: entity columns and ``event_timestamp``, with its zone."""

    text: str

    def __str__(self) -> str:
        return f"query {self.text}"


@dataclass(frozen=True)
class VisibleMoments:
    """Entity rows at each moment of a range at which a row of one of the views became visible; microseconds UTC."""

    start_us: int
    end_us: int

    def __str__(self) -> str:
        return f"every visible change from {format_us(self.start_us)} to {format_us(self.end_us)}"


@runtime_checkable
class ArrowStream(Protocol):
    """Anything that gives an Arrow stream: a table of pyarrow, polars or pandas, or a ``RecordBatchReader``."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


Entities: TypeAlias = ArrowStream | Path | Query | VisibleMoments | Generated
"""Entity rows: entity columns and an aware ``event_timestamp``. A path is a file (``.parquet``, ``.csv``, ``.arrow``), a
folder of Parquet files, or ``-``: an Arrow stream on standard input."""


@dataclass(frozen=True, slots=True)
class EntityStream:
    """Checked entity rows, a table at a time, in any order.

    Attributes
    ----------
    tables
        Entity columns, then ``event_timestamp``, in Tapeline's types.
    """

    tables: Iterator[pa.Table]


def describe(entities: Entities) -> str:
    """What the manifest says of where the entity rows come from."""
    if isinstance(entities, Generated | Query | VisibleMoments):
        return str(entities)
    return f"file {entities.name}" if isinstance(entities, Path) and entities != STDIN else "given rows"


def is_intraday(entities: Entities, spec: LabelSpec | None) -> bool:
    """Whether prices inside a session matter, rather than one a session."""
    if spec is not None:
        return spec.hours > 0
    return isinstance(entities, Generated) and entities.every != SESSION


def identity(entities: Entities) -> str | None:
    """A text that changes where the entity rows may; none for a stream, which has to be read to be told apart."""
    if isinstance(entities, Path) and entities != STDIN:
        files = sorted(entities.rglob("*")) if entities.is_dir() else [entities]
        facts = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
        return f"{entities.resolve()} {hashlib.sha256(repr(facts).encode()).hexdigest()}"
    return str(entities) if isinstance(entities, Generated | Query | VisibleMoments) else None


def require_readable(path: Path) -> None:
    """Refuse a path that is no entity input.

    Raises
    ------
    ParameterError
        If it does not exist or has another ending.
    """
    if path == STDIN or path.is_dir():
        return
    if not path.is_file():
        raise ParameterError(f"{path} does not exist", where="--entities", remedy="Give a file, or symbols, or all")
    if path.suffix not in {*_FORMATS, ".csv"}:
        raise ParameterError(f"{path} is neither .parquet, .arrow nor .csv", where="--entities")


@contextmanager
def opened(
    connection: psycopg.Connection[Any],
    plan: RetrievalPlan,
    entities: Entities,
    source: PriceSource | None,
    vintage_us: int,
) -> Iterator[EntityStream]:
    """Open entity rows for reading once.

    Raises
    ------
    UnknownNameError
        If a symbol has no data; the message names the nearest.
    ParameterError
        If rows are to be generated for a service whose views or entities are not Tapeline's.
    InvalidDataError, NaiveTimestampError, EmptyDataError
        If rows are not as they have to be; raised as they pass.
    """
    columns = plan.entity_columns
    known = None
    if source is not None and "symbol" in columns:
        known = lifetimes(connection, source.kind, source.source, vintage_us=vintage_us)
    if isinstance(entities, Generated):
        if source is None or known is None or columns != ("symbol",):
            raise ParameterError(
                "entity rows can only be generated for services over Tapeline's views",
                where=f"service {plan.service}",
                remedy="Give a file of entity rows",
            )
        declared = find_source(connection, source.source)
        tables = generate_entities(
            known,
            session_times(source.calendar),
            symbols=entities.symbols,
            every=entities.every,
            lag_us=declared.declared_lag_us if declared else 0,
            start_us=entities.start_us,
            end_us=entities.end_us,
        )
        where = "generated entity rows"
        yield _checked_stream(tables, plan, where, known, source)
    elif isinstance(entities, Query | VisibleMoments):
        where = "entity query" if isinstance(entities, Query) else "visible moments"
        with stream_query(connection, _statement(entities, plan, vintage_us)) as reader:
            require_columns(reader.schema, columns, where)
            tables = _query_tables(reader, where)
            yield _checked_stream(tables, plan, where, known, source, allow_null=isinstance(entities, VisibleMoments))
    elif isinstance(entities, Path):
        yield _checked_stream(_file_tables(entities, columns), plan, str(entities), known, source)
    else:
        reader = pa.RecordBatchReader.from_stream(entities)
        require_columns(reader.schema, columns, "entity rows")
        yield _checked_stream(_read(reader, "entity rows"), plan, "entity rows", known, source)


def _checked_stream(
    tables: Iterable[pa.Table],
    plan: RetrievalPlan,
    where: str,
    known: dict[str, tuple[int, int]] | None,
    source: PriceSource | None,
    *,
    allow_null: bool = False,
) -> EntityStream:
    columns = plan.entity_columns

    def flow() -> Iterator[pa.Table]:
        rows, passed = 0, set[str]()
        for table in tables:
            if table.num_rows == 0:
                continue
            one = checked(table, columns, where=where, first_row=rows, allow_null=allow_null)
            rows += one.num_rows
            if rows > ENTITY_ROWS_MAX:
                raise too_many(ENTITY_ROWS_MAX)
            if "symbol" in columns:
                new = {name for name in one.column("symbol").unique().to_pylist() if name is not None} - passed
                if known is not None and source is not None:
                    require_known(sorted(map(str, new)), known, f"{where}, source {source.source}")
                passed.update(new)
                if len(passed) > SYMBOLS_MAX:
                    raise too_many(SYMBOLS_MAX)
            yield one

    return EntityStream(flow())


def _statement(entities: Query | VisibleMoments, plan: RetrievalPlan, vintage_us: int) -> sql.Composable:
    if isinstance(entities, Query):
        return sql.SQL(entities.text)
    if entities.start_us > entities.end_us:
        raise ParameterError("the range ends before it begins", where="--start and --end")
    return visible_moments(plan.views, entities.start_us, entities.end_us, vintage_us, time_column=TIME_COLUMN)


def _read(reader: Iterable[pa.RecordBatch], where: str) -> Iterator[pa.Table]:
    try:
        for batch in reader:
            table = pa.Table.from_batches([batch])
            for begin in range(0, table.num_rows, BATCH_ROWS):
                yield table.slice(begin, BATCH_ROWS)
    except pa.ArrowInvalid as error:
        raise InvalidDataError(f"the entity rows cannot be read: {error}", where=where) from None


def _query_tables(reader: pa.RecordBatchReader, where: str) -> Iterator[pa.Table]:
    try:
        yield from _read(reader, where)
    except psycopg.Error as error:
        answer = " ".join(str(error).split())
        if is_transient(error):
            raise UnavailableError(f"the database went away: {answer}", remedy="Run the same command again") from error
        raise SchemaError(f"the query failed: {answer}", where=where) from error


def _file_tables(path: Path, columns: tuple[str, ...]) -> Iterator[pa.Table]:
    require_readable(path)
    wanted = [*columns, TIME_COLUMN]
    try:
        if path == STDIN:
            reader = pa.ipc.open_stream(sys.stdin.buffer)
            require_columns(reader.schema, columns, "standard input")
            yield from _read(reader, "standard input")
        elif path.suffix == ".csv":
            yield from _csv_tables(path, columns)
        else:
            format_name = "parquet" if path.is_dir() else _FORMATS[path.suffix]
            files = pyarrow.dataset.dataset(path, format=format_name, partitioning="hive" if path.is_dir() else None)
            require_columns(files.schema, columns, str(path))
            yield from _read(
                files.to_batches(columns=wanted, batch_size=BATCH_ROWS, batch_readahead=2, fragment_readahead=1),
                str(path),
            )
    except pa.ArrowInvalid as error:
        raise InvalidDataError(f"the entity rows cannot be read: {error}", where=str(path)) from None


def _csv_tables(path: Path, columns: tuple[str, ...]) -> Iterator[pa.Table]:
    with path.open("rb") as file:
        if not file.read(1):
            return
    names = pa.csv.open_csv(path).schema.names
    require_columns(pa.schema([(name, pa.string()) for name in names]), columns, str(path))
    wanted = [*columns, TIME_COLUMN]
    options = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(wanted, pa.string()),
        include_columns=wanted,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    yield from _read(pa.csv.open_csv(path, convert_options=options), str(path))
