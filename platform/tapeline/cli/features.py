"""``tapeline features``: which features there are, what each means, and what a plan of them costs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tapeline.cli.app import JsonOption, emit, names_in

if TYPE_CHECKING:
    from tapeline.features import FeaturePlan


def register(app: typer.Typer) -> None:
    """Add the ``features`` commands."""
    commands = typer.Typer(help="The features that feature views can use.", no_args_is_help=True)
    commands.command("list")(list_features)
    commands.command("show")(show_feature)
    commands.command("search")(search_features)
    commands.command("explain")(explain_features)
    commands.command("check")(check_feature)
    app.add_typer(commands, name="features")


def list_features(
    group: Annotated[str | None, typer.Option("--group", help="Only those of one group.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List all features by group, custom ones included."""
    from tapeline.features.describe import all_features, describe, summarise

    found = all_features(group)
    if as_json:
        emit([describe(indicator) for indicator in found], as_json=True)
        return
    emit([summarise(indicator) for indicator in found], as_json=False, title=f"{len(found)} features")


def show_feature(
    name: Annotated[str, typer.Argument(help="Name of the feature, in any case, such as RSI.")],
    as_json: JsonOption = False,
) -> None:
    """Show one feature: formula, inputs, parameters, outputs, warm-up, source and oracle."""
    from tapeline.features.describe import describe, describe_for_people
    from tapeline.indicators.specification import indicator_like

    indicator = indicator_like(name)
    described = describe(indicator) if as_json else describe_for_people(indicator)
    emit(described, as_json=as_json, title=indicator.name)


def search_features(
    words: Annotated[str, typer.Argument(help="Words of a name or a description, such as 'true range'.")],
    as_json: JsonOption = False,
) -> None:
    """Search names, outputs, descriptions and sources; near misses count."""
    from tapeline.features.describe import describe, search, summarise

    found = search(words)
    if as_json:
        emit([describe(indicator) for indicator in found], as_json=True)
        return
    emit(
        [summarise(indicator) for indicator in found],
        as_json=False,
        empty=f"Nothing is like {words!r}. All features: tapeline features list",
    )


def explain_features(
    plan: Annotated[str, typer.Argument(help="A view, such as daily_technical@2, or features: 'rsi(14), macd'.")],
    keep: Annotated[
        str, typer.Option("--keep", help="Outputs separated by commas: also what a plan cut down to them saves.")
    ] = "",
    model: Annotated[
        str | None,
        typer.Option("--model", help="name, name@version or name@alias: keep what this model reads of a view."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Explain a plan: outputs, inputs, what features share, and the state that one symbol takes."""
    from tapeline.features.explain import explain_plan

    compiled = _plan_of(plan)
    explanation = explain_plan(compiled)
    kept = names_in(keep)
    if model is not None:
        kept += [name for name in _read_by(model, plan) if name not in kept]
    data: dict[str, object] = {
        "plan": plan,
        "inputs": list(explanation.inputs),
        "outputs": [{"name": name, "unit": unit, "warm_up": warm_up} for name, unit, warm_up in explanation.outputs],
        "operations": explanation.operations,
        "operations_of_features_alone": explanation.operations_alone,
        "operations_merged": explanation.operations_alone - explanation.operations,
        "shared": [{"step": part.step, "features": list(part.features)} for part in explanation.shared],
        "state_bytes_per_symbol": explanation.state_bytes,
        "state_bytes_of_features_alone": explanation.state_bytes_alone,
    }
    if kept:
        cut = explain_plan(compiled.cut(kept))
        data["cut"] = {
            "outputs": kept,
            "inputs": list(cut.inputs),
            "operations": cut.operations,
            "state_bytes_per_symbol": cut.state_bytes,
            "state_bytes_saved_per_symbol": explanation.state_bytes - cut.state_bytes,
        }
    if as_json:
        emit(data, as_json=True)
        return
    data["outputs"] = f"{len(explanation.outputs)}, warm after {max(explanation.outputs, key=lambda o: o[2])[2]} rows"
    data["shared"] = f"{len(explanation.shared)} steps"
    cut_data = data.pop("cut", {})
    assert isinstance(cut_data, dict)
    data |= {f"cut: {name}": value for name, value in cut_data.items()}
    emit(data, as_json=False, title=plan)
    if len(explanation.outputs) <= _OUTPUTS_SHOWN:
        emit([dict(zip(("output", "unit", "warm_up"), o, strict=True)) for o in explanation.outputs], as_json=False)
    shown = [
        {"shared step": part.step, "features": len(part.features), "such as": ", ".join(part.features[:3])}
        for part in explanation.shared
    ]
    emit(shown, as_json=False, empty="No step is shared.")


_OUTPUTS_SHOWN = 30


def _read_by(model: str, plan: str) -> list[str]:
    """The columns of a view that a registered model reads."""
    from tapeline.core.errors import ParameterError
    from tapeline.core.settings import get_settings
    from tapeline.features.catalogue import view
    from tapeline.registry import Registry, parse_reference
    from tapeline.storage.postgres import connect

    spec = view(plan)
    with connect() as connection:
        registry = Registry(connection, get_settings().artifacts_path)
        manifest = registry.manifest(registry.resolve(*parse_reference(model)))
    names = [f.name for f in manifest.features if (f.view, f.version) == (spec.name, spec.version)]
    if not names:
        raise ParameterError(
            f"model {model} reads nothing of {spec.name}@{spec.version}",
            remedy=f"It reads {', '.join(sorted({f'{f.view}@{f.version}' for f in manifest.features}))}",
        )
    return names


def _plan_of(text: str) -> FeaturePlan:
    from tapeline.core.errors import UnknownNameError
    from tapeline.features import FeaturePlan
    from tapeline.features.catalogue import VIEWS, view
    from tapeline.features.describe import all_features
    from tapeline.features.request_text import parse_requests

    names = {spec.name for spec in VIEWS}
    if text.partition("@")[0] in names:
        return view(text).plan
    if text.replace("_", "").isalnum() and text.casefold() not in {i.name.casefold() for i in all_features()}:
        raise UnknownNameError("view or feature", text, [*names, *(i.name.lower() for i in all_features())])
    return FeaturePlan.of(parse_requests(text))


def check_feature(
    target: Annotated[
        str, typer.Argument(help="MODULE, or MODULE:NAME, of your own features: my_features:mine.DRAWUP")
    ],
    as_json: JsonOption = False,
) -> None:
    """Check features of your own as the built-in ones are checked; exit code 1 if one fails."""
    from tapeline.core.errors import FeatureCheckError, UnknownNameError
    from tapeline.features.testing import run_checks
    from tapeline.indicators.custom import load_feature_module

    module, _, name = target.partition(":")
    sys.path.insert(0, str(Path.cwd()))  # as python -m does
    found = {indicator.name: indicator for indicator in load_feature_module(module, "command line")}
    if name and name not in found:
        raise UnknownNameError("feature", name, found, where=f"module {module}")
    rows = [
        {"feature": indicator.name, "check": check.name, "passed": check.passed, "detail": check.detail}
        for indicator in ([found[name]] if name else found.values())
        for check in run_checks(indicator)
    ]
    emit(rows, as_json=as_json)
    failed = [f"{row['feature']}: {row['check']}" for row in rows if not row["passed"]]
    if failed:
        raise FeatureCheckError(f"{len(failed)} of {len(rows)} checks failed: {'; '.join(failed)}")
