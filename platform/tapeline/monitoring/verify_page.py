"""What verification found, as one self-contained HTML page with pictures: no file beside it, no network."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tapeline.core.timestamps import DAY_US, HOUR_US, MINUTE_US, format_us, from_us
from tapeline.monitoring.findings import BUDGET, Cause, Mismatch, RowPlace, by_vector
from tapeline.monitoring.report import BLUE, GREEN, GREY, ORANGE, RED, STYLE, chart_layout, html_table

if TYPE_CHECKING:
    import plotly.graph_objects as go

MISMATCHES_SHOWN = 200
MISMATCHES_READ = 2_000
_BARS_MAX = 400
_WIDTHS_US = (MINUTE_US, 5 * MINUTE_US, 30 * MINUTE_US, HOUR_US, 6 * HOUR_US, DAY_US)
COLOURS = {
    Cause.LATE_ROW: BLUE,
    Cause.CORRECTION: "#0d9488",
    Cause.VERSION: "#7c3aed",
    Cause.ACTION: "#0891b2",
    Cause.LAG: ORANGE,
    Cause.AHEAD: GREY,
    Cause.EXPIRED: "#94a3b8",
    Cause.UNKNOWN: RED,
}
"""One for each cause, in every picture; red is the one that has no explanation."""


@dataclass(frozen=True)
class VerificationPage:
    """Everything the page shows.

    Attributes
    ----------
    title, subtitle
        Heading.
    summary
        Rows of the first table: what, value.
    by_view, by_minute
        Values by view, or by the minute of serving (microseconds UTC), and cause; ``None``: all that were compared.
    mismatches
        Differences; those of `MISMATCHES_SHOWN` vectors are listed.
    burn_rates
        By window; empty where there is no objective.
    """

    title: str
    subtitle: str
    summary: Sequence[tuple[str, str]]
    by_view: Mapping[tuple[str, Cause | None], int]
    by_minute: Mapping[tuple[int, Cause | None], int]
    mismatches: Sequence[Mismatch] = ()
    burn_rates: Mapping[str, float] = field(default_factory=dict)


def write_page(page: VerificationPage, path: Path) -> Path:
    """Write the page to a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(render(page), encoding="utf-8")
    partial.replace(path)
    return path


def render(page: VerificationPage) -> str:
    """The page as HTML text; plotly's script is inside it."""
    figures = [("Values compared, and those that differ, by when they were served", time_figure(page.by_minute))]
    if page.burn_rates:
        figures.append(("How fast the error budget was used up", burn_figure(page.burn_rates)))
    if page.mismatches:
        figures.append(("Which entities, and when", entity_figure(page.mismatches)))
    pictures = "".join(
        f"<section><h2>{title}</h2>"
        + figure.to_html(
            full_html=False, include_plotlyjs=number == 0, config={"displayModeBar": False, "responsive": True}
        )
        + "</section>"
        for number, (title, figure) in enumerate(figures)
    )
    facts = "".join(
        f"<tr><th>{html.escape(what)}</th><td>{html.escape(value)}</td></tr>" for what, value in page.summary
    )
    shown = [_row(each, count) for each, count in by_vector(page.mismatches)[:MISMATCHES_SHOWN]]
    listed = f"<section style='white-space:nowrap'><h2>Differences, by vector</h2>{html_table(shown)}</section>"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{html.escape(page.title)}</title><style>{STYLE}</style></head><body><main>
