"""One self-contained HTML page that shows what a run of the whole path did: no file beside it, no network."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import EmptyDataError

if TYPE_CHECKING:
    import plotly.graph_objects as go

BLUE, ORANGE, GREEN, GREY, RED = "#0284c7", "#d97706", "#16a34a", "#64748b", "#dc2626"
_FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"


@dataclass(frozen=True)
class PriceChart:
    """Bars of one symbol with features over them.

    Attributes
    ----------
    symbol
        Whose bars.
    times
        ISO timestamps of the bars' ends, shape (n,).
    open, high, low, close
        Prices as traded, shape (n,).
    overlays
        Name → values in the price's unit, shape (n,).
    below
        Name → values drawn in a panel of their own, shape (n,).
    events
        (ISO timestamp, label) of what deserves a mark, such as a split.
    """

    symbol: str
    times: Sequence[str]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    overlays: dict[str, NDArray[np.float64]]
    below: dict[str, NDArray[np.float64]]
    events: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class CalibrationChart:
    """Held-out probabilities in bins: mean predicted, observed share, count; one series per name."""

    series: dict[str, tuple[Sequence[float], Sequence[float], Sequence[int]]]


@dataclass(frozen=True)
class RunReport:
    """Everything the page shows.

    Attributes
    ----------
    title, subtitle
        Heading.
    summary
        Rows of the summary table: what, value.
    metrics
        Rows of the metrics table: one mapping a row, same keys in each.
    verdict
        What the metrics mean, in words.
    price, calibration
        Charts.
    importance
        (feature, share of gain), largest first.
    latency_us
        Server latencies seen by the client, by kind of request.
    commands
        (command line, seconds) of each step.
    data_flow_svg
        The data-flow diagram.
    late
        Rows of a table of what was recorded after the data set was exported, and what it changed in a new one.
    """

    title: str
    subtitle: str
    summary: Sequence[tuple[str, str]]
    metrics: Sequence[dict[str, str]]
    verdict: str
    price: PriceChart
    calibration: CalibrationChart
    importance: Sequence[tuple[str, float]]
    latency_us: dict[str, NDArray[np.float64]]
    commands: Sequence[tuple[str, float]]
    data_flow_svg: str = ""
    late: Sequence[dict[str, str]] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def chart_layout(figure: go.Figure, height: int) -> go.Figure:
    """The look of every chart here."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": 20, "t": 30, "b": 45},
        font={"family": _FONT, "size": 13},
        legend={"orientation": "h", "y": 1.06, "x": 0},
    )
    return figure


def price_figure(chart: PriceChart) -> go.Figure:
    """Candles with overlays, and a panel below for features of another unit."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    if not len(chart.times):
        raise EmptyDataError(f"no bars of {chart.symbol} to draw")
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.72, 0.28], vertical_spacing=0.05)
    figure.add_trace(
        go.Candlestick(
            x=list(chart.times), open=chart.open, high=chart.high, low=chart.low, close=chart.close,
            name=chart.symbol, increasing_line_color=GREEN, decreasing_line_color=RED, line_width=1,
        ),
        row=1, col=1,
    )  # fmt: skip
    for (name, values), colour in zip(chart.overlays.items(), [BLUE, ORANGE, GREY, GREY], strict=False):
        figure.add_trace(
            go.Scatter(x=list(chart.times), y=values, name=name, line={"color": colour, "width": 1.4}), row=1, col=1
        )
    for (name, values), colour in zip(chart.below.items(), [BLUE, ORANGE], strict=False):
        figure.add_trace(
            go.Scatter(x=list(chart.times), y=values, name=name, line={"color": colour, "width": 1.4}), row=2, col=1
        )
    for moment, label in chart.events:
        figure.add_shape(
            type="line", x0=moment, x1=moment, y0=0, y1=1, yref="paper", line={"dash": "dot", "color": GREY}
        )
        figure.add_annotation(x=moment, y=1, yref="paper", text=label, showarrow=False, xanchor="left", xshift=4)
    figure.update_layout(xaxis_rangeslider_visible=False)
    figure.update_yaxes(title_text="price as traded", row=1, col=1)
    return chart_layout(figure, 520)


def calibration_figure(chart: CalibrationChart) -> go.Figure:
    """Observed share of the event against the mean predicted probability, with binomial 95 % intervals."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for (name, (predicted, observed, counts)), colour in zip(chart.series.items(), [GREY, BLUE], strict=False):
        p, n = np.asarray(observed, np.float64), np.maximum(np.asarray(counts, np.float64), 1)
        half = 1.96 * np.sqrt(p * (1 - p) / n)
        figure.add_trace(
            go.Scatter(
                x=list(predicted), y=list(observed), name=name, mode="lines+markers", text=[f"n = {c}" for c in counts],
                error_y={"type": "data", "array": half.tolist(), "thickness": 1}, line={"color": colour},
            )
        )  # fmt: skip
    low = min(min(s[0]) for s in chart.series.values())
    high = max(max(s[0]) for s in chart.series.values())
    low, high = max(0.0, low - 0.03), min(1.0, high + 0.03)
    figure.add_trace(
        go.Scatter(x=[low, high], y=[low, high], name="perfect", mode="lines", line={"dash": "dot", "color": GREEN})
    )
    figure.update_xaxes(title_text="predicted probability", range=[low, high])
    figure.update_yaxes(title_text="observed share")
    return chart_layout(figure, 380)


