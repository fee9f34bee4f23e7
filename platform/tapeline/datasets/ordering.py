"""Entity rows put in order on disk: by time, then entity columns, nulls last; however many there are.

Rows are cut into runs, each run is sorted and written to a file. If every run follows the one before it, the files are
the result; else they are merged. Rows that are equal in all columns are equal altogether, so their order is of no
consequence, and an entity row that occurs twice stays twice.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tapeline.core.errors import EmptyDataError, IntegrityError
from tapeline.datasets.entities import TIME_COLUMN
from tapeline.datasets.fingerprint import StreamingFingerprint
from tapeline.datasets.part_files import sync_file

RUN_ROWS = 4_000_000
"""Rows that are sorted at once; also the rows of each file of entity rows."""
_GROUP_ROWS = 131_072
_MERGED_ROWS = 4_194_304
"""Rows that a merge holds at once, of all runs together."""

Key = tuple[tuple[bool, Any], ...]


@dataclass(frozen=True, slots=True)
class OrderedRows:
    """Entity rows in order, in files.

    Attributes
    ----------
    files
        Parquet files, one after another.
    rows
        Their number.
    span_us
        First and last moment, microseconds UTC.
    sha256
        Fingerprint of the rows.
    symbols
        The symbols that occur, sorted.
    """

    files: tuple[Path, ...]
    rows: int
    span_us: tuple[int, int]
    sha256: str
    symbols: tuple[str, ...]


def regrouped(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of exactly so many rows, but for the last."""
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        rest = table
        while rest.num_rows:
            piece = rest.slice(0, rows - count)
            waiting.append(piece)
            count += piece.num_rows
            rest = rest.slice(piece.num_rows)
            if count == rows:
                yield pa.concat_tables(waiting)
                waiting, count = [], 0
    if waiting:
        yield pa.concat_tables(waiting)


def write_ordered(
    tables: Iterable[pa.Table],
    columns: Sequence[str],
    folder: Path,
    spill: Path,
    *,
    run_rows: int = RUN_ROWS,
    advance: Callable[[int], object] = lambda _: None,
) -> OrderedRows:
    """Write entity rows to a folder, in order.

    Parameters
    ----------
    tables
        The rows: entity columns and ``event_timestamp``.
    columns
        The entity columns.
    folder
        Gets ``part-00000.parquet`` and so on.
    spill
        A folder for the runs in between; on the same disk.
    run_rows
        Rows of a run, and of a file.
    advance
        Told how many rows have been read so far.

    Raises
    ------
    EmptyDataError
        If there are no rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spill.mkdir(parents=True, exist_ok=True)
    runs: list[Path] = []
    symbols: set[str] = set()
    last: Key | None = None
    in_order = True
    content: StreamingFingerprint | None = None
    rows = 0
    for table in regrouped(tables, run_rows):
        run = in_time_order(table, columns)
        runs.append(_write(run, spill / f"run-{len(runs):05}.parquet", columns))
        in_order = in_order and (last is None or last <= _key(run, 0, columns))
        last = _key(run, run.num_rows - 1, columns)
        rows += run.num_rows
        if "symbol" in columns:
            symbols.update(filter(None, run.column("symbol").unique().to_pylist()))
        if in_order:
            content = content or StreamingFingerprint(run.schema)
            content.update(run)
        advance(rows)
    if content is None:
        raise EmptyDataError("there are no entity rows", remedy="Give a row for each entity and moment")
    if in_order:
        files = [run.rename(folder / f"part-{number:05}.parquet") for number, run in enumerate(runs)]
    else:
        files = []
        content = StreamingFingerprint(pq.read_schema(runs[0]))
        for table in regrouped(merged(runs, columns), run_rows):
            files.append(_write(table, folder / f"part-{len(files):05}.parquet", columns))
            content.update(table)
        for run_file in runs:
            run_file.unlink()
    with content:
        digest = content.result().sha256
    return OrderedRows(tuple(files), rows, span_of(files), digest, tuple(sorted(symbols)))


def verify_ordered(files: Sequence[Path], columns: Sequence[str]) -> OrderedRows:
    """Read files of entity rows again: their fingerprint, span and symbols.

    Raises
    ------
    IntegrityError
        If a file is missing or unreadable.
    """
    content: StreamingFingerprint | None = None
    symbols: set[str] = set()
    try:
        for table in read_rows(files):
            content = content or StreamingFingerprint(table.schema)
            content.update(table)
            if "symbol" in columns:
                symbols.update(filter(None, table.column("symbol").unique().to_pylist()))
        if content is None:
            raise IntegrityError("there are no entity rows", where=str(files[0].parent) if files else None)
        with content:
            digest = content.result().sha256
        return OrderedRows(tuple(files), content.rows, span_of(files), digest, tuple(sorted(symbols)))
    except (OSError, pa.ArrowInvalid) as error:
        raise IntegrityError(f"the entity rows cannot be read: {error}") from None


def read_rows(files: Iterable[Path], *, skip: int = 0) -> Iterator[pa.Table]:
    """The rows of files of entity rows, some at a time, without the first `skip`."""
    for file in files:
        with pq.ParquetFile(file, buffer_size=1 << 20) as opened:
            if skip >= opened.metadata.num_rows:
                skip -= opened.metadata.num_rows
                continue
            for batch in opened.iter_batches(batch_size=_GROUP_ROWS):
                table = pa.Table.from_batches([batch])
                if skip < table.num_rows:
                    yield table.slice(skip)
                skip = max(0, skip - table.num_rows)


def span_of(files: Sequence[Path]) -> tuple[int, int]:
    """First and last moment of ordered files."""
    found = []
    for file, last in ((files[0], False), (files[-1], True)):
        with pq.ParquetFile(file) as opened:
            group = opened.num_row_groups - 1 if last else 0
            moments = opened.read_row_group(group, columns=[TIME_COLUMN]).column(0).cast(pa.int64())
        found.append(int(moments[-1 if last else 0].as_py()))
    return found[0], found[1]


def in_time_order(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The rows ordered by time, then entity columns."""
    table = table.combine_chunks()  # taking rows out of many chunks is slow
    moments = table.column(TIME_COLUMN).cast(pa.int64()).to_numpy()
    ranks = [_ranks(table.column(name)) for name in columns]
    place = _places(moments, ranks)
    if place is None:
        return table.take(pa.array(np.lexsort((*reversed(ranks), moments))))
    if bool((place[1:] >= place[:-1]).all()):
        return table
    # A merge of ordered pieces takes the stable sort little time, anything else the other one less.
    stable = int(np.count_nonzero(place[1:] < place[:-1])) * 1_000 < len(place)
    return table.take(pa.array(np.argsort(place, kind="stable" if stable else "quicksort")))


