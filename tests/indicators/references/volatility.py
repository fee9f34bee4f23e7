"""References of the volatility."""

from __future__ import annotations

import numpy as np

from tests.indicators.references.arithmetic import Array, Columns, Formula, before, mean, total, windows


def _donchian(c: Columns) -> list[Array]:
    top = windows(c["high"], 20, lambda w: w.max(axis=-1))
    bottom = windows(c["low"], 20, lambda w: w.min(axis=-1))
    return [top, (top + bottom) / 2, bottom]


def _garman_klass(c: Columns) -> list[Array]:
    daily = 0.5 * np.log(c["high"] / c["low"]) ** 2 - (2 * np.log(2) - 1) * np.log(c["close"] / c["open"]) ** 2
    return [np.sqrt(mean(daily, 20))]


FORMULAS: dict[str, Formula] = {
    "DONCHIAN": _donchian,
    "PARKINSON": lambda c: [np.sqrt(mean(np.log(c["high"] / c["low"]) ** 2, 20) / (4 * np.log(2)))],
    "GARMAN_KLASS": _garman_klass,
    "REALIZED_VOL": lambda c: [np.sqrt(total(np.log(c["close"] / before(c["close"], 1)) ** 2, 20))],
}

RECURSIVE = {"ATR", "NATR"}
