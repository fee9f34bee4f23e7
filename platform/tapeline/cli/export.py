"""``tapeline export`` and ``rebuild``: data sets that can be made again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tapeline.cli.app import JsonOption, emit, progress
from tapeline.core.errors import ParameterError
from tapeline.core.timestamps import moment_or_day, to_us

if TYPE_CHECKING:
    from tapeline.datasets.inputs import Entities

_STAGES = 6


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(export)
    app.command()(rebuild)


def export(
    service: Annotated[str, typer.Option(help="Feast feature service.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    entities: Annotated[
        str,
        typer.Option(help="A .parquet or .csv file with symbol and event_timestamp; or AAPL,MSFT; or all symbols."),
    ] = "all",
    symbols: Annotated[str | None, typer.Option(help="Symbols, the same as in --entities: AAPL,MSFT.")] = None,
    every: Annotated[str, typer.Option(help="Moments of symbols: each session's close, or a grid such as 5m.")] = (
        "session"
    ),
    start: Annotated[str | None, typer.Option(help="First moment or day, such as 2005-01-03.")] = None,
    end: Annotated[str | None, typer.Option(help="Last moment or day.")] = None,
    labels: Annotated[
        str | None, typer.Option(help="direction:5d, forward_return:1mo, direction:4h, triple_barrier:10d:1.5, …")
    ] = None,
    prices: Annotated[str | None, typer.Option(help="Source of the labels' prices, if not the view's own.")] = None,
    as_of: Annotated[
        str | None, typer.Option(help="As recorded by this moment (ISO 8601); the newest settled one if none.")
    ] = None,
    keep_without_label: Annotated[
        bool, typer.Option("--keep-without-label", help="Keep rows whose label is not known.")
    ] = False,
    repo: Annotated[Path, typer.Option(help="The Feast repository.")] = Path("feature_repo"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a data set in the folder.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a training set: what was known at each moment, and what happened after it.

    The folder gets data.parquet, entities.parquet and manifest.json, all or none; tapeline rebuild makes it again.
    """
    from tapeline import datasets
    from tapeline.datasets.labels import LabelSpec
    from tapeline.storage.postgres import connect

    chosen = _entities(entities, symbols, every, start, end)
    label = LabelSpec.parse(labels) if labels is not None else None
    as_of_us = to_us(as_of, where="--as-of") if as_of is not None else None
    from tapeline.lineage.openlineage import export_datasets, job_run

    with (
        progress(f"Exporting {service}", total=_STAGES) as advance,
        job_run(f"export.{service}") as told,
        connect() as connection,
    ):
        from tapeline.feast_ext.resolve import retrieval_plan  # seconds of imports, after what can be refused at once

        plan = retrieval_plan(repo, service)
        advance()
        manifest = datasets.export(
            connection,
            plan,
            chosen,
            out,
            as_of_us=as_of_us,
            labels=label,
            prices=prices,
            keep_without_label=keep_without_label,
            overwrite=overwrite,
            notify=lambda _stage: advance(),
        )
        told.describe(lambda: export_datasets(connection, manifest.model_dump(mode="json"), out))
    emit(
        {
            "folder": str(out),
            "service": manifest.service,
            "rows": manifest.row_count,
            "features": len(manifest.features),
            "without_label": manifest.labels.without_label if manifest.labels else 0,
            "labels": manifest.labels.spec if manifest.labels else None,
            "first": manifest.first_event,
            "last": manifest.last_event,
            "as_of": manifest.as_of,
            "content_sha256": manifest.content_sha256,
        },
        as_json=as_json,
        title="Data set",
    )


def rebuild(
    manifest: Annotated[Path, typer.Argument(help="manifest.json of an exported data set, or its folder.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write the rebuilt data set to.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a data set in that folder.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a data set again from the database and compare its SHA-256. Exits with 1, saying what differs, if it does."""
    from tapeline import datasets
    from tapeline.storage.postgres import connect

    with progress("Rebuilding", total=3) as advance, connect() as connection:
        result = datasets.rebuild(
            connection, manifest, out_dir=out, overwrite=overwrite, notify=lambda _stage: advance()
        )
    emit(
        {
            "same": result.same,
            "rows": result.manifest.row_count,
            "content_sha256": result.manifest.content_sha256,
            "expected_sha256": result.expected_sha256,
            "differences": list(result.differences),
            "folder": str(out) if out else None,
        },
        as_json=as_json,
        title="Rebuilt",
    )
    result.require_same()


def _entities(entities: str, symbols: str | None, every: str, start: str | None, end: str | None) -> Entities:
    from tapeline.datasets.entities import read_entities
    from tapeline.datasets.inputs import Generated

    if entities.endswith((".parquet", ".csv")):
        if symbols or start or end or every != "session":
            raise ParameterError(
                "a file of entity rows says which symbols and moments",
                where="--entities",
                remedy="Leave out --symbols, --every, --start and --end",
            )
        return read_entities(Path(entities))
    if symbols is not None and entities != "all":
        raise ParameterError("symbols are given twice", where="--entities and --symbols", remedy="Give one of them")
    text = symbols if symbols is not None else entities
    names = None if text == "all" else tuple(name.strip() for name in text.split(",") if name.strip())
    return Generated(
        symbols=names,
        every=every,
        start_us=moment_or_day(start, "--start", last=False) if start else None,
        end_us=moment_or_day(end, "--end", last=True) if end else None,
    )
