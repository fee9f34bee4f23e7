"""A lineage drawn with plotly: one file of HTML that needs nothing else."""

from __future__ import annotations

import html as markup
import tempfile
from pathlib import Path
from typing import Any

from tapeline.core.errors import LimitError, MissingExtraError, ParameterError
from tapeline.lineage.graph import Key
from tapeline.lineage.layout import Box, Layout, lay_out
from tapeline.lineage.reading import Lineage

NODES_MAX = 5_000

_BOX, _GAP, _HEIGHT, _SPACING = 176, 72, 34, 48
_MARGIN, _HEAD = 28, 108
_LISTED_MAX = 24
_LETTERS_MAX = 27
_FILL = {
    "source": "#e7f5ea", "calendar": "#e7f5ea", "table": "#d9efdf", "column": "#c9e8d2", "kernel": "#fdf1d3",
    "feature": "#dcecfb", "view": "#cfe0f7", "service": "#d8d9f6", "dataset": "#e4daf6", "model": "#f5dbee",
    "deployment": "#f9e0e3", "prediction": "#fbd9cf",
}  # fmt: skip
_BORDER = {
    "source": "#5aa874", "calendar": "#5aa874", "table": "#4b9a67", "column": "#3b8a58", "kernel": "#c99a2e",
    "feature": "#4a8ecb", "view": "#3f74b8", "service": "#6466bf", "dataset": "#8660bd", "model": "#b45a9c",
    "deployment": "#c4616d", "prediction": "#cc6442",
}  # fmt: skip
_LEGEND = (
    "solid: comes from   ·   dotted: decides which rows count, their order or their times   ·   dashed: labels"
    "   ·   point at a box to see what is in it"
)
_PLURAL = {"dataset": "data sets", "dataset_one": "data set"}


def write_picture(found: Lineage, file: Path) -> tuple[int, int]:
    """Draw a lineage into a self-contained HTML file, whole or not at all.

    Parameters
    ----------
    found
        The lineage. Nodes of a kind that lie between the same others share a box once there are many.
    file
        The file; replaced if it is there.

    Returns
    -------
    tuple
        How many boxes were drawn, and of how many nodes.

    Raises
    ------
    MissingExtraError
        If plotly is not installed.
    LimitError
        If there are more than 5,000 nodes.
    ParameterError
        If the file cannot be written.
    """
    try:
        import plotly.graph_objects as plotly
    except ImportError:
        raise MissingExtraError("plotly", "lineage") from None
    if len(found.nodes) > NODES_MAX:
        raise LimitError(
            f"the picture would have {len(found.nodes)} nodes, more than {NODES_MAX}",
            where=str(found.start),
            remedy="Give a smaller --depth, or one direction",
        )
    layout = lay_out(found.start, found.nodes, found.edges)
    figure = plotly.Figure(_scene(found, layout))
    text = figure.to_html(include_plotlyjs=True, full_html=True, config={"displayModeBar": False, "scrollZoom": True})
    try:
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=".lineage-") as folder:
            (Path(folder) / "picture.html").write_text(text, encoding="utf-8")
            (Path(folder) / "picture.html").replace(file)
    except OSError as error:
        raise ParameterError(f"the picture cannot be written: {error.strerror}", where=str(file)) from None
    return sum(bool(box.nodes) for box in layout.boxes), len(found.nodes)


