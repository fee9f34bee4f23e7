"""``tapeline features``: which indicators there are, and what each means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tapeline.cli.app import JsonOption, emit

if TYPE_CHECKING:
    from tapeline.indicators import Indicator


def register(app: typer.Typer) -> None:
    """Add the ``features`` commands."""
    commands = typer.Typer(help="The indicators that feature views can use.", no_args_is_help=True)
    commands.command("list")(list_features)
    commands.command("show")(show_feature)
    app.add_typer(commands, name="features")


def list_features(as_json: JsonOption = False) -> None:
    """List all indicators by group."""
    from tapeline.indicators import all_indicators

    found = sorted(all_indicators(), key=lambda indicator: (indicator.group, indicator.name))
    if as_json:
        emit([_describe(indicator) for indicator in found], as_json=True)
        return
    rows = [
        {
            "name": indicator.name,
            "group": indicator.group,
            "inputs": " ".join(indicator.inputs),
            "parameters": " ".join(f"{p.name}={p.default:g}" for p in indicator.parameters) or "–",
            "summary": indicator.summary,
        }
        for indicator in found
    ]
    emit(rows, as_json=False, title=f"{len(rows)} indicators")


def show_feature(
    name: Annotated[str, typer.Argument(help="Name of the indicator, such as RSI.")], as_json: JsonOption = False
) -> None:
    """Show one indicator: inputs, parameters, outputs, warm-up, source and oracle."""
    from tapeline.indicators import indicator_named

    described = _describe(indicator_named(name))
    if not as_json:
        outputs = described.pop("outputs")
        assert isinstance(outputs, list)
        described["outputs"] = [f"{o['name']} ({o['unit']}, from row {o['warm_up']} on)" for o in outputs]
        parameters = described.pop("parameters")
        assert isinstance(parameters, list)
        described["parameters"] = [
            f"{p['name']} = {p['default']:g} ({p['lowest']:g} to {p['highest']:g})" for p in parameters
        ]
    emit(described, as_json=as_json, title=name)


def _describe(indicator: Indicator) -> dict[str, object]:
    """A specification as plain data; output names and warm-up are those of the default parameters."""
    expressions = indicator.expressions({})
    return {
        "name": indicator.name,
        "group": indicator.group,
        "summary": indicator.summary,
        "inputs": list(indicator.inputs),
        "parameters": [
            {"name": p.name, "default": p.default, "lowest": p.lowest, "highest": p.highest}
            for p in indicator.parameters
        ],
        "outputs": [
            {"name": column, "unit": unit, "warm_up": expression.operation.warm_up}
            for column, unit, expression in zip(
                indicator.columns({}), indicator.outputs.values(), expressions, strict=True
            )
        ],
        "source": indicator.source,
        "oracle": indicator.oracle,
    }
