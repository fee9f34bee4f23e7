"""``tapeline rows``: a view's feature rows, by both clocks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tapeline.cli.app import JsonOption, console, emit, span_us
from tapeline.cli.vintage import AsOfOption, asked_vintage
from tapeline.core.errors import EmptyDataError, ParameterError, UnknownNameError
from tapeline.core.settings import get_settings
from tapeline.core.timestamps import to_us

if TYPE_CHECKING:
    import pyarrow as pa

_FEATURES_SHOWN = 5
_TIMES = 5


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(rows)


def rows(
    view: Annotated[str, typer.Argument(help="NAME or NAME@VERSION.")],
    symbol: Annotated[
        list[str] | None, typer.Option("--symbol", "-s", help="Only this symbol; may be repeated.")
    ] = None,
    feature: Annotated[
        list[str] | None, typer.Option("--feature", "-f", help="Only this feature; may be repeated.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="What could have been used at this moment (ISO 8601); by the clock, if none.")
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="Instead: all stored rows with an event from this moment or day.")
    ] = None,
    end: Annotated[str | None, typer.Option(help="The last moment or day of these.")] = None,
    as_of: AsOfOption = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Rows to print.")] = 20,
    parquet: Annotated[Path | None, typer.Option(help="Write the rows to this Parquet file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show feature rows: the one of each symbol that the point-in-time rule takes, or all of a span.

    With --start or --end corrections stand beside what they correct, each with its times.
    """
    from tapeline.compute.reading import source_symbols
    from tapeline.datasets.feature_rows import selection_of, stored_rows, vectors_at
    from tapeline.features.catalogue import view as view_named
    from tapeline.storage.postgres import connect

    spec = view_named(view)
    selection = selection_of(spec, feature or ())
    span = start is not None or end is not None
    if span and at is not None:
        raise ParameterError(
            "a moment and a span are asked for", where="--at", remedy="Give --at, or --start and --end"
        )
    if parquet is not None and parquet.exists():
        raise ParameterError(f"{parquet} exists", where="--parquet", remedy="Choose another file")

    first, last = span_us(start, end)
    moment_us = to_us(at, where="--at") if at is not None else get_settings().make_clock().now_us()
    with connect() as connection:
        vintage_us = asked_vintage(connection, as_of)
        known = source_symbols(connection, spec)
        connection.commit()
        for name in symbol or ():
            if name not in known:
                raise UnknownNameError("symbol", name, known, where=f"source {spec.rows.source}")
        chosen = symbol or known
        if not chosen:
            raise EmptyDataError(f"source {spec.rows.source!r} has no rows", remedy="Ingest some first")
        if span:
            found = stored_rows(
                connection, selection, chosen, _FIRST_US if first is None else first, _LAST_US if last is None else last,
                vintage_us=vintage_us,
            )  # fmt: skip
        else:
            found = vectors_at(connection, selection, chosen, moment_us, vintage_us=vintage_us)
    _show(found, f"{spec.name}@{spec.version}", parquet, limit, as_json=as_json, all_features=bool(feature))


_FIRST_US, _LAST_US = to_us("0001-01-01T00:00:00+00:00"), to_us("9999-12-31T00:00:00+00:00")


def _show(found: pa.Table, name: str, parquet: Path | None, limit: int, *, as_json: bool, all_features: bool) -> None:
    if parquet is not None:
        import pyarrow.parquet as pq

        partial = parquet.with_name(f".{parquet.name}.partial")
        pq.write_table(found, partial, compression="zstd")
        partial.replace(parquet)
    if as_json:
        emit(found.slice(0, limit).to_pylist(), as_json=True)
        return
    shown = found.column_names if all_features else found.column_names[: _TIMES + _FEATURES_SHOWN]
    emit(
        found.select(shown).slice(0, limit).to_pylist(),
        as_json=False,
        title=f"{name}: {min(limit, found.num_rows):,} of {found.num_rows:,} rows",
    )
    left = found.num_columns - len(shown)
    if left:
        console.print(f"{left} more features: name some with --feature, or use --json or --parquet", highlight=False)
    if parquet is not None:
        console.print(f"All rows: {parquet}", highlight=False, soft_wrap=True)