def _scene(found: Lineage, layout: Layout) -> dict[str, Any]:
    """The figure as plotly's data: pixels are units, y downwards."""
    layers = 1 + max(box.layer for box in layout.boxes)
    counts = [sum(box.layer == layer for box in layout.boxes) for layer in range(layers)]
    width = 2 * _MARGIN + layers * _BOX + (layers - 1) * _GAP
    height = _HEAD + max(counts) * _SPACING + _MARGIN

    def middle(box: Box) -> tuple[float, float]:
        left = _MARGIN + box.layer * (_BOX + _GAP)
        free = (max(counts) - counts[box.layer]) * _SPACING / 2
        return left + _BOX / 2, _HEAD + free + (box.row + 0.5) * _SPACING

    places = [middle(box) for box in layout.boxes]
    shapes = [_curve(places[a], places[b], roles) for (a, b), roles in sorted(layout.joins.items())]
    drawn = [(box, place) for box, place in zip(layout.boxes, places, strict=True) if box.nodes]
    shapes += [_lane(place, layout, number) for number, place in enumerate(places) if not layout.boxes[number].nodes]
    shapes += [_frame(box, place, found.start in box.nodes) for box, place in drawn]
    notes = [_note(box, place) for box, place in drawn]
    return {
        "data": [_hover(found, drawn)],
        "layout": {
            "width": max(width, 640), "height": height, "template": "none", "paper_bgcolor": "white",
            "plot_bgcolor": "white", "showlegend": False, "hovermode": "closest", "dragmode": "pan",
            "margin": {"l": 0, "r": 0, "t": 0, "b": 0}, "shapes": shapes,
            "annotations": [*notes, *_headings(found, layout, layers)],
            "hoverlabel": {"bgcolor": "white", "align": "left", "font": {"size": 12, "color": "#222"}},
            "xaxis": {"range": [0, max(width, 640)], "visible": False},
            "yaxis": {"range": [height, 0], "visible": False},
        },
    }  # fmt: skip


def _curve(start: tuple[float, float], end: tuple[float, float], roles: frozenset[str]) -> dict[str, Any]:
    """An edge from the right side of one box to the left side of another, or around within a layer."""
    x0, y0, x1, y1 = start[0] + _BOX / 2, start[1], end[0] - _BOX / 2, end[1]
    bend = max(_GAP / 2, (x1 - x0) * 0.45)
    return {
        "type": "path", "layer": "below", "line": _line(roles),
        "path": f"M {x0:.0f},{y0:.0f} C {x0 + bend:.0f},{y0:.0f} {x1 - bend:.0f},{y1:.0f} {x1:.0f},{y1:.0f}",
    }  # fmt: skip


def _lane(place: tuple[float, float], layout: Layout, number: int) -> dict[str, Any]:
    """Edges on their way past a layer."""
    roles = frozenset().union(*(each for ends, each in layout.joins.items() if ends[1] == number))
    path = f"M {place[0] - _BOX / 2:.0f},{place[1]:.0f} L {place[0] + _BOX / 2:.0f},{place[1]:.0f}"
    return {"type": "path", "layer": "below", "line": _line(roles), "path": path}


def _line(roles: frozenset[str]) -> dict[str, Any]:
    colour, dash = "#9aa5b1", "solid"
    if roles <= {"indirect"}:
        colour, dash = "#c2c9d1", "dot"
    elif roles <= {"label"}:
        colour, dash = "#d79a5b", "dash"
    elif roles <= {"succeeded"}:
        colour, dash = "#b45a9c", "dot"
    return {"color": colour, "width": 1.2, "dash": dash}


def _frame(box: Box, place: tuple[float, float], is_start: bool) -> dict[str, Any]:
    kind = box.nodes[0].kind
    left, right = place[0] - _BOX / 2, place[0] + _BOX / 2
    top, bottom, r = place[1] - _HEIGHT / 2, place[1] + _HEIGHT / 2, 7
    path = (
        f"M {left + r},{top} L {right - r},{top} Q {right},{top} {right},{top + r} L {right},{bottom - r}"
        f" Q {right},{bottom} {right - r},{bottom} L {left + r},{bottom} Q {left},{bottom} {left},{bottom - r}"
        f" L {left},{top + r} Q {left},{top} {left + r},{top} Z"
    )
    line = {"color": "#1f2933" if is_start else _BORDER[kind], "width": 2.6 if is_start else 1.2}
    return {"type": "path", "layer": "between", "path": path, "fillcolor": _FILL[kind], "line": line}


