"""The Parquet files of a data set: named by slice, and by year, month or day if it is partitioned; written to stay."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, StringConstraints

from tapeline.core.errors import IntegrityError, LimitError, ParameterError
from tapeline.core.hashing import sha256_file

PartitionBy = Literal["none", "year", "month", "day"]
PARTITIONS: tuple[PartitionBy, ...] = ("none", "year", "month", "day")
FILES_MAX = 100_000
_TIME_COLUMN = "event_timestamp"
_LEVELS = {"none": (), "year": ("year",), "month": ("year", "month"), "day": ("year", "month", "day")}
_UNITS = {"year": "M8[Y]", "month": "M8[M]", "day": "M8[D]"}


class PartFile(BaseModel):
    """A file of a data set: its path in the folder, how many rows it has, and the SHA-256 of its bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[str, StringConstraints(pattern=r"^data/(?:[a-z]+=\d+/)*part-\d+\.parquet$")]
    rows: int
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def require_partition(partition_by: str, names: tuple[str, ...]) -> None:
    """Refuse a way of partitioning that does not exist, or whose folders would hide a column.

    Raises
    ------
    ParameterError
        If it does not exist, or a column of the data set has the name of a folder level.
    """
    if partition_by not in PARTITIONS:
        raise ParameterError(f"{partition_by!r} is no partitioning", remedy=f"Choose one of {', '.join(PARTITIONS)}")
    hidden = [name for name in _LEVELS[partition_by] if name in names]
    if hidden:
        raise ParameterError(
            f"readers would take the folders for the column {hidden[0]}",
            where=f"partition by {partition_by}",
            remedy="Rename the feature, or use --partition-by none",
        )


def write_part(root: Path, number: int, table: pa.Table, partition_by: PartitionBy) -> list[PartFile]:
    """Write a slice's rows, ordered by time, under ``root/data``; each file is on the disk when this returns."""
    written = []
    texts = [field.name for field in table.schema if not pa.types.is_floating(field.type)]
    for folder, rows in _partitions(table, partition_by):
        path = root / "data" / folder / f"part-{number:05}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, path, compression="zstd", use_dictionary=texts)
        sync_file(path)
        written.append(PartFile(path=str(path.relative_to(root)), rows=rows.num_rows, sha256=sha256_file(path)))
    return written


def read_part(root: Path, part: PartFile, *, verify: bool = False) -> pa.Table:
    """A file's rows.

    Raises
    ------
    IntegrityError
        If it is missing or unreadable or, where that is to be verified, its bytes are others.
    """
    path = root / part.path
    try:
        if verify and sha256_file(path) != part.sha256:
            raise IntegrityError("the file is not what was written", where=str(path))
        with pq.ParquetFile(path) as opened:  # not read_table, which adds columns for folders such as year=2013
            return opened.read()
    except (OSError, pa.ArrowInvalid) as error:
        raise IntegrityError(
            f"the data cannot be read: {error}", where=str(path), remedy="Make it again with: tapeline rebuild"
        ) from None


def require_few(files: int) -> None:
    """Refuse more files than a folder is good for.

    Raises
    ------
    LimitError
        If there are too many.
    """
    if files > FILES_MAX:
        raise LimitError(f"the data set has more than {FILES_MAX} files", remedy="Partition by longer spans")


def sync_file(path: Path) -> None:
    """Return when a file's bytes are on the disk."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def sync_folder(path: Path) -> None:
    """Return when a folder's entries are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _partitions(table: pa.Table, partition_by: PartitionBy) -> Iterator[tuple[str, pa.Table]]:
    if partition_by == "none" or table.num_rows == 0:
        yield "", table
        return
    moments = table.column(_TIME_COLUMN).cast(pa.int64()).to_numpy().view("M8[us]")
    spans = moments.astype(_UNITS[partition_by])
    for begin, end in pairwise([0, *(np.flatnonzero(spans[1:] != spans[:-1]) + 1).tolist(), len(spans)]):
        values = str(spans[begin]).split("-")
        levels = zip(_LEVELS[partition_by], values, strict=True)
        yield "/".join(f"{level}={int(value)}" for level, value in levels), table.slice(begin, end - begin)
