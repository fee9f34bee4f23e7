"""The quality report as one self-contained HTML page: no file beside it, no network."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tapeline.quality.definition import FACTORS
from tapeline.quality.lag import LearnedLag, seconds_text
from tapeline.quality.report import ViewQuality

if TYPE_CHECKING:
    import plotly.graph_objects as go

_GOOD, _FAIR, _POOR, _INK, _GREY = "#15803d", "#b45309", "#b91c1c", "#0f172a", "#64748b"
_COLOURS = {"completeness": "#0284c7", "freshness": "#7c3aed", "reliability": "#0d9488", "validity": "#d97706"}
_FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
_BLOCKS_SHOWN = 500
_STYLE = f"""
body {{ font-family: {_FONT}; color: {_INK}; max-width: 1060px; margin: 2rem auto; padding: 0 1.25rem; line-height: 1.5; }}
h1 {{ font-size: 1.6rem; margin: 0; }} h2 {{ font-size: 1.2rem; margin: 2.4rem 0 .4rem; }} h3 {{ font-size: 1rem; margin: 1.2rem 0 .3rem; }}
p.sub {{ color: {_GREY}; margin: .2rem 0 1.2rem; }}
table {{ border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }}
th {{ text-align: left; color: {_GREY}; font-weight: 600; border-bottom: 2px solid #e2e8f0; padding: .35rem .6rem; }}
td {{ border-bottom: 1px solid #e2e8f0; padding: .35rem .6rem; vertical-align: top; }}
td.n, th.n {{ text-align: right; white-space: nowrap; }}
.bar {{ display: inline-block; width: 4.5rem; height: .55rem; background: #e2e8f0; border-radius: 3px; margin-right: .5rem; vertical-align: middle; }}
.bar i {{ display: block; height: 100%; border-radius: 3px; }}
code {{ font-size: .85rem; background: #f1f5f9; padding: .1rem .3rem; border-radius: 3px; }}
.good {{ color: {_GOOD}; }} .fair {{ color: {_FAIR}; }} .poor {{ color: {_POOR}; font-weight: 600; }}
ul {{ margin: .2rem 0; padding-left: 1.1rem; font-size: .85rem; }}
"""


def write_page(views: Sequence[ViewQuality], lags: Sequence[LearnedLag], path: Path, *, at: str) -> Path:
    """Write the page.

    Parameters
    ----------
    views
        What to show.
    lags
        What was learned of their sources; may be empty.
    path
        The file; an older one is replaced.
    at
        The moment of the report, ISO 8601.
    """
    body = [
        "<h1>Quality of feature views</h1>",
        f'<p class="sub">Freshness as of {html.escape(at)}; the other factors over all rows as recorded.</p>',
        _summary(views),
    ]
    library: bool | str = True
    for view in views:
        body.append(f"<h2>{html.escape(view.label)}</h2>{_facts(view)}{_rules(view)}")
        figure = block_figure(view)
        if figure is not None:
            body.append("<h3>Blocks as they were written</h3>")
            body.append(figure.to_html(full_html=False, include_plotlyjs=library, config={"displaylogo": False}))
            library = False
    if lags:
        body.append(_lags(lags))
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Quality of feature views</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body>{''.join(body)}</body></html>"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def block_figure(view: ViewQuality) -> go.Figure | None:
    """Factors of the newest blocks over the time they were written; none of a view with a single block."""
    import plotly.graph_objects as go

    shown = list(reversed(view.blocks[:_BLOCKS_SHOWN]))
    if len(shown) < 2:
        return None
    figure = go.Figure()
    times = [block.created_timestamp for block in shown]
    factors = [block.counts.factors(block.freshness) for block in shown]
    for name in FACTORS:
        figure.add_trace(
            go.Scatter(
                x=times, y=[one[name] for one in factors], name=name, mode="lines+markers",
                line={"color": _COLOURS[name], "width": 1.2}, marker={"size": 4},
            )
        )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=times, y=[block.score for block in shown], name="score", mode="lines+markers",
            line={"color": _INK, "width": 2.4}, marker={"size": 5},
            text=[f"{block.counts.rows} rows, {block.verdict}" for block in shown],
        )
    )  # fmt: skip
    figure.add_hline(y=view.warn_below, line={"dash": "dot", "color": _GREY, "width": 1})
    figure.update_layout(
        template="plotly_white",
        height=300,
        margin={"l": 50, "r": 15, "t": 10, "b": 40},
        font={"family": _FONT, "size": 12},
        legend={"orientation": "h", "y": 1.12, "x": 0},
        yaxis={"range": [0, 1.03], "title": None},
    )
    return figure


def _shade(value: float, warn_below: float) -> str:
    return "good" if value >= warn_below else "fair" if value >= 0.5 else "poor"


def _meter(value: float, warn_below: float) -> str:
    colour = {"good": _GOOD, "fair": _FAIR, "poor": _POOR}[_shade(value, warn_below)]
    bar = f'<span class="bar"><i style="width:{100 * value:.0f}%;background:{colour}"></i></span>'
    return f'<td class="n">{bar}<span class="{_shade(value, warn_below)}">{_share(value)}</span></td>'


def _share(value: float) -> str:
    """Three digits, and never 1.000 for what is less."""
    return "1.000" if value == 1.0 else f"{math.floor(value * 1000) / 1000:.3f}"


def _summary(views: Sequence[ViewQuality]) -> str:
    head = "".join(f'<th class="n">{name}</th>' for name in ("score", *FACTORS, "rows", "blocks"))
    rows = []
    for view in views:
        cells = _meter(view.score, view.warn_below) + "".join(_meter(view.factors[f], view.warn_below) for f in FACTORS)
        count = sum(view.verdicts.values())
        rows.append(
            f'<tr><td><b>{html.escape(view.label)}</b></td>{cells}<td class="n">{view.counts.rows:,}</td>'
            f'<td class="n">{count:,}</td></tr>'
        )
    return f"<table><tr><th>view</th>{head}</tr>{''.join(rows)}</table>"


def _facts(view: ViewQuality) -> str:
    counts = view.counts
    said = [
        f"{counts.cells_filled:,} of {counts.cells_expected:,} expected values are there",
        f"{counts.rows_corrected:,} rows corrected earlier ones, {counts.rows_late:,} came late",
        f"Blocks: {', '.join(f'{count} {verdict}' for verdict, count in sorted(view.verdicts.items()))}",
    ]
    if view.freshness is not None and view.freshness.newest is not None:
        newest = view.freshness.newest.isoformat()
        said.append(f"Newest row {newest}, {view.freshness.rows_behind:,.0f} rows behind")
    return f'<p class="sub">{html.escape(". ".join(said))}.</p>'


def _rules(view: ViewQuality) -> str:
    if not view.broken:
        return '<p class="good">Every row keeps every rule.</p>'
    rows = []
    for rule in view.broken:
        features = ", ".join(f"{name} ({cells:,})" for name, cells in list(rule.features.items())[:5])
        examples = "".join(f"<li>{html.escape(example)}</li>" for example in rule.examples)
        rows.append(
            f"<tr><td><code>{html.escape(rule.rule)}</code><br>{html.escape(rule.meaning)}</td>"
            f'<td class="n">{rule.rows:,}</td><td class="n">{rule.blocks:,}</td><td>{html.escape(rule.action)}</td>'
            f"<td>{html.escape(features)}<ul>{examples}</ul></td></tr>"
        )
    head = '<tr><th>broken rule</th><th class="n">rows</th><th class="n">blocks</th><th>action</th><th>where</th></tr>'
    return f"<table>{head}{''.join(rows)}</table>"


def _lags(lags: Sequence[LearnedLag]) -> str:
    rows = []
    for lag in lags:
        for name, delay in (("arrival", lag.live), ("publication", lag.published)):
            if delay is None:
                continue
            shade = "poor" if delay.violations and name == "arrival" else "good"
            cells = "".join(f'<td class="n">{seconds_text(value)}</td>' for value in delay.quantiles_us.values())
            rows.append(
                f"<tr><td><b>{html.escape(lag.source.name)}</b>, {name}</td><td class='n'>"
                f'{seconds_text(lag.source.declared_lag_us)}</td><td class="n">{delay.rows:,}</td>{cells}'
                f'<td class="n {shade}">{delay.violations:,}</td></tr>'
            )
        if lag.advice:
            rows.append(f'<tr><td colspan="9">{html.escape(lag.advice)}.</td></tr>')
    if not rows:
        return ""
    names = ("declared", "rows", "p50", "p90", "p99", "p99.9", "max", "too late")
    head = "".join(f'<th class="n">{name}</th>' for name in names)
    return f"<h2>How late rows arrive</h2><table><tr><th>source</th>{head}</tr>{''.join(rows)}</table>"