def _note(box: Box, place: tuple[float, float]) -> dict[str, Any]:
    kind = box.nodes[0].kind
    first = f"{len(box.nodes)} {_plural(kind)}" if len(box.nodes) > 1 else _short(box.nodes[0])
    second = ", ".join(_short(key) for key in box.nodes[:3]) if len(box.nodes) > 1 else _PLURAL.get(f"{kind}_one", kind)
    text = f"<b>{_fitted(first)}</b><br><span style='font-size:9px;color:#52606d'>{_fitted(second, 34)}</span>"
    return {
        "x": place[0], "y": place[1], "text": text, "showarrow": False, "align": "center",
        "font": {"size": 11, "color": "#1f2933", "family": "Helvetica, Arial, sans-serif"},
    }  # fmt: skip


def _hover(found: Lineage, drawn: list[tuple[Box, tuple[float, float]]]) -> dict[str, Any]:
    """Invisible points along each box, which tell what is in it."""
    x, y, texts = [], [], []
    for box, place in drawn:
        for part in (-0.35, 0.0, 0.35):
            x.append(place[0] + part * _BOX)
            y.append(place[1])
            texts.append(_told(found, box))
    return {
        "type": "scatter", "x": x, "y": y, "mode": "markers", "hovertemplate": "%{text}<extra></extra>", "text": texts,
        "marker": {"size": _HEIGHT, "opacity": 0},
    }  # fmt: skip


def _told(found: Lineage, box: Box) -> str:
    if len(box.nodes) > 1:
        lines = [markup.escape(key.name) for key in box.nodes[:_LISTED_MAX]]
        rest = len(box.nodes) - len(lines)
        return "<br>".join(
            [f"<b>{len(box.nodes)} {_plural(box.nodes[0].kind)}</b>", *lines, *([f"… {rest} more"] if rest else [])]
        )
    key = box.nodes[0]
    lines = [f"<b>{markup.escape(key.name)}</b>"]
    for name, value in found.attributes.get(key, {}).items():
        if value not in (None, {}, []):
            text = (
                ", ".join(map(str, value[:6])) + (" …" if len(value) > 6 else "")
                if isinstance(value, list)
                else str(value)
            )
            lines.append(f"{markup.escape(name)}: {markup.escape(text[:90])}")
    return "<br>".join(lines)


def _headings(found: Lineage, layout: Layout, layers: int) -> list[dict[str, Any]]:
    """The title, and over each layer what is in it."""
    title = f"Lineage of <b>{markup.escape(str(found.start)[:90])}</b>"
    notes = [
        {
            "x": _MARGIN, "y": 26, "text": title, "showarrow": False, "xanchor": "left",
            "font": {"size": 18, "color": "#1f2933", "family": "Helvetica, Arial, sans-serif"},
        },
        {
            "x": _MARGIN, "y": 50, "text": _LEGEND, "showarrow": False, "xanchor": "left",
            "font": {"size": 11, "color": "#7b8794", "family": "Helvetica, Arial, sans-serif"},
        },
    ]  # fmt: skip
    for layer in range(layers):
        kinds = dict.fromkeys(_plural(box.nodes[0].kind) for box in layout.boxes if box.layer == layer and box.nodes)
        notes.append(
            {
                "x": _MARGIN + layer * (_BOX + _GAP) + _BOX / 2, "y": 86, "text": _fitted(", ".join(kinds), 32),
                "showarrow": False, "font": {"size": 11, "color": "#7b8794", "family": "Helvetica, Arial, sans-serif"},
            }
        )  # fmt: skip
    return notes


def _short(key: Key) -> str:
    """A node's name without what its neighbours say already."""
    match key.kind:
        case "feature":
            return key.name.partition(":")[2]
        case "kernel":
            return key.name.partition("/")[2]
        case "service":
            return key.name.partition("#")[0]
        case "dataset":
            return key.name[:16]
        case _:
            return key.name


def _plural(kind: str) -> str:
    return _PLURAL.get(kind, f"{kind}s")


def _fitted(text: str, letters: int = _LETTERS_MAX) -> str:
    return markup.escape(text if len(text) <= letters else f"{text[: letters - 1]}…")
