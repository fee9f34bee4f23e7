"""The picture of a simulated stream: latency against load, headroom, an opening, and what breaks first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scaling.capacity import Setting
from benchmarks.scaling.latency import Latency, Opened, knee

RATE_UNIT = 1e6


def figure(
    title: str,
    latencies: list[Latency],
    headroom: dict[tuple[int, int], float],
    opened: Opened,
    limits: list[tuple[str, float, str]],
    setting: Setting,
) -> Any:
    """A plotly figure of four panels; its own button saves it as PNG.

    Parameters
    ----------
    title
        Above all.
    latencies
        Against load.
    headroom
        By partitions and workers: the load that is carried, in millions of events a second.
    opened
        The opening.
    limits
        Resource, load at which it is exhausted, and why.
    setting
        What was simulated.
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    picture = make_subplots(
        rows=2,
        cols=2,
        subplot_titles=(
            f"latency, {setting.workers} workers, {setting.shards} Redis, {setting.partitions} partitions",
            "million events/s carried, by partitions and workers",
            "the opening",
            "million events/s at which each is exhausted",
        ),
        specs=[[{}, {}], [{"secondary_y": True}, {}]],
    )
    loads = [one.load for one in latencies]
    for name, values in (("p50", [one.p50_s for one in latencies]), ("p99", [one.p99_s for one in latencies])):
        picture.add_trace(go.Scatter(x=loads, y=[1e3 * value for value in values], name=f"{name}, ms"), row=1, col=1)
    at = knee(latencies)
    picture.add_vline(x=at, line_dash="dot", annotation_text=f"knee {at:.2f}", row=1, col=1)
    partitions, workers = (sorted({key[place] for key in headroom}) for place in (0, 1))
    cells = [[headroom.get((p, w), np.nan) for p in partitions] for w in workers]
    picture.add_trace(
        go.Heatmap(
            x=[f"{p:,}" for p in partitions],
            y=[str(w) for w in workers],
            z=cells,
            text=[[f"{cell:.2f}" for cell in row] for row in cells],
            texttemplate="%{text}",
            colorscale="Blues",
            showscale=False,
        ),
        row=1,
        col=2,
    )
    picture.add_trace(
        go.Scatter(x=opened.time_s, y=opened.rate / RATE_UNIT, name="million events/s that come"), row=2, col=1
    )
    picture.add_trace(
        go.Scatter(x=opened.time_s, y=opened.backlog, name="events not yet visible"), row=2, col=1, secondary_y=True
    )
    picture.add_trace(
        go.Bar(
            x=[load / RATE_UNIT for _, load, _ in limits],
            y=[name for name, _, _ in limits],
            orientation="h",
            showlegend=False,
            text=[f"{load / RATE_UNIT:.3g}" for _, load, _ in limits],
        ),
        row=2,
        col=2,
    )
    picture.update_xaxes(title_text="load, of a million events/s", row=1, col=1)
    picture.update_yaxes(title_text="ms", type="log", row=1, col=1)
    picture.update_xaxes(title_text="seconds", row=2, col=1)
    picture.update_xaxes(type="log", row=2, col=2)
    picture.update_yaxes(autorange="reversed", row=2, col=2)
    picture.update_layout(title=title, template="plotly_white", height=900, width=1_500)
    return picture


def write_page(pictures: list[Any], path: Path) -> None:
    """All pictures in one page that needs no network."""
    parts = [
        one.to_html(full_html=False, include_plotlyjs=number == 0, config={"displaylogo": False})
        for number, one in enumerate(pictures)
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        "<!doctype html><html><head><meta charset='utf-8'><title>Scale</title></head><body>"
        + "".join(parts)
        + "</body></html>",
        encoding="utf-8",
    )