def importance_figure(importance: Sequence[tuple[str, float]], count: int = 20) -> go.Figure:
    """Share of the trees' gain by feature, the largest ``count``."""
    import plotly.graph_objects as go

    shown = list(importance)[:count][::-1]
    figure = go.Figure(
        go.Bar(x=[share for _, share in shown], y=[name for name, _ in shown], orientation="h", marker_color=BLUE)
    )
    figure.update_xaxes(title_text="share of gain", tickformat=".0%")
    chart_layout(figure, 90 + 19 * len(shown))
    figure.update_layout(margin={"l": 190, "r": 20, "t": 20, "b": 45})
    return figure


def latency_figure(latency_us: dict[str, NDArray[np.float64]]) -> go.Figure:
    """Latency by percentile, so that the tail is seen."""
    import plotly.graph_objects as go

    shares = np.concatenate([np.linspace(0, 0.99, 100), [0.995, 0.999]])
    figure = go.Figure()
    for (name, values), colour in zip(latency_us.items(), [BLUE, ORANGE, GREEN], strict=False):
        figure.add_trace(
            go.Scatter(x=shares * 100, y=np.quantile(values, shares), name=name, mode="lines", line={"color": colour})
        )
    figure.update_xaxes(title_text="percentile of requests")
    ticks = [step * 10**power for power in range(1, 7) for step in (1, 2, 5)]
    figure.update_yaxes(title_text="latency (µs)", type="log", tickvals=ticks, ticktext=[f"{tick:,}" for tick in ticks])
    return chart_layout(figure, 360)


def html_table(rows: Sequence[dict[str, str]]) -> str:
    """Rows with the same keys as an HTML table that scrolls where it is too wide."""
    if not rows:
        return ""
    head = "".join(f"<th>{html.escape(key)}</th>" for key in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{html.escape(v)}</td>" for v in row.values()) + "</tr>" for row in rows)
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


STYLE = f"""
:root{{color-scheme:light}}body{{margin:0;background:#f8fafc;color:#0f172a;font:15px/1.55 {_FONT}}}
main{{max-width:1080px;margin:0 auto;padding:32px 20px 60px}}h1{{margin:0;font-size:30px}}
.sub{{color:#475569;margin:4px 0 24px}}section{{background:#fff;border:1px solid #e2e8f0;border-radius:12px;padding:18px 22px;
margin:0 0 20px}}h2{{font-size:18px;margin:0 0 10px}}table{{border-collapse:collapse;width:100%;font-size:14px}}
td,th{{text-align:left;padding:5px 10px 5px 0;border-bottom:1px solid #eef2f6;vertical-align:top}}
th{{color:#475569;font-weight:600}}.facts th{{width:34%}}.scroll{{overflow-x:auto}}code{{font:13px ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}}
.grid{{display:grid;grid-template-columns:1fr 1fr;gap:20px}}.grid section{{min-width:0}}
.verdict{{border-left:4px solid {ORANGE};padding:4px 14px;margin:14px 0 2px;color:#334155}}
svg{{max-width:100%;height:auto}}@media(max-width:860px){{.grid{{grid-template-columns:1fr}}}}
"""


def render(report: RunReport) -> str:
    """The page as HTML text; plotly's script is inside it."""
    figures = [
        price_figure(report.price), calibration_figure(report.calibration),
        importance_figure(report.importance), latency_figure(report.latency_us),
    ]  # fmt: skip
    config = {"displayModeBar": False, "responsive": True}
    price, calibration, importance, latency = (
        figure.to_html(full_html=False, include_plotlyjs=number == 0, config=config)
        for number, figure in enumerate(figures)
    )
    summary = "".join(
        f"<tr><th>{html.escape(what)}</th><td>{html.escape(value)}</td></tr>" for what, value in report.summary
    )
    commands = "".join(
        f"<tr><td><code>{html.escape(line)}</code></td><td>{seconds:.1f} s</td></tr>"
        for line, seconds in report.commands
    )
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in report.notes)
    late = (
        f"<section><h2>What was recorded after the export</h2>{html_table(report.late)}</section>"
        if report.late
        else ""
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{html.escape(report.title)}</title><style>{STYLE}</style></head><body><main>
<h1>{html.escape(report.title)}</h1><p class="sub">{html.escape(report.subtitle)}</p>
<section><h2>What happened</h2><table class='facts'>{summary}</table></section>
<section><h2>How data flows</h2>{report.data_flow_svg}</section>
<section><h2>{html.escape(report.price.symbol)}: price as traded, with features</h2>{price}</section>
<section><h2>Model against baselines, on data held out in time</h2>{html_table(report.metrics)}
<p class="verdict">{html.escape(report.verdict)}</p></section>
<div class="grid"><section><h2>Calibration</h2>{calibration}</section>
<section><h2>Latency of Predict</h2>{latency}</section></div>
<section><h2>Feature importance</h2>{importance}</section>
{late}
<section><h2>Commands</h2><table>{commands}</table>{notes}</section>
</main></body></html>
"""


def write(report: RunReport, path: Path) -> Path:
    """Write the page to a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(render(report), encoding="utf-8")
    partial.replace(path)
    return path
