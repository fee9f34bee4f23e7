"""What slices add up to: the fingerprint, the counts, and, where the data set is written, its files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from tapeline.core.errors import IntegrityError
from tapeline.datasets.entities import TIME_COLUMN
from tapeline.datasets.fingerprint import Fingerprint, StreamingFingerprint
from tapeline.datasets.part_files import PartFile, PartitionBy, read_part, require_few, write_part
from tapeline.datasets.slices import Slice
from tapeline.datasets.workfolder import Record, WorkFolder


@dataclass(frozen=True, slots=True)
class Assembled:
    """A data set's content.

    Attributes
    ----------
    fingerprint, schema
        Of the rows; none of both if there are no rows.
    rows, without_label
        Counts.
    span_us
        First and last moment, microseconds UTC.
    parts
        The files, in the order of the rows.
    """

    fingerprint: Fingerprint | None
    schema: pa.Schema | None
    rows: int
    without_label: int
    span_us: tuple[int, int] | None
    parts: tuple[PartFile, ...]


class Assembly:
    """Takes slices in their order, each finished on a thread of its own while the next one is made.

    Parameters
    ----------
    work
        Where to write them; none: they are only fingerprinted.
    partition_by
        How the files are laid out.
    """

    def __init__(self, work: WorkFolder | None, partition_by: PartitionBy) -> None:
        self._work = work
        self._partition_by = partition_by
        self._content: StreamingFingerprint | None = None
        self._schema: pa.Schema | None = None
        self._rows = self._without_label = 0
        self._span_us: tuple[int, int] | None = None
        self._parts: list[PartFile] = []

    def take_up(self, records: Iterable[Record], advance: Callable[[int], object]) -> tuple[int, int]:
        """Read finished slices again.

        Returns
        -------
        tuple
            How many slices are as they were written, up to the first that is not, and of how many entity rows.
        """
        if self._work is None:
            raise AssertionError("only a written data set can be taken up")
        slices = entity_rows = 0
        for record in records:
            parts = [PartFile.model_validate(part) for part in record["parts"]]
            try:
                tables = [read_part(self._work.set, part, verify=True) for part in parts]
            except IntegrityError:
                break
            for table in tables:
                self._count(table)
            self._parts += parts
            self._without_label += record["without_label"]
            slices += 1
            entity_rows += record["entity_rows"]
            advance(entity_rows)
        return slices, entity_rows

    def take_all(self, slices: Iterable[Slice], advance: Callable[[int], object]) -> Assembled:
        """Take the rest. At most one slice waits for the one before it to be written."""
        before: Future[None] | None = None
        done = 0
        with ThreadPoolExecutor(1, thread_name_prefix="assembly") as thread:
            for one in slices:
                if before is not None:
                    before.result()
                    advance(done)
                before = thread.submit(self._take, one)
                done += one.entity_rows
            if before is not None:
                before.result()
                advance(done)
        content = self._content.result() if self._content is not None else None
        return Assembled(content, self._schema, self._rows, self._without_label, self._span_us, tuple(self._parts))

    def close(self) -> None:
        """End the fingerprint's threads."""
        if self._content is not None:
            self._content.__exit__(None, None, None)

    def _take(self, one: Slice) -> None:
        self._without_label += one.without_label
        parts: list[PartFile] = []
        if one.rows.num_rows:
            if self._work is not None:
                parts = write_part(self._work.set, one.number, one.rows, self._partition_by)
                self._parts += parts
                require_few(len(self._parts))
            self._count(one.rows)
        if self._work is not None:
            self._work.add(
                {
                    "slice": one.number,
                    "entity_rows": one.entity_rows,
                    "without_label": one.without_label,
                    "parts": [part.model_dump() for part in parts],
                }
            )

    def _count(self, table: pa.Table) -> None:
        if self._content is None:
            self._schema = table.schema
            self._content = StreamingFingerprint(table.schema)
        self._content.update(table)
        self._rows += table.num_rows
        first_us, last_us = (int(table.column(TIME_COLUMN)[at].value) for at in (0, table.num_rows - 1))
        self._span_us = (self._span_us[0] if self._span_us else first_us, last_us)
