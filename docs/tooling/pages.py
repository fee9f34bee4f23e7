"""A page for each feature, and the index of all of them."""

from __future__ import annotations

from collections.abc import Sequence

from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.features.state import HEADER_SIZE
from tapeline.indicators import Indicator
from tapeline.indicators.formula import formula
from tapeline.polars.functions import function_name

from docs.tooling.market import BARS_NAME, TICKS_NAME

_ORACLES = {
    "formula": "the definition, written directly over whole windows",
    "none": "nothing",
}
_GROUPS = {
    "averages": "Moving averages",
    "oscillators": "Oscillators",
    "trend": "Trend",
    "volatility": "Volatility",
    "volume": "Volume",
    "statistics": "Statistics",
    "momentum": "Momentum and reversion",
    "composites": "Composites",
    "microstructure": "Microstructure",
    "candles": "Candle patterns",
}


def path_of(indicator: Indicator, suffix: str = "md") -> str:
    """A page's or picture's path below ``docs/features``."""
    return f"{indicator.group}/{indicator.name.lower()}.{suffix}"


def page(indicator: Indicator, *, drawn: bool) -> str:
    """The page of a feature; ``drawn`` if there is a picture of it."""
    written = formula(indicator)
    names, units = indicator.columns({}), list(indicator.outputs.values())
    plan = FeaturePlan.of([FeatureRequest(indicator.name)])
    rows = "bars" if indicator.schema == "bars" else "ticks"
    lines = [
        f"# {indicator.name}",
        "",
        indicator.summary,
        "",
        *_table(
            ("", ""),
            [
                ("group", f"[{indicator.group}](../README.md#{_anchor(indicator.group)})"),
                ("reads", f"{', '.join(f'`{name}`' for name in indicator.inputs)} of {rows}"),
                ("source", indicator.source),
                ("checked against", _ORACLES.get(indicator.oracle, indicator.oracle)),
                ("state", f"{8 * (plan.state_size - HEADER_SIZE):,} bytes a symbol, less what other features share"),
            ],
        ),
        "",
        "## Formula",
        "",
        "```text",
        *written.lines,
        "```",
        "",
        *(f"- `{step}`: {_prose(meaning)}" for step, meaning in written.steps.items()),
        *(f"- {note}" for note in written.notes),
        *([""] if written.steps or written.notes else []),
        "Written from the expression that is compiled; a number that is derived from parameters is that of the defaults.",
        "",
    ]
    if indicator.parameters:
        parameters = [
            (f"`{p.name}`", f"{p.default:g}", f"{p.lowest:g}", f"{p.highest:g}") for p in indicator.parameters
        ]
        lines += ["## Parameters", "", *_table(("name", "default", "from", "to"), parameters), ""]
    first = "first value" if indicator.schema == "bars" else "first value, at the earliest"
    outputs = [(f"`{n}`", unit, f"row {warm_up}") for n, unit, warm_up in zip(names, units, plan.warm_up, strict=True)]
    lines += ["## Outputs", "", *_table(("column, with the defaults", "unit", first), outputs), ""]
    arguments = ", ".join(f"{p.name}={p.default:g}" for p in indicator.parameters)
    asked = ", ".join([f'"{indicator.name}"', *([arguments] if arguments else [])])
    lines += [
        "## Use",
        "",
        "As a Polars expression (`import tapeline.polars as tl`), and in a feature view or plan:",
        "",
        "```python",
        f"tl.{function_name(indicator)}({arguments})",
        f"FeatureRequest.of({asked})",
        "```",
        "",
        f"## On {BARS_NAME if indicator.schema == 'bars' else TICKS_NAME}",
        "",
        f"![{indicator.name}]({indicator.name.lower()}.svg)" if drawn else "It has no value in these data.",
        "",
    ]
    return "\n".join(lines)


def index(indicators: Sequence[Indicator]) -> str:
    """The index, by group."""
    lines = [
        "# Features",
        "",
        f"{len(indicators)} features, each with one compiled definition that batch, stream and request share. These pages are",
        "written from the specifications by `make docs`. On the command line: `tapeline features list`, `tapeline features show RSI`,",
        '`tapeline features search "true range"`; `tapeline features explain daily_technical --model NAME` tells what a plan costs and',
        "what one that is cut down to a model's features saves. Features of your own:",
        "[custom features](../how-to/custom-features.md).",
        "",
    ]
    groups = dict.fromkeys([*_GROUPS, *(indicator.group for indicator in indicators)])
    for group in groups:
        members = sorted((i for i in indicators if i.group == group), key=lambda i: i.name)
        if not members:
            continue
        rows = [
            (
                f"[{i.name}]({path_of(i)})",
                i.summary,
                ", ".join(dict.fromkeys(i.outputs.values())),
                str(max(e.operation.warm_up for e in i.expressions({}))),
                i.oracle,
            )
            for i in members
        ]
        header = ("name", "what", "unit", "warm-up in rows", "oracle")
        lines += [f"## {_GROUPS.get(group, group.capitalize())}", "", *_table(header, rows), ""]
    return "\n".join(lines)


def _anchor(group: str) -> str:
    return _GROUPS.get(group, group).lower().replace(" ", "-")


def _prose(text: str) -> str:
    return text.replace("``", "`")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    shown = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(_cell(text) for text in row)} |" for row in shown]


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
