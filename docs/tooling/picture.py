"""Small SVG pictures: the price above, the feature below, or both in one where the feature is a price."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
from numpy.typing import NDArray
from tapeline.indicators import Indicator

from docs.tooling.market import Series

Floats = NDArray[np.float64]

ROWS, STEP, LEFT, HEIGHT, GAP, TOP = 200, 3, 62, 110, 14, 20
WIDTH = LEFT + ROWS * STEP + 8
PRICE_COLOUR = "#999"
COLOURS = ("#1f6fb4", "#c8501e", "#2b8a3e", "#8a3ea8", "#b48a00")


def picture(indicator: Indicator, series: Series) -> str | None:
    """The picture of a feature; None if it has no value in the data."""
    values = {name: line for name, line in series.values.items() if np.isfinite(line).any()}
    if not values:
        return None
    end = _end(values)
    part = slice(max(end - ROWS, 0), end)
    shown = {name: line[part] for name, line in values.items()}
    price = series.price[part]
    together = _is_price(indicator, shown, price)
    panels = [{"price": price, **shown}] if together else [{"price": price}, shown]
    body = [_panel(lines, TOP + i * (HEIGHT + GAP)) for i, lines in enumerate(panels)]
    height = TOP + len(panels) * (HEIGHT + GAP) + 8
    first, last = series.places[part.start], series.places[end - 1]
    caption = f"{indicator.name}: {series.title}, {first} to {last}"
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="10">',
        f"<title>{escape(caption)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        _legend(shown),
        *body,
        f'<text x="{LEFT}" y="{height - 4}" fill="#555">{first}</text>',
        f'<text x="{WIDTH - 8}" y="{height - 4}" text-anchor="end" fill="#555">{last}</text>',
        "</svg>",
        "",
    ])  # fmt: skip


def _end(values: Mapping[str, Floats]) -> int:
    """The end of the newest rows in which something changes."""
    count = len(next(iter(values.values())))
    changes = np.zeros(count, dtype=bool)
    for line in values.values():
        known = np.nan_to_num(line, nan=np.inf)
        changes[1:] |= (known[1:] != known[:-1]) & np.isfinite(line[1:])
    places = np.flatnonzero(changes)
    return count if not len(places) else int(min(count, max(places[-1] + ROWS // 4, ROWS)))


def _is_price(indicator: Indicator, shown: Mapping[str, Floats], price: Floats) -> bool:
    """Whether the feature lies where the price does."""
    if set(indicator.outputs.values()) != {"price"}:
        return False
    low, high = np.nanmin(price), np.nanmax(price)
    margin = high - low
    return all(
        low - margin <= np.nanmedian(line) <= high + margin for line in shown.values() if np.isfinite(line).any()
    )


def _legend(shown: Mapping[str, Floats]) -> str:
    named = {"price": PRICE_COLOUR} | {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(shown)}
    texts, x = [], LEFT
    for name, colour in named.items():
        texts.append(f'<text x="{x}" y="13" fill="{colour}">{escape(name)}</text>')
        x += 6 * len(name) + 14
    return "".join(texts)


def _panel(lines: Mapping[str, Floats], top: int) -> str:
    finite = np.concatenate([line[np.isfinite(line)] for line in lines.values()])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if high == low:
        low, high = low - 0.5, high + 0.5
    marks = "".join(
        f'<text x="{LEFT - 4}" y="{y}" text-anchor="end" fill="#555">{value:.5g}</text>'
        for value, y in ((high, top + 9), (low, top + HEIGHT))
    )
    frame = f'<rect x="{LEFT}" y="{top}" width="{ROWS * STEP}" height="{HEIGHT}" fill="none" stroke="#ddd"/>'
    zero = ""
    if low < 0.0 < high:
        y = top + HEIGHT * high / (high - low)
        zero = f'<path d="M{LEFT} {y:.1f}h{ROWS * STEP}" stroke="#ddd"/>'
    drawn, colours = [], iter(COLOURS * 3)
    for name, line in lines.items():
        colour = PRICE_COLOUR if name == "price" else next(colours)
        heights = top + HEIGHT * (high - line) / (high - low)
        drawn.append(f'<path d="{_path(heights)}" fill="none" stroke="{colour}"/>')
    return "\n".join([frame + zero + marks, *drawn])


def _path(heights: Floats) -> str:
    """Line through the finite points; a value without finite neighbours is a short dash."""
    parts, drawing = [], False
    for number, height in enumerate(heights):
        if not np.isfinite(height):
            drawing = False
            continue
        x = LEFT + number * STEP
        alone = not drawing and (number + 1 == len(heights) or not np.isfinite(heights[number + 1]))
        parts.append(f"M{x} {height:.1f}h1" if alone else f"{' ' if drawing else 'M'}{x} {height:.1f}")
        drawing = not alone
    return "".join(parts)