def _places(moments: NDArray[np.int64], ranks: Sequence[NDArray[np.int64]]) -> NDArray[np.int64] | None:
    """One number for each row, in the rows' order; none where they would not fit."""
    if len(moments) == 0:
        return moments
    room = np.iinfo(np.int64).max // (int(moments.max()) - int(moments.min()) + 1)
    if room == 0:
        return None
    place = moments - moments.min()
    for rank in ranks:
        low, width = int(rank.min()), int(rank.max()) - int(rank.min()) + 1
        room //= width
        if room == 0:
            return None
        place = place * width + (rank - low)
    return np.asarray(place, dtype=np.int64)


def merged(runs: Sequence[Path], columns: Sequence[str]) -> Iterator[pa.Table]:
    """The rows of ordered files, all in order.

    Each run has some rows in memory. Those up to the least of the runs' last rows in memory can have nothing before
    them that is not in memory, and leave; at least one run's all do.
    """
    held = max(1_024, min(_GROUP_ROWS, _MERGED_ROWS // len(runs)))
    open_runs = [_Run(file, columns, held) for file in runs]
    while open_runs := [run for run in open_runs if run.fill()]:
        bound = min(run.last for run in open_runs)
        yield in_time_order(pa.concat_tables([run.take_to(bound) for run in open_runs]), columns)


class _Run:
    """An ordered file that is read some rows at a time."""

    def __init__(self, file: Path, columns: Sequence[str], held: int) -> None:
        self._columns = columns
        self._batches = self._read(file, held)
        self._table: pa.Table | None = None
        self.last: Key = ()

    @staticmethod
    def _read(file: Path, held: int) -> Iterator[pa.Table]:
        with pq.ParquetFile(file, buffer_size=1 << 18) as opened:
            for batch in opened.iter_batches(batch_size=held):
                yield pa.Table.from_batches([batch])

    def fill(self) -> bool:
        """Have rows in memory; false at the end."""
        while self._table is None or self._table.num_rows == 0:
            self._table = next(self._batches, None)
            if self._table is None:
                return False
            self.last = _key(self._table, self._table.num_rows - 1, self._columns)
        return True

    def take_to(self, bound: Key) -> pa.Table:
        """The rows in memory that are not after a key."""
        if self._table is None:
            raise AssertionError("only a filled run has rows")
        table, columns = self._table, self._columns
        count = bisect.bisect_right(range(table.num_rows), bound, key=lambda row: _key(table, row, columns))
        self._table = table.slice(count)
        return table.slice(0, count)


def _key(table: pa.Table, row: int, columns: Sequence[str]) -> Key:
    """A row's place in the order; nulls come last."""
    values = [table.column(TIME_COLUMN)[row].value]
    values += [_value(table.column(name)[row]) for name in columns]
    return tuple((value is None, value) if value is not None else (True, 0) for value in values)


def _value(scalar: pa.Scalar) -> Any:
    return scalar.value if isinstance(scalar, pa.TimestampScalar) else scalar.as_py()


def _ranks(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """The rank of each value among the distinct ones; nulls come last."""
    if not pa.types.is_string(column.type):
        values = column.cast(pa.int64() if not pa.types.is_date(column.type) else pa.int32()).cast(pa.int64())
        if values.null_count == 0:
            return np.asarray(values.to_numpy(), dtype=np.int64)
    codes = column.combine_chunks().dictionary_encode()
    count = len(codes.dictionary)
    ranks = np.empty(count + 1, dtype=np.int64)
    ranks[pc.sort_indices(codes.dictionary).to_numpy()] = np.arange(count)
    ranks[count] = count
    return np.asarray(ranks[codes.indices.fill_null(count).to_numpy(zero_copy_only=False)], dtype=np.int64)


def _write(table: pa.Table, file: Path, columns: Sequence[str]) -> Path:
    pq.write_table(table, file, compression="zstd", row_group_size=_GROUP_ROWS, use_dictionary=list(columns))
    sync_file(file)
    return file
