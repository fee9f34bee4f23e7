"""``ingest``: market data and corporate actions in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tapeline.cli.app import JsonOption, emit, notices, progress
from tapeline.core.errors import ParameterError
from tapeline.core.settings import get_settings
from tapeline.core.timestamps import parse_duration_us, to_us

if TYPE_CHECKING:
    from tapeline.ingestion import IngestReport, Layout, NewInstruments, Source

SinceOption = Annotated[str | None, typer.Option(help="Only rows whose event is at or after this moment (ISO 8601).")]
UntilOption = Annotated[str | None, typer.Option(help="Only rows whose event is at or before this moment.")]
MapOption = Annotated[
    list[str] | None, typer.Option("--map", help="COLUMN=ours, for example 'Last Price=close'; repeatable.")
]
ZoneOption = Annotated[str | None, typer.Option(help="Zone of times that carry none: America/Chicago.")]
TimeFormatOption = Annotated[
    str | None, typer.Option(help="strptime format of times, or epoch_s, epoch_ms, epoch_us, epoch_ns.")
]
DateFormatOption = Annotated[str | None, typer.Option(help="strptime format of dates, if not that of times.")]
SymbolOption = Annotated[str | None, typer.Option(help="The one symbol of a file without a symbol column.")]
DescriptionOption = Annotated[str, typer.Option(help="What a new source is.")]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Stop at the first bad row, writing nothing, instead of quarantining it.")
]
_SHOWN_GAPS = 10


def register(app: typer.Typer) -> None:
    """Add the commands."""
    ingesting = typer.Typer(help="Read market data, validate it and store it.", no_args_is_help=True)
    ingesting.command("us-daily")(us_daily)
    ingesting.command("cme-trades")(cme_trades)
    ingesting.command("file")(file)
    ingesting.command("actions")(actions)
    app.add_typer(ingesting, name="ingest")


def us_daily(
    since: SinceOption = None, until: UntilOption = None, strict: StrictOption = False, as_json: JsonOption = False
) -> None:
    """Daily bars of AAPL, FB, GOOG, IBM and MSFT, 2000-03-01 to 2013-03-01, as traded, with their splits."""
    _run("us-daily", None, None, since, until, None, strict, as_json)


def cme_trades(
    since: SinceOption = None, until: UntilOption = None, strict: StrictOption = False, as_json: JsonOption = False
) -> None:
    """500,000 trades of the E-mini S&P 500 future, 2013-09-01 to 2013-09-03. Downloaded once (1.4 MB)."""
    _run("cme-trades", None, None, since, until, None, strict, as_json)


def file(
    path: Annotated[Path, typer.Argument(help="A .csv, .csv.gz or .parquet file.", show_default=False)],
    source: Annotated[str, typer.Option(help="Name of the source that the rows belong to.", show_default=False)],
    kind: Annotated[
        str | None, typer.Option(help="bars, trades, quotes or book_events; of a known source, what it is.")
    ] = None,
    columns: MapOption = None,
    timezone: ZoneOption = None,
    time_format: TimeFormatOption = None,
    date_format: DateFormatOption = None,
    ambiguous: Annotated[
        str, typer.Option(help="Local times that happen twice: quarantine, earliest or latest.")
    ] = "quarantine",
    calendar: Annotated[str | None, typer.Option(help="Exchange calendar of the source: XNYS, CMES, …")] = None,
    lag: Annotated[
        str | None, typer.Option(help="How long after its event a row was available, declared for good: 15m.")
    ] = None,
    symbol: SymbolOption = None,
    bar_width: Annotated[str | None, typer.Option(help="Length of bars that have only a start or an end: 1m.")] = None,
    first_sequence: Annotated[int, typer.Option(help="Number of each symbol's first row, if rows have none.")] = 0,
    description: DescriptionOption = "",
    new_instruments: Annotated[
        bool, typer.Option("--new-instruments", help="Enter unknown symbols in the instrument master.")
    ] = False,
    venue: Annotated[str, typer.Option(help="Venue of new instruments.")] = "unknown",
    asset_class: Annotated[str, typer.Option(help="Asset class of new instruments.")] = "unknown",
    currency: Annotated[str, typer.Option(help="Currency of new instruments.")] = "USD",
    tick_size: Annotated[float, typer.Option(help="Tick size of new instruments.")] = 0.01,
    valid_from: Annotated[str | None, typer.Option(help="Listing of new instruments (ISO 8601).")] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> None:
    """A CSV or Parquet file. Columns named as ours need no mapping.

    Bars have: symbol; date (of a session), or event_timestamp and start_timestamp; open, high, low, close, volume.
    Trades: symbol, event_timestamp, price, size, side, sequence. Both may have published_timestamp and deleted.
    """
    from tapeline.ingestion import Layout, NewInstruments

    layout = Layout(
        columns=_mapping(columns or []),
        timezone=timezone,
        time_format=time_format,
        date_format=date_format,
        ambiguous=ambiguous,  # type: ignore[arg-type]  # checked by Layout
        symbol=symbol,
        bar_width_us=None if bar_width is None else parse_duration_us(bar_width),
        first_sequence=first_sequence,
    )
    new = None
    if new_instruments:
        listed = {} if valid_from is None else {"valid_from_us": to_us(valid_from, where="--valid-from")}
        new = NewInstruments(calendar, venue, asset_class, currency, tick_size, **listed)

    def declare(connection: Any) -> Source | str:
        return _declaration(connection, source, kind, lag, calendar, description)

    _run(path, declare, layout, since, until, new, strict, as_json)


def actions(
    path: Annotated[Path, typer.Argument(help="A .csv, .csv.gz or .parquet file.", show_default=False)],
    source: Annotated[str, typer.Option(help="Name of the source that reports them.", show_default=False)],
    columns: MapOption = None,
    timezone: ZoneOption = None,
    time_format: TimeFormatOption = None,
    date_format: DateFormatOption = None,
    symbol: SymbolOption = None,
    description: DescriptionOption = "",
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> None:
    """Splits and cash dividends, from a CSV or Parquet file. Columns named as ours need no mapping.

    Rows have: symbol, ex_date; ratio (of a split: new shares for one old share), or amount (of a dividend: cash for one
    share on that day) and perhaps currency; published_timestamp, or published_date: known when that day has ended. Where
    several take effect together, sequence. A row with a true deleted retracts.
    """
    from tapeline.ingestion import Layout, Source

    layout = Layout(
        columns=_mapping(columns or []),
        timezone=timezone,
        time_format=time_format,
        date_format=date_format,
        symbol=symbol,
    )

    def declare(_: Any) -> Source:
        return Source(source, "actions", description=description)

    _run(path, declare, layout, None, None, None, strict, as_json)


def _mapping(pairs: Sequence[str]) -> dict[str, str]:
    mapping: dict[str, str] = {}
    for pair in pairs:
        theirs, equals, ours = pair.rpartition("=")
        if not equals or not theirs or not ours:
            raise ParameterError(f"{pair!r} is no mapping", where="--map", remedy="Write it like 'Last Price=close'")
        mapping[theirs] = ours
    return mapping


def _declaration(
    connection: Any, name: str, kind: str | None, lag: str | None, calendar: str | None, description: str
) -> Source | str:
    """The source as declared on the command line; what is not said there is as it is known already."""
    from tapeline.ingestion import Source
    from tapeline.storage.raw_tables import RAW_TABLES
    from tapeline.storage.reference import find_source

    known = find_source(connection, name)
    if known is None and kind is None:
        return name  # which says that there is no such source, and which there are
    kind = kind or (known.kind if known else "")
    if kind == "actions":
        raise ParameterError(f"{name} holds corporate actions", remedy="Use: tapeline ingest actions")
    if kind not in RAW_TABLES:
        kinds = ", ".join(one for one in RAW_TABLES if one != "actions")
        raise ParameterError(f"kind is {kind!r}", where="--kind", remedy=f"Use one of {kinds}")
    lag_us = (known.declared_lag_us if known else 0) if lag is None else 0 if lag == "0" else parse_duration_us(lag)
    if calendar is None and known is not None:
        calendar = known.calendar
    return Source(name, kind, lag_us, calendar, description)  # type: ignore[arg-type]  # checked above


def _run(
    data: str | Path,
    declare: Callable[[Any], Source | str] | None,
    layout: Layout | None,
    since: str | None,
    until: str | None,
    new: NewInstruments | None,
    strict: bool,
    as_json: bool,
) -> None:
    since_us = None if since is None else to_us(since, where="--since")
    until_us = None if until is None else to_us(until, where="--until")
    settings = get_settings()
    from tapeline.lineage.openlineage import ingest_datasets, job_run

    with progress(f"Ingesting {data}") as advance, job_run(f"ingest.{data}", settings) as told:
        from tapeline.ingestion import ingest
        from tapeline.storage.postgres import connect

        with connect(settings) as connection:
            report = ingest(
                connection,
                data,
                None if declare is None else declare(connection),
                layout=layout,
                since_us=since_us,
                until_us=until_us,
                new_instruments=new,
                strict=strict,
                clock=settings.make_clock(),
                settings=settings,
                on_rows=advance,
            )
            told.describe(lambda: ingest_datasets(connection, data, report.kind, report.source, rows=report.rows_added))
    _show(report, as_json)


def _show(report: IngestReport, as_json: bool) -> None:
    found = report.as_dict()
    if as_json:
        emit(found, as_json=True)
        return
    gaps, faults = report.gaps, report.faults
    found["gaps"] = len(gaps)
    always = {"source", "kind", "rows_read", "rows_added", "quarantined", "gaps", "seconds"}
    emit({key.replace("_", " "): value for key, value in found.items() if value or key in always}, as_json=False)
    for gap in gaps[:_SHOWN_GAPS]:
        notices.print(
            f"[yellow]gap:[/] {gap.symbol} has no row "
            + (f"on {gap.first}" if gap.sessions == 1 else f"in {gap.sessions} sessions, {gap.first} to {gap.last}")
        )
    if len(gaps) > _SHOWN_GAPS:
        notices.print(f"[yellow]gap:[/] and {len(gaps) - _SHOWN_GAPS} more; --json lists them")
    if faults:
        told = ", ".join(f"{count} × {rule}" for rule, count in faults.most_common())
        notices.print(f"[yellow]refused:[/] {told}. See them with: tapeline quarantine list --source {report.source}")
