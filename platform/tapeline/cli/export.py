"""``tapeline export`` and ``rebuild``: data sets that can be made again."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tapeline.cli.app import JsonOption, emit, names_in, row_progress, span_us
from tapeline.core.errors import ParameterError
from tapeline.core.timestamps import format_duration_us, format_us, to_us

if TYPE_CHECKING:
    from collections.abc import Callable

    from tapeline.datasets.entity_inputs import Entities
    from tapeline.datasets.manifest import DatasetManifest
    from tapeline.datasets.part_files import PartitionBy
    from tapeline.datasets.planning import ExportEstimate
    from tapeline.datasets.production import Progress

CHANGE = "change"
_FILES = (".parquet", ".csv", ".arrow", ".feather")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(export)
    app.command()(rebuild)


def export(
    service: Annotated[str, typer.Option(help="Feast feature service.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    entities: Annotated[
        str,
        typer.Option(
            help="A .parquet, .csv or .arrow file or a folder of Parquet files with symbol and event_timestamp; - for an"
            " Arrow stream on standard input; or AAPL,MSFT; or all symbols."
        ),
    ] = "all",
    query: Annotated[str | None, typer.Option(help="A SELECT of entity rows, instead of --entities.")] = None,
    symbols: Annotated[str | None, typer.Option(help="Symbols, the same as in --entities: AAPL,MSFT.")] = None,
    every: Annotated[
        str,
        typer.Option(
            help="Moments of symbols: each session's close, a grid such as 5m, or each change: every moment from --start to"
            " --end at which a row of a view became visible."
        ),
    ] = "session",
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
    partition_by: Annotated[
        str, typer.Option(help="Folders of files: none, year, month or day of the rows' moments, UTC.")
    ] = "none",
    repo: Annotated[Path, typer.Option(help="The Feast repository.")] = Path("feature_repo"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a data set in the folder.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away what an interrupted export to the folder left.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show how it would be done and what it costs, and do nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a training set: what was known at each moment, and what happened after it.

    The folder gets data/, entities/ and manifest.json, all or none; tapeline rebuild makes it again. After a kill, the
    same command goes on with the last finished part.
    """
    from tapeline import datasets
    from tapeline.datasets.labels import LabelSpec
    from tapeline.lineage.openlineage import export_datasets, job_run
    from tapeline.storage.postgres import connect

    chosen = asked_entities(entities, query, symbols, every, start, end)
    label = LabelSpec.parse(labels) if labels is not None else None
    as_of_us = to_us(as_of, where="--as-of") if as_of is not None else None
    run = nullcontext(None) if explain else job_run(f"export.{service}")
    with row_progress(f"Exporting {service}") as show, run as told, connect() as connection:
        from tapeline.feast_ext.resolve import retrieval_plan  # seconds of imports, after what can be refused at once

        plan = retrieval_plan(repo, service)
        if explain:
            estimate = datasets.explain(
                connection, plan, chosen, as_of_us=as_of_us, labels=label, prices=prices, notify=_shown(show)
            )
        else:
            manifest = datasets.export(
                connection,
                plan,
                chosen,
                out,
                as_of_us=as_of_us,
                labels=label,
                prices=prices,
                keep_without_label=keep_without_label,
                partition_by=_partition(partition_by),
                overwrite=overwrite,
                restart=restart,
                notify=_shown(show),
            )
            if told is not None:
                told.describe(lambda: export_datasets(connection, manifest.model_dump(mode="json"), out))
    if explain:
        _emit_estimate(estimate, service, as_json=as_json)
    else:
        _emit_exported(manifest, out, as_json=as_json)


def rebuild(
    manifest: Annotated[Path, typer.Argument(help="manifest.json of an exported data set, or its folder.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write the rebuilt data set to.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a data set in that folder.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away what an interrupted rebuild to that folder left.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a data set again from the database and compare its SHA-256. Exits with 1, saying what differs, if it does."""
    from tapeline import datasets
    from tapeline.storage.postgres import connect

    with row_progress("Rebuilding") as show, connect() as connection:
        result = datasets.rebuild(
            connection, manifest, out_dir=out, overwrite=overwrite, restart=restart, notify=_shown(show)
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


def _shown(show: Callable[[str, int, int | None], None]) -> Callable[[Progress], None]:
    return lambda progress: show(progress.stage, progress.done, progress.total)


def _emit_exported(manifest: DatasetManifest, out: Path, *, as_json: bool) -> None:
    emit(
        {
            "folder": str(out),
            "service": manifest.service,
            "rows": manifest.row_count,
            "files": len(manifest.parts),
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


def _emit_estimate(estimate: ExportEstimate, service: str, *, as_json: bool) -> None:
    views = [
        {
            "view": view.view,
            "method": view.method,
            "requests": view.requests,
            "lookup cost": round(view.lookup_cost),
            "merge cost": round(view.merge_cost),
            "merge rows": round(view.merge_rows),
            "chunks": view.chunks,
        }
        for view in estimate.views
    ]
    whole: dict[str, Any] = {
        "service": service,
        "entity rows": estimate.entity_rows,
        "first": format_us(estimate.first_us),
        "last": format_us(estimate.last_us),
        "as of": format_us(estimate.vintage_us),
        "slices": estimate.slices,
        "rows of a slice": estimate.slice_rows,
        "columns": estimate.columns,
        "bytes at most": estimate.bytes,
        "seconds, about": estimate.seconds,
    }
    if as_json:
        emit(whole | {"views": views}, as_json=True)
        return
    whole["bytes at most"] = f"{estimate.bytes / 1e6:,.1f} MB"
    whole["seconds, about"] = format_duration_us(max(1, round(estimate.seconds)) * 1_000_000)
    emit(whole, as_json=False, title="Export, not run")
    emit(views, as_json=False, title="Each view, for the slice in the middle (costs in PostgreSQL's units)")


def _partition(text: str) -> PartitionBy:
    from tapeline.datasets.part_files import PARTITIONS

    for choice in PARTITIONS:
        if choice == text:
            return choice
    raise ParameterError(
        f"{text!r} is no partitioning", where="--partition-by", remedy=f"Choose one of {', '.join(PARTITIONS)}"
    )


def asked_entities(
    entities: str, query: str | None, symbols: str | None, every: str, start: str | None, end: str | None
) -> Entities:
    """The entity rows that the options ask for.

    Raises
    ------
    ParameterError
        If options contradict each other, or a file does not exist.
    """
    from tapeline.datasets.entity_inputs import STDIN, Generated, Query, VisibleMoments, require_readable

    place = Path(entities)
    given = place == STDIN or entities.endswith(_FILES) or "/" in entities or (entities != "all" and place.is_dir())
    if query is not None or given:
        if symbols or start or end or every != "session" or (query is not None and entities != "all"):
            raise ParameterError(
                "a file of entity rows or a query says which symbols and moments",
                where="--entities and --query",
                remedy="Leave out --symbols, --every, --start and --end, and give one of the two",
            )
        if query is not None:
            return Query(query)
        require_readable(place)
        return place
    if symbols is not None and entities != "all":
        raise ParameterError("symbols are given twice", where="--entities and --symbols", remedy="Give one of them")
    text = symbols if symbols is not None else entities
    names = None if text == "all" else tuple(names_in(text))
    start_us, end_us = span_us(start, end)
    if every == CHANGE:
        if names is not None or start_us is None or end_us is None:
            raise ParameterError(
                "every change of all symbols needs a range",
                where="--every change",
                remedy="Give --start and --end, and no symbols",
            )
        return VisibleMoments(start_us, end_us)
    return Generated(symbols=names, every=every, start_us=start_us, end_us=end_us)
