"""``tapeline leakcheck``: whether any stored value of a service has seen the future."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from tapeline.cli.app import JsonOption, emit, progress
from tapeline.core.errors import ConfigurationError, ParameterError, UnknownNameError
from tapeline.core.timestamps import to_us

if TYPE_CHECKING:
    from tapeline.training.leakcheck import OwnFeatures

_FAULTS_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(leakcheck)


def leakcheck(
    service: Annotated[str, typer.Argument(help="Feast feature service.", show_default=False)],
    repo: Annotated[Path, typer.Option(help="The Feast repository.")] = Path("feature_repo"),
    entities: Annotated[int, typer.Option(min=1, help="Entities of each view.")] = 3,
    moments: Annotated[int, typer.Option(min=1, help="Moments of each entity.")] = 24,
    futures: Annotated[int, typer.Option(min=1, help="Of these, with other raw rows after them.")] = 4,
    units: Annotated[int, typer.Option(min=150, help="Rows of the planted series.")] = 600,
    seed: Annotated[int, typer.Option(min=0, help="The same seed looks at the same.")] = 0,
    labels: Annotated[str | None, typer.Option(help="Labels to look at, such as direction:5d.")] = None,
    own: Annotated[
        list[str] | None,
        typer.Option(help="How a view of your own is computed: VIEW=MODULE:FUNCTION@SOURCE; repeatable."),
    ] = None,
    as_of: Annotated[str | None, typer.Option(help="As recorded by this moment (ISO 8601).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Look for values that have seen the future. Exits with 1, naming them, if there are any.

    Features are computed again from what was known at sampled moments; the future is changed; a signal that only the
    future knows is planted. Nothing is written.
    """
    from tapeline.storage.postgres import connect
    from tapeline.training.leakcheck import OnDemandView, SampleSizes, steps
    from tapeline.training.leakcheck import leakcheck as check

    sizes = SampleSizes(entities, moments, futures, units, seed)
    as_of_us = to_us(as_of, where="--as-of") if as_of is not None else None
    with connect() as connection:
        functions = [_own(text, connection) for text in own or ()]
        from tapeline.feast_ext.on_demand import whole_service  # seconds of imports, after what can be refused at once

        plan, on_demand = whole_service(repo, service)
        with progress(f"Checking {service}", total=steps(plan, sizes)) as advance:
            report = check(
                connection,
                plan,
                on_demand_views=[OnDemandView(f.name, f.outputs, f.request, f.compute) for f in on_demand],
                own_features=functions,
                sizes=sizes,
                labels=labels,
                as_of_us=as_of_us,
                advance=advance,
            )
    if as_json:
        emit(report.as_dict(), as_json=True)
    else:
        rows = [
            {
                "view": outcome.view,
                "check": outcome.check,
                "values": outcome.cases,
                "faults": Text(str(outcome.faults), "bold red" if outcome.faults else ""),
                "note": outcome.note,
            }
            for outcome in report.outcomes
        ]
        emit(rows, as_json=False, title=f"{service}, as recorded by {report.vintage}, {report.seconds:.0f} s")
        shown: list[dict[str, Any]] = [
            {
                "view": fault.view,
                "feature": fault.feature,
                "entity": fault.entity,
                "moment": fault.moment,
                "stored": fault.stored,
                "known": fault.expected,
                "why": fault.detail or fault.check,
            }
            for fault in report.faults[:_FAULTS_SHOWN]
        ]
        if shown:
            emit(shown, as_json=False, title="Faults" if len(shown) == len(report.faults) else "First faults")
    report.require_clean()


def _own(text: str, connection: Any) -> OwnFeatures:
    """``VIEW=MODULE:FUNCTION@SOURCE``: a function that the operator names on the command line."""
    from tapeline.training.leakcheck import OwnFeatures

    view, _, rest = text.partition("=")
    target, _, source = rest.partition("@")
    module, _, name = target.partition(":")
    if not (view and module and name and source):
        raise ParameterError(f"{text!r} is malformed", where="--own", remedy="Write VIEW=MODULE:FUNCTION@SOURCE")
    kinds = dict(
        connection.execute("SELECT source, kind FROM tapeline.sources WHERE kind IN ('bars', 'trades')").fetchall()
    )
    connection.rollback()
    if source not in kinds:
        raise UnknownNameError("source of bars or trades", source, kinds, where="--own")
    sys.path.insert(0, str(Path.cwd()))  # as python -m does
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"{target} cannot be imported: {error}", where="--own") from error
    return OwnFeatures(view, source, kinds[source], function)