<h1>{html.escape(page.title)}</h1><p class="sub">{html.escape(page.subtitle)}</p>
<section><table class='facts'>{facts}</table></section>
<section><h2>By view and cause</h2>{html_table(_by_view(page.by_view))}</section>
{pictures}
{listed if shown else ""}
</main></body></html>
"""


def time_figure(by_minute: Mapping[tuple[int, Cause | None], int]) -> go.Figure:
    """Values compared above, those that differ below by cause; bars of a minute, or wider ones where these would be too many."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    width_us = _bar_width_us([minute for minute, _ in by_minute])
    bars: Counter[tuple[int, Cause | None]] = Counter()
    for (minute, cause), count in by_minute.items():
        bars[minute - minute % width_us, cause] += count
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.5, 0.5], vertical_spacing=0.08)
    present: list[tuple[Cause | None, str, str]] = [(None, "compared", GREEN)]
    present += [(cause, cause.value, COLOURS[cause]) for cause in Cause if any(of is cause for _, of in bars)]
    for cause, name, colour in present:
        of_cause = sorted((start, count) for (start, of), count in bars.items() if of is cause)
        figure.add_trace(
            go.Bar(
                x=[from_us(start + width_us // 2) for start, _ in of_cause], y=[count for _, count in of_cause],
                width=0.9 * width_us / 1_000, name=name, marker_color=colour,
            ),
            row=1 if cause is None else 2, col=1,
        )  # fmt: skip
    figure.update_yaxes(title_text="values", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="differing", rangemode="tozero", row=2, col=1)
    if len(present) == 1:
        figure.update_yaxes(range=[0, 1], tickvals=[0], row=2, col=1)
        figure.add_annotation(
            text="none differ", x=0.5, y=0.22, xref="paper", yref="paper", showarrow=False, font={"color": GREY}
        )
    if by_minute:
        ends = [start for start, _ in bars]
        figure.update_xaxes(range=[from_us(min(ends) - width_us), from_us(max(ends) + 2 * width_us)])
    chart_layout(figure, 420)
    figure.update_layout(barmode="stack", showlegend=True)
    return figure


def burn_figure(burn_rates: Mapping[str, float]) -> go.Figure:
    """Burn rates by window; at 1 the budget lasts just as long as it has to."""
    import plotly.graph_objects as go

    rates = list(burn_rates.values())
    figure = go.Figure(
        go.Bar(
            x=rates, y=list(burn_rates), orientation="h", text=[f"{rate:.3g}" for rate in rates], textposition="outside",
            marker_color=[GREEN if rate <= 1 else ORANGE if rate <= 6 else RED for rate in rates],
        )
    )  # fmt: skip
    figure.add_vline(x=1, line={"dash": "dot", "color": GREY})
    figure.update_xaxes(title_text="times the rate that the objective allows", range=[0, max(1.2, *rates) * 1.15])
    figure.update_yaxes(title_text="window", autorange="reversed")
    return chart_layout(figure, 90 + 34 * len(burn_rates))


def entity_figure(mismatches: Sequence[Mismatch]) -> go.Figure:
    """Each entity's differences over the time at which they were served, coloured by cause."""
    import plotly.graph_objects as go

    grouped: Counter[tuple[Cause, str, int]] = Counter(
        (each.cause, each.entity, each.served_us - each.served_us % 1_000) for each in mismatches
    )
    figure = go.Figure()
    for cause in Cause:
        points = sorted((moment, entity, count) for (of, entity, moment), count in grouped.items() if of is cause)
        if points:
            figure.add_trace(
                go.Scatter(
                    x=[from_us(moment) for moment, _, _ in points], y=[entity for _, entity, _ in points], mode="markers",
                    name=cause.value, text=[f"{count} values" for _, _, count in points],
                    marker={"color": COLOURS[cause], "size": [6 + 4 * math.log10(n) for _, _, n in points], "opacity": 0.75},
                )
            )  # fmt: skip
    entities = len({each.entity for each in mismatches})
    figure.update_yaxes(type="category", categoryorder="category descending")
    chart_layout(figure, min(130 + 26 * entities, 900))
    legend = {"yref": "container", "y": 0.98, "yanchor": "top"}
    figure.update_layout(showlegend=True, legend=legend, margin={"t": 55})
    return figure


def _bar_width_us(minutes: Sequence[int]) -> int:
    span_us = max(minutes, default=0) - min(minutes, default=0)
    return next((width for width in _WIDTHS_US if span_us // width <= _BARS_MAX), _WIDTHS_US[-1])


def _by_view(counts: Mapping[tuple[str, Cause | None], int]) -> list[dict[str, str]]:
    causes = [cause for cause in Cause if any(of is cause and count for (_, of), count in counts.items())]
    rows = []
    for view in sorted({view for view, _ in counts}):
        compared = counts.get((view, None), 0)
        faults = sum(count for (of, cause), count in counts.items() if of == view and cause in BUDGET)
        rows.append(
            {"view": view, "values": f"{compared:,}"}
            | {cause.value: f"{counts.get((view, cause), 0):,}" for cause in causes}
            | {"this platform's fault": f"{faults / compared:.4%}" if compared else "–"}
        )
    return rows


def _row(found: Mismatch, count: int) -> dict[str, str]:
    return {
        "entity": found.entity,
        "served": format_us(found.served_us),
        "view": f"{found.view}@{found.version}",
        "feature": found.feature if count == 1 else f"{found.feature} and {count - 1} more",
        "value": repr(found.served),
        "stored": repr(found.expected),
        "cause": found.cause.value,
        "row used": place_text(found.used),
        "recorded row": place_text(found.recorded),
    }


def place_text(place: RowPlace) -> str:
    """A row's event time, sequence, and when it was available and recorded, as far as they are known."""
    if place.event_us is None:
        return "–"
    parts = [format_us(place.event_us)]
    if place.sequence is not None:
        parts.append(f"#{place.sequence}")
    if place.available_us is not None and place.available_us != place.event_us:
        parts.append(f"available {format_us(place.available_us)}")
    if place.created_us is not None:
        parts.append(f"recorded {format_us(place.created_us)}")
    return ", ".join(parts)
