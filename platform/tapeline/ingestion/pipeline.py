"""The one way in: read, validate, store what is good, quarantine what is not."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import psycopg

from tapeline.compute.sessions import session_times
from tapeline.core.clock import Clock, LiveClock
from tapeline.core.errors import EmptyDataError, InvalidDataError, ParameterError, UnknownNameError
from tapeline.core.settings import Settings, get_settings
from tapeline.core.timestamps import format_us, from_us
from tapeline.ingestion.actions import ActionChecks, actions_of_splits
from tapeline.ingestion.calendars import Coverage
from tapeline.ingestion.inputs import Input, open_input
from tapeline.ingestion.layout import Layout, resolve
from tapeline.ingestion.master import Split
from tapeline.ingestion.packaged import PACKAGED
from tapeline.ingestion.quarantine import store_refused
from tapeline.ingestion.report import IngestReport
from tapeline.ingestion.validation import Checked, Validator
from tapeline.lineage import record_source
from tapeline.storage.migrations import require_schema
from tapeline.storage.raw import AppendCounts, append_rows
from tapeline.storage.reference import (
    Instrument,
    Source,
    append_instruments,
    find_source,
    read_instruments,
    register_source,
    source_names,
)
from tapeline.storage.turns import require_idle


@dataclass(frozen=True, slots=True)
class NewInstruments:
    """What to enter in the instrument master for symbols that are not there yet.

    Parameters
    ----------
    calendar
        Exchange calendar; the source's if none.
    venue, asset_class, currency, tick_size
        The rest of the entry.
    valid_from_us
        Listing, µs since the epoch, UTC.
    """

    calendar: str | None = None
    venue: str = "unknown"
    asset_class: str = "unknown"
    currency: str = "USD"
    tick_size: float = 0.01
    valid_from_us: int = 315_532_800_000_000  # 1980-01-01, where the calendars begin


def ingest(
    connection: psycopg.Connection[Any],
    data: str | Path | pl.DataFrame | Any,
    source: Source | str | None = None,
    *,
    layout: Layout | None = None,
    since_us: int | None = None,
    until_us: int | None = None,
    new_instruments: NewInstruments | None = None,
    strict: bool = False,
    clock: Clock | None = None,
    settings: Settings | None = None,
    on_rows: Callable[[int], None] | None = None,
) -> IngestReport:
    """Ingest a packaged source, a file or a frame.

    Good rows are appended idempotently, batch by batch, each in its own transaction: an ingest may be repeated, or
    killed and started again. Bad rows go to the quarantine with their reason. What is wrong with the input as a whole
    is raised before anything is written.

    Parameters
    ----------
    connection
        To a migrated database; outside a transaction.
    data
        ``us-daily`` or ``cme-trades``; a path of a ``.csv``, ``.csv.gz`` or ``.parquet`` file; or a polars, pandas or
        Arrow frame.
    source
        A declaration, or the name of a source that is declared already. Not for packaged sources, which declare
        themselves.
    layout
        How columns and times of the data are written. Not for packaged sources.
    since_us, until_us
        Only rows whose event lies in this span, both ends included; µs since the epoch, UTC.
    new_instruments
        Enter symbols that the instrument master does not know; without it they are an error.
    strict
        Raise for the first bad row, before anything is written, instead of using the quarantine. The data is then
        read twice.
    clock
        Says when corrections arrive; the machine's if none.
    settings
        Whose data folder keeps downloads.
    on_rows
        Called with the number of rows after each batch.

    Returns
    -------
    IngestReport
        What became of every row.

    Raises
    ------
    UnknownNameError
        If a symbol, source, calendar or mapped column does not exist; the message names the nearest.
    InvalidDataError
        If a needed column is missing, a file cannot be read, or, if strict, a row is bad.
    NaiveTimestampError
        If times carry no zone and the layout names none.
    EmptyDataError
        If there are no rows.
    ParameterError
        If the span ends before it begins.
    OutOfOrderError
        If the data runs backwards in time.
    ConfigurationError
        If the source is declared otherwise already.
    """
    begun = time.perf_counter()
    clock = clock or LiveClock()
    job = _Job.open(connection, data, source, layout, (since_us, until_us), clock, settings or get_settings())
    known = job.check_input(new_instruments)
    if strict:
        job.refuse_any_bad_row(known)
    report = job.declare()
    job.run(known, report, on_rows)
    report.seconds = time.perf_counter() - begun
    return report


def valid_rows(
    connection: psycopg.Connection[Any],
    data: str | Path | pl.DataFrame | Any,
    source: Source | str | None = None,
    *,
    layout: Layout | None = None,
    since_us: int | None = None,
    until_us: int | None = None,
    settings: Settings | None = None,
) -> Iterator[pl.DataFrame]:
    """The rows that `ingest` would store, for who stores them in another way, such as by a stream.

    They are checked by the same rules and numbered in the same way; what is refused goes to the quarantine. Their source is
    declared, and instruments and splits of packaged data are entered, before the first batch.

    Parameters
    ----------
    connection, data, source, layout, since_us, until_us, settings
        As of `ingest`.

    Yields
    ------
    polars.DataFrame
        Batches in the data's order: the source's key (``symbol``, ``event_timestamp``, ``sequence``), ``published_timestamp``, which may
        be null, ``deleted`` and the content columns of the kind.

    Raises
    ------
    UnknownNameError, InvalidDataError, NaiveTimestampError, EmptyDataError, ParameterError, OutOfOrderError, ConfigurationError
        As `ingest`.
    """
    job = _Job.open(connection, data, source, layout, (since_us, until_us), LiveClock(), settings or get_settings())
    known = job.check_input(None)
    job.declare()
    for checked, inside in job.valid(known):
        job.store_refused(checked)
        if not inside.is_empty():
            yield inside.drop("row")


def _declared(connection: psycopg.Connection[Any], source: Source | str | None) -> Source:
    if isinstance(source, Source):
        return source
    if source is None:
        raise ParameterError("no source is named", remedy="Give a Source, or the name of a declared one")
    found = find_source(connection, source)
    if found is None:
        raise UnknownNameError("source", source, [*source_names(connection), *PACKAGED])
    return found


class _Job:
    """One input on its way into one source; with the instruments and splits that come with it, if it is packaged."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        opened: Input,
        source: Source,
        layout: Layout,
        span: tuple[int | None, int | None],
        clock: Clock,
        instruments: Sequence[Instrument] = (),
        splits: Sequence[Split] = (),
    ) -> None:
        self._connection = connection
        self._input = opened
        self._source = source
        self._layout = layout
        self._span = span
        self._clock = clock
        self._instruments = instruments
        self._splits = splits
        self._columns = resolve(source.kind, opened.columns, layout, opened.name)
        if "date" in self._columns and source.calendar is None:
            raise ParameterError(
                "bars are given by the dates of their sessions, but the source has no calendar",
                where=opened.name,
                remedy="Declare the calendar, for example XNYS",
            )
        self._declared_now: list[Instrument] = []

    @classmethod
    def open(
        cls,
        connection: psycopg.Connection[Any],
        data: str | Path | pl.DataFrame | Any,
        source: Source | str | None,
        layout: Layout | None,
        span: tuple[int | None, int | None],
        clock: Clock,
        settings: Settings,
    ) -> _Job:
        """What was given to `ingest`, and may be taken in."""
        since_us, until_us = span
        if since_us is not None and until_us is not None and since_us > until_us:
            raise ParameterError(
                f"since, {format_us(since_us)}, lies after until, {format_us(until_us)}", remedy="Exchange them"
            )
        require_idle(connection)
        require_schema(connection)
        if not isinstance(data, str) or data not in PACKAGED:
            return cls(connection, open_input(data), _declared(connection, source), layout or Layout(), span, clock)
        if source is not None or layout is not None:
            raise ParameterError(f"{data} declares itself: give it neither a source nor a layout")
        packaged = PACKAGED[data]
        opened = packaged.open(settings.home_path / "downloads")
        return cls(
            connection, opened, packaged.source, packaged.layout, span, clock, packaged.instruments, packaged.splits
        )

    def declare(self) -> IngestReport:
        """Enter the source with its instruments and splits; the report says how many of these are new."""
        source = self._source
        with self._connection.transaction():
            register_source(self._connection, source)
            record_source(self._connection, source.name, source.kind, source.calendar, actions=bool(self._splits))
        report = IngestReport(source.name, source.kind)
        report.instruments_added = append_instruments(self._connection, [*self._instruments, *self._declared_now])
        if self._splits:
            splits = actions_of_splits(self._splits)
            counts = append_rows(self._connection, "actions", splits, source.name, clock=self._clock)
            report.splits_added = counts.added + counts.corrections
        return report

    def store_refused(self, checked: Checked) -> Counter[str]:
        """Put a batch's bad rows into the quarantine; how often each rule was broken."""
        return store_refused(self._connection, self._source, self._input.name, self._layout, checked)

    def check_input(self, new: NewInstruments | None) -> list[Instrument]:
        """Whatever can be wrong with the whole input; returns the instruments of all its symbols."""
        if self._source.calendar is not None:
            session_times(self._source.calendar)
        symbols = self._symbols()
        known = [*read_instruments(self._connection), *self._instruments]
        names = {one.symbol for one in known}
        unknown = sorted(symbols - names)
        if unknown and new is None and self._source.kind != "actions":  # of these, lists hold whole markets
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            where = f"{self._input.name}{more}; new ones are declared with --new-instruments"
            raise UnknownNameError("symbol", unknown[0], names, where=where)
        if new is not None:
            self._declared_now = [self._entry(symbol, new) for symbol in unknown]
        # The first batch shows what is wrong with all: naive times, types that do not fit, the wrong order.
        next(self._checked([*known, *self._declared_now]))
        return [one for one in (*known, *self._declared_now) if one.symbol in symbols]

    def _entry(self, symbol: str, new: NewInstruments) -> Instrument:
        calendar = new.calendar or self._source.calendar
        if calendar is None:
            raise ParameterError(
                f"the calendar of the new instrument {symbol} is not known", remedy="Give one, for example XNYS"
            )
        session_times(calendar)
        return Instrument(
            symbol, new.venue, calendar, new.asset_class, new.currency, new.tick_size, new.valid_from_us,
            new.valid_from_us,
        )  # fmt: skip

    def _symbols(self) -> set[str]:
        """All symbols of the input, read ahead: one that nobody knows must be found before a row is written."""
        column = self._columns.get("symbol")
        first = column or next(iter(self._columns.values()))
        found: set[str] = set() if self._layout.symbol is None else {self._layout.symbol}
        empty = True
        for batch in self._input.batches([first]):
            empty = empty and not len(batch.rows) and not batch.malformed
            if column is None:
                if not empty:
                    break
                continue
            texts = batch.frame[column].cast(pl.String).str.strip_chars().drop_nulls().unique()
            found.update(text for text in texts if text)
        if empty:
            raise EmptyDataError("there are no rows", where=self._input.name, remedy="Check the file or the query")
        return found

    def _checked(self, instruments: Sequence[Instrument]) -> Iterator[Checked]:
        actions = ActionChecks(self._connection, self._source, instruments) if self._source.kind == "actions" else None
        validator = Validator(self._source, self._columns, self._layout, instruments, self._input.name, actions=actions)
        for batch in self._input.batches(list(dict.fromkeys(self._columns.values()))):
            yield validator.check(batch)

    def refuse_any_bad_row(self, instruments: Sequence[Instrument]) -> None:
        """Raise for the first bad row."""
        for checked in self._checked(instruments):
            if not checked.bad.is_empty():
                row = checked.bad.row(0, named=True)
                raise InvalidDataError(
                    f"{row['reason']} [{row['rule']}]",
                    where=f"{self._input.name}, row {row['row']}",
                    remedy="Mend the data; or ingest without strict, and bad rows go to the quarantine",
                )

    def valid(self, instruments: Sequence[Instrument]) -> Iterator[tuple[Checked, pl.DataFrame]]:
        """Each batch after validation, and those of its good rows that lie within the span."""
        for checked in self._checked(instruments):
            yield checked, self._within(checked.good)

    def run(
        self, instruments: Sequence[Instrument], report: IngestReport, on_rows: Callable[[int], None] | None
    ) -> None:
        """Store batch after batch, and write up what happened."""
        coverage = None if self._source.calendar is None else Coverage(self._source.calendar)
        symbols: set[str] = set()
        counts = AppendCounts()
        for checked, inside in self.valid(instruments):
            report.rows_read += checked.rows_read
            report.skipped += len(checked.good) - len(inside)
            report.faults += self.store_refused(checked)
            report.quarantined += len(checked.bad)
            if not inside.is_empty():
                symbols.update(inside["symbol"].unique())
                self._note_span(inside, report)
                if coverage is not None:
                    coverage.add(inside)
                counts += append_rows(
                    self._connection,
                    self._source.kind,
                    inside.drop("row"),
                    self._source.name,
                    declared_lag_us=self._source.declared_lag_us,
                    clock=self._clock,
                )
            if on_rows is not None:
                on_rows(checked.rows_read)
        report.rows_added, report.corrections, report.unchanged = counts.added, counts.corrections, counts.unchanged
        report.retractions, report.unmatched = counts.retractions, counts.unmatched
        report.symbols = sorted(symbols)
        if coverage is not None:
            report.gaps = coverage.gaps(self._connection, self._source.kind, self._source.name)

    def _within(self, frame: pl.DataFrame) -> pl.DataFrame:
        since, until = self._span
        if since is not None:
            frame = frame.filter(pl.col("event_timestamp") >= from_us(since))
        if until is not None:
            frame = frame.filter(pl.col("event_timestamp") <= from_us(until))
        return frame

    def _note_span(self, frame: pl.DataFrame, report: IngestReport) -> None:
        event = frame["event_timestamp"].dt.epoch("us")
        first, last = event.min(), event.max()
        assert isinstance(first, int)
        assert isinstance(last, int)
        report.first_us = first if report.first_us is None else min(first, report.first_us)
        report.last_us = last if report.last_us is None else max(last, report.last_us)
