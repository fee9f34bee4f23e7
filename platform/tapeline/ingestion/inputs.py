"""Files and frames as a stream of batches, in bounded memory.

Text stays text here: a value that cannot be read is one bad row, not a bad file.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from tapeline.core.errors import EmptyDataError, InvalidDataError, ParameterError

BATCH_ROWS = 100_000
BLOCK_BYTES = 4 << 20
_UNREADABLE = (pa.ArrowInvalid, OSError, EOFError, zlib.error)
_CSV_IS = "Write UTF-8 text, a header line and lines with as many columns"
_NULLS = ["", "NA", "N/A", "null", "NULL", "None"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive rows.

    ``rows`` are their 1-based numbers in the whole input; ``malformed`` are (row, text, reason) of lines that have the
    wrong number of columns and so are not in ``frame``.
    """

    rows: NDArray[np.int64]
    frame: pl.DataFrame
    malformed: Sequence[tuple[int, str, str]] = ()


class Input(Protocol):
    """Something that rows can be read from, more than once."""

    @property
    def name(self) -> str:
        """How a message calls it."""
        ...

    @property
    def columns(self) -> list[str]:
        """Names of its columns."""
        ...

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        """Its rows from the start, these columns only."""
        ...


@dataclass(frozen=True, slots=True)
class FrameInput:
    """A DataFrame."""

    frame: pl.DataFrame
    name: str = "frame"

    @property
    def columns(self) -> list[str]:
        return self.frame.columns

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        picked = self.frame.select(columns)
        for start in range(0, len(picked), BATCH_ROWS):
            piece = picked.slice(start, BATCH_ROWS)
            yield Batch(_numbers(start + 1, len(piece)), piece)


@dataclass(frozen=True, slots=True)
class ParquetInput:
    """A Parquet file."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def columns(self) -> list[str]:
        with self._open() as file:
            return list(file.schema_arrow.names)

    def _open(self) -> pyarrow.parquet.ParquetFile:
        try:
            return pyarrow.parquet.ParquetFile(self.path)
        except (pa.ArrowInvalid, OSError) as error:
            raise InvalidDataError(f"it is no readable Parquet file: {error}", where=self.name) from error

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        row = 1
        with self._open() as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
                frame = pl.from_arrow(batch)
                assert isinstance(frame, pl.DataFrame)
                yield Batch(_numbers(row, len(frame)), frame)
                row += len(frame)


@dataclass(frozen=True, slots=True)
class CsvInput:
    """A CSV file with a header line; compressed by gzip or another way that Arrow knows, by its ending.

    Parameters
    ----------
    name
        How messages call it.
    open_bytes
        Opens it anew, decompressed.
    """

    name: str
    open_bytes: Callable[[], IO[bytes]]

    @property
    def columns(self) -> list[str]:
        reader = self._reader(None, [])
        try:
            return list(reader.schema.names)
        except UnicodeDecodeError as error:
            raise self._unreadable(error) from error
        finally:
            reader.close()

    def _reader(
        self, columns: Sequence[str] | None, malformed: list[tuple[int, str, str]]
    ) -> pyarrow.csv.CSVStreamingReader:
        def refuse(row: Any) -> str:
            # Its number counts the header line.
            number = (row.number or 1) - 1
            reason = f"the line has {row.actual_columns} columns, the header {row.expected_columns}"
            malformed.append((number, str(row.text), reason))
            return "skip"

        convert = pyarrow.csv.ConvertOptions(
            include_columns=None if columns is None else list(columns),
            column_types=None if columns is None else dict.fromkeys(columns, pa.string()),
            null_values=_NULLS,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        try:
            return pyarrow.csv.open_csv(
                self.open_bytes(),
                # One thread, or malformed rows come without their number.
                read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                parse_options=pyarrow.csv.ParseOptions(invalid_row_handler=refuse),
                convert_options=convert,
            )
        except _UNREADABLE as error:
            if self._is_empty():
                raise EmptyDataError("the file is empty", where=self.name, remedy="Check the file") from error
            raise self._unreadable(error) from error

    def _is_empty(self) -> bool:
        try:
            with self.open_bytes() as file:
                return not file.read(1)
        except _UNREADABLE:
            return False

    def _unreadable(self, error: Exception) -> InvalidDataError:
        return InvalidDataError(f"it is no readable CSV file: {error}", where=self.name, remedy=_CSV_IS)

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        malformed: list[tuple[int, str, str]] = []
        row = 1
        with self._reader(columns, malformed) as reader:
            while True:
                try:
                    batch = reader.read_next_batch()
                except StopIteration:
                    break
                except _UNREADABLE as error:
                    raise self._unreadable(error) from error
                frame = pl.from_arrow(batch)
                assert isinstance(frame, pl.DataFrame)
                # Arrow reads ahead, so some of the malformed lines may belong to later batches.
                stop = row + len(frame)
                mine = []
                while malformed and malformed[0][0] < stop:
                    mine.append(malformed.pop(0))
                    stop += 1
                rows = np.setdiff1d(_numbers(row, stop - row), [number for number, _, _ in mine], assume_unique=True)
                yield Batch(rows, frame, mine)
                row = stop
        if malformed:
            yield Batch(_numbers(row, 0), pl.DataFrame(schema=dict.fromkeys(columns, pl.String)), malformed)


def _numbers(first: int, count: int) -> NDArray[np.int64]:
    return np.arange(first, first + count, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _CompressedFile:
    path: Path

    def __call__(self) -> IO[bytes]:
        stream: IO[bytes] = pa.input_stream(str(self.path), compression="detect")
        return stream


def open_input(data: str | Path | pl.DataFrame | pa.Table | Any) -> Input:
    """The input behind a path (CSV or Parquet by its ending) or a polars, pandas or Arrow frame.

    Raises
    ------
    InvalidDataError
        If the file does not exist.
    ParameterError
        If the ending or the type is none of those.
    """
    if isinstance(data, pl.DataFrame):
        return FrameInput(data)
    if isinstance(data, pa.Table | pa.RecordBatch):
        frame = pl.from_arrow(data)
        assert isinstance(frame, pl.DataFrame)
        return FrameInput(frame)
    if isinstance(data, str | Path):
        path = Path(data).expanduser().resolve()
        if not path.is_file():
            raise InvalidDataError(f"there is no file {path}", remedy="Check the path")
        endings = [ending.casefold() for ending in path.suffixes]
        if ".parquet" in endings[-1:]:
            return ParquetInput(path)
        if ".csv" in endings[-2:]:
            return CsvInput(str(path), _CompressedFile(path))
        raise ParameterError(f"cannot tell the format of {path.name}", remedy="Name it .csv, .csv.gz or .parquet")
    if type(data).__module__.partition(".")[0] == "pandas":
        return FrameInput(pl.from_pandas(data))
    raise ParameterError(
        f"cannot ingest a {type(data).__name__}", remedy="Give a path, or a polars, pandas or Arrow frame"
    )
