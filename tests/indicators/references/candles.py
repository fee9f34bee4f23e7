"""Bars in which every candle pattern comes up, with prices in quarters, so that sums and ties are exact anywhere.

TA-Lib keeps running sums, whose rounding depends on where a series began; on quarters there is none, and each pattern
must agree on every row, ties included.
"""

from __future__ import annotations

import numpy as np

from tests.indicators.references.arithmetic import Columns

_TICK = 0.25
_START, _LOW, _HIGH = 4_000, 1_000, 9_000

# Rows that random bars do not form by themselves often enough: (open, high, low, close) in ticks from where they begin,
# after bars of the usual size. Upside down they are the opposite pattern, where there is one.
_USUAL = [(0, 4, -4, 3), (0, 4, -4, -3)] * 6
_RARE = {
    "breakaway": [
        (0, 1, -21, -20),
        (-23, -22, -29, -28),
        (-27, -24, -32, -30),
        (-29, -26, -36, -34),
        (-35, -20, -36, -21),
    ],
    "concealing baby swallow": [(0, 0, -9, -9), (-9, -9, -18, -18), (-21, -15, -28, -27), (-13, -12, -31, -30)],
    "kicking": [(0, 0, -9, -9), (4, 14, 4, 14)],
    "mat hold": [(0, 21, -1, 20), (25, 26, 21, 22), (22, 23, 17, 18), (19, 20, 14, 15), (16, 40, 15, 38)],
    "rising three methods": [(0, 21, -1, 20), (18, 19, 15, 16), (16, 17, 13, 14), (14, 15, 11, 12), (13, 33, 12, 32)],
    "three black crows": [(0, 6, -1, 5), (3, 4, -4, -4), (0, 1, -9, -9), (-5, -4, -14, -14)],
    "three-line strike": [(0, 4, -1, 3), (2, 7, 1, 6), (5, 10, 4, 9), (11, 12, -3, -2)],
    "three stars in the south": [(0, 1, -30, -14), (-6, -6, -22, -11), (-12, -12, -13, -13)],
    "two crows": [(0, 21, -1, 20), (28, 29, 23, 24), (26, 27, 9, 12)],
    "unique three river": [(0, 1, -21, -20), (-4, -3, -26, -10), (-20, -17, -21, -18)],
    "upside gap two crows": [(0, 21, -1, 20), (26, 27, 23, 24), (28, 29, 21, 22)],
}


def _bar(rng: np.random.Generator, price: int, turn: float, run: int) -> tuple[int, int, int, int, int]:
    """A random bar about a price: open, high, low, close, and the colour's direction."""
    direction = -run if rng.random() < turn else run
    body = int(rng.choice([0, 0, 1, 2, 3, 4, 6, 8, 10, 16, 20]))
    start = price + int(rng.choice([0, 0, 0, 0, 1, -1, 2, -2, 5, -5, 12, -12, 20, -20]))
    end = start + direction * body
    above, below = (int(shadow) for shadow in rng.choice([0, 0, 0, 1, 2, 3, 5, 8, 12], 2))
    return start, max(start, end) + above, min(start, end) - below, end, direction


def bars(count: int, seed: int) -> Columns:
    """Random bars that revisit earlier prices, run in one colour, and now and then form a rare pattern or nearly so."""
    rng = np.random.default_rng(seed)
    turn = float(rng.choice([0.2, 0.5]))
    rows: list[tuple[int, int, int, int]] = []
    price, direction = _START, 1
    while len(rows) < count:
        if not _LOW < price < _HIGH:
            price = _START
        if rng.random() < 0.02:
            shape = _RARE[str(rng.choice(sorted(_RARE)))]
            mirror = int(rng.choice([1, -1]))
            for offsets in [*_USUAL, *shape]:
                start, high, low, end = (price + mirror * x for x in offsets)
                if rng.random() < 0.1:
                    end += int(rng.choice([1, -1]))
                rows.append((start, max(start, end, high, low), min(start, end, high, low), end))
            price = rows[-1][3]
            continue
        start, high, low, end, direction = _bar(rng, price, turn, direction)
        rows.append((start, high, low, end))
        earlier = rows[-int(rng.integers(1, min(4, len(rows)) + 1))]
        price = int(rng.choice(earlier)) if rng.random() < 0.25 else end
    table = np.array(rows[:count], dtype=np.float64).T * _TICK
    return dict(zip(("open", "high", "low", "close"), table, strict=True))
