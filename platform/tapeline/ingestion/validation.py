"""Batches of rows as they came, in; good canonical rows and refused rows with their reason, out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from tapeline.core.clock import LiveClock
from tapeline.core.errors import OutOfOrderError
from tapeline.ingestion.actions import ActionChecks
from tapeline.ingestion.calendars import place_in_sessions
from tapeline.ingestion.inputs import Batch
from tapeline.ingestion.layout import Layout
from tapeline.ingestion.reading import UTC_US, as_text, read_columns, refuse_naive
from tapeline.ingestion.rules import order_schema, row_schema
from tapeline.storage.raw_tables import RAW_TABLES
from tapeline.storage.reference import Instrument, Source


@dataclass(frozen=True, slots=True)
class Checked:
    """One batch after validation.

    Parameters
    ----------
    rows_read
        How many rows came.
    good
        Canonical rows for the raw table, with ``row``.
    bad
        Refused rows: ``row``, ``rule``, ``reason``.
    content
        Of the bad rows, the values as they came, as text: ``row`` and our columns.
    """

    rows_read: int
    good: pl.DataFrame
    bad: pl.DataFrame
    content: pl.DataFrame


class Validator:
    """Checks the batches of one input, in their order.

    Parameters
    ----------
    source
        What the rows belong to.
    columns
        Our column → theirs, from :func:`tapeline.ingestion.layout.resolve`.
    layout
        How values are written.
    instruments
        Validity intervals of every symbol that may come.
    where
        The input's name, for messages.
    actions
        What rows of corporate actions are held against; for these only.
    in_order
        Whether time may not go backwards; not so for rows that are replayed, and never for corporate actions.
    """

    def __init__(
        self,
        source: Source,
        columns: dict[str, str],
        layout: Layout,
        instruments: Sequence[Instrument],
        where: str,
        *,
        actions: ActionChecks | None = None,
        in_order: bool = True,
    ) -> None:
        self._source = source
        self._columns = columns
        self._layout = layout
        self._where = where
        self._table = RAW_TABLES[source.kind]
        self._actions = actions
        self._in_order = in_order and actions is None
        self._first = True
        self._key = self._table.key
        self._validity = pl.DataFrame(
            {
                "symbol": [one.symbol for one in instruments],
                "_from": [one.valid_from_us for one in instruments],
                "_to": [one.valid_to_us for one in instruments],
            },
            schema={"symbol": pl.String, "_from": pl.Int64, "_to": pl.Int64},
        ).with_columns(pl.col("_from", "_to").cast(UTC_US))
        self._counts = pl.DataFrame(schema={"symbol": pl.String, "_next": pl.Int64})
        self._latest = pl.DataFrame(schema={"symbol": pl.String, "_before": UTC_US})
        self._tail: pl.DataFrame | None = None  # of each symbol, the rows of its latest time
        self._now = pl.lit(LiveClock().now_us()).cast(UTC_US)

    def check(self, batch: Batch) -> Checked:
        """Validate the next batch.

        Raises
        ------
        NaiveTimestampError
            If the first batch has times without a zone, and the layout names none.
        OutOfOrderError
            If most rows of the first batch go backwards in time: the whole input is in another order.
        """
        came = batch.frame.select(
            pl.Series("row", batch.rows), *(pl.col(theirs).alias(ours) for ours, theirs in self._columns.items())
        )
        frame = read_columns(came, self._source.kind, self._layout, self._where)
        if self._first:
            refuse_naive(frame, self._where)
        frame = self._numbered(frame)
        bad = [frame.filter(pl.col("rule").is_not_null()).select("row", "rule", "reason")]
        kept = frame.filter(pl.col("rule").is_null()).drop("rule", "reason")
        kept = self._completed(kept)
        broken = row_schema(self._source.kind).broken(kept)
        bad.append(broken)
        kept = kept.join(broken, on="row", how="anti", maintain_order="left")
        broken = order_schema(self._source.kind).broken(self._against_earlier(kept))
        if self._first and 2 * (broken["rule"] == "time_goes_backwards").sum() > len(kept):
            row = broken.row(0, named=True)
            raise OutOfOrderError(
                f"most rows go backwards in time; the first: {row['reason']}",
                where=f"{self._where}, row {row['row']}",
                remedy="Sort the data by time, oldest first, and ingest it again",
            )
        bad.append(broken)
        kept = kept.join(broken, on="row", how="anti", maintain_order="left")
        self._remember(kept)
        self._first = False
        refused = pl.concat(bad).sort("row")
        content = as_text(came.join(refused.select("row"), on="row", how="semi")).with_columns(
            pl.col("row").cast(pl.Int64)
        )
        content = self._with_sequence(content, frame)
        refused, content = _with_malformed(refused, content, batch)
        names = ("row", *self._key, "published_timestamp", "deleted", *self._table.content)
        return Checked(len(batch.rows) + len(batch.malformed), kept.select(names), refused, content)

    def _numbered(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Number the rows of each symbol, bad ones too, where the data has no sequence."""
        if self._table.sequence_default is not None:
            return frame.with_columns(pl.col("sequence").fill_null(self._table.sequence_default))
        if "sequence" in self._columns:
            return frame
        numbered = frame.join(self._counts, on="symbol", how="left", maintain_order="left").with_columns(
            sequence=pl.col("_next").fill_null(self._layout.first_sequence) + pl.int_range(pl.len()).over("symbol")
        )
        ends = numbered.group_by("symbol").agg(_next=pl.col("sequence").max() + 1)
        self._counts = pl.concat([self._counts, ends]).group_by("symbol").agg(pl.col("_next").max())
        return numbered.drop("_next")

    def _with_sequence(self, content: pl.DataFrame, frame: pl.DataFrame) -> pl.DataFrame:
        """Keep a given number with a refused row: replayed, it takes the place it had."""
        if self._layout.symbol is not None:
            content = content.with_columns(symbol=pl.lit(self._layout.symbol))
        if self._table.sequence_default is not None or "sequence" in self._columns:
            return content
        return content.join(frame.select("row", pl.col("sequence").cast(pl.String)), on="row", how="left")

    def _completed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Add what the rules ask for beside the columns themselves."""
        if self._source.kind == "bars":
            frame = place_in_sessions(frame, self._source.calendar, self._layout.bar_width_us)
        if self._actions is not None:
            frame = self._actions.complete(frame)
        listed = pl.col("event_timestamp") >= pl.col("_from")
        delisted = (pl.col("event_timestamp") >= pl.col("_to")).fill_null(False)
        valid = (
            frame.select("row", "symbol", "event_timestamp")
            .join(self._validity, on="symbol", how="left", maintain_order="left")
            .group_by("row", maintain_order=True)
            .agg(_valid=(listed & ~delisted).any())
        )
        return frame.with_columns(valid["_valid"], _now=self._now)

    def _against_earlier(self, frame: pl.DataFrame) -> pl.DataFrame:
        frame = frame.join(self._latest, on="symbol", how="left", maintain_order="left")
        within = pl.col("event_timestamp").cum_max().shift(1).over("symbol")
        latest = pl.max_horizontal("_before", within) if self._in_order else pl.lit(None, UTC_US)
        conflict = pl.col("row").is_in(self._conflicts(frame).to_list())
        frame = frame.with_columns(_latest=latest, _conflict=conflict).drop("_before")
        if self._actions is None:
            return frame
        alone = self._actions.with_closes(frame.filter(~pl.col("_conflict")))
        return pl.concat([frame.filter("_conflict"), alone], how="diagonal").sort("row")

    def _conflicts(self, frame: pl.DataFrame) -> pl.Series:
        """Rows whose key another row has with other content; exact repetitions are no conflict."""
        names = ["row", *self._key, "deleted", *self._table.content]
        rows = frame.select(names)
        if self._tail is not None:
            rows = pl.concat([self._tail.select(names).with_columns(row=pl.lit(-1, pl.Int64)), rows])
        twice = rows.filter(pl.struct(self._key).is_duplicated())
        if twice.is_empty():
            return twice["row"]
        content = pl.struct(pl.exclude("row", *self._key))
        differing = twice.filter(content.n_unique().over(self._key) > 1)
        return differing["row"].filter(differing["row"] > 0)

    def _remember(self, kept: pl.DataFrame) -> None:
        if self._actions is not None:  # few, and in any order: all are remembered
            self._tail = kept if self._tail is None else pl.concat([self._tail, kept.select(self._tail.columns)])
            return
        ends = kept.group_by("symbol").agg(_before=pl.col("event_timestamp").max())
        self._latest = pl.concat([self._latest, ends]).group_by("symbol").agg(pl.col("_before").max())
        rows = kept if self._tail is None else pl.concat([self._tail, kept.select(self._tail.columns)])
        at_end = rows.join(self._latest, on="symbol").filter(pl.col("event_timestamp") == pl.col("_before"))
        self._tail = at_end.drop("_before")


def _with_malformed(refused: pl.DataFrame, content: pl.DataFrame, batch: Batch) -> tuple[pl.DataFrame, pl.DataFrame]:
    if not batch.malformed:
        return refused, content
    rows = [row for row, _, _ in batch.malformed]
    faults = pl.DataFrame(
        {"row": rows, "rule": "malformed_line", "reason": [reason for _, _, reason in batch.malformed]}
    )
    lines = pl.DataFrame({"row": rows, "line": [text for _, text, _ in batch.malformed]})
    return pl.concat([refused, faults]), pl.concat([content, lines], how="diagonal")
