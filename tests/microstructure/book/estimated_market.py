"""One plan of all fitted features with short windows, a market to run it over, and the windows as plain Python sees them."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from tapeline.features import FeaturePlan, FeatureRequest, sample_rows
from tapeline.indicators import TICK_INPUTS

Floats = NDArray[np.float64]
Columns = dict[str, Floats]

START_US = 1_378_000_000_000_000
PERIODS, PERIOD_S = 20, 60
SAMPLES, LAGS, EVERY_SAMPLE = 250, 3, 40
CHANGES, CLASSES, SPREADS, EVERY_CHANGE = 400, 6, 2, 60

REQUESTS = (
    FeatureRequest.of("PIN", periods=PERIODS, period_s=PERIOD_S),
    FeatureRequest.of("INFORMATION_SHARE", samples=SAMPLES, lags=LAGS, every=EVERY_SAMPLE),
    FeatureRequest.of("MICRO_PRICE", samples=CHANGES, classes=CLASSES, spreads=SPREADS, every=EVERY_CHANGE),
)
PIN, SHARE, MICRO = slice(0, 7), slice(7, 11), slice(11, 13)


@cache
def plan() -> FeaturePlan:
    """All fitted features."""
    return FeaturePlan.of(REQUESTS)


def empty(count: int) -> Columns:
    """Ticks, a second apart, that carry nothing yet."""
    columns = {name: np.full(count, np.nan) for name in TICK_INPUTS}
    columns["time"] = START_US + 1e6 * np.arange(count)
    return columns


@cache
def market(count: int = 4_000, seed: int = 11) -> Columns:
    """Quotes whose imbalance tells the next move, trades with sides that follow news, and silent periods."""
    rng = np.random.default_rng(seed)
    columns = empty(count)
    columns["time"] = START_US + np.cumsum(
        rng.choice([1e3, 4e5, 1e6, 3e6, 2e8], count, p=[0.3, 0.3, 0.2, 0.195, 0.005])
    )
    news = rng.choice([-0.4, 0.0, 0.0, 0.4], count // 40 + 1).repeat(40)[:count]
    bid, width, share = 800, 1, 0.5
    for i in range(count):
        if rng.random() < 0.4 and i > 0:
            buy = rng.random() < 0.5 + news[i]
            columns["price"][i] = (bid + width if buy else bid) / 8
            columns["size"][i] = 1.0
            columns["side"][i] = 1.0 if buy else -1.0
            continue
        if rng.random() < 0.3:
            bid += 1 if rng.random() < share else -1
            width = int(rng.choice([1, 1, 2, 3]))
        share = rng.random()
        columns["bid"][i], columns["ask"][i] = bid / 8, (bid + width) / 8
        columns["bid_size"][i] = np.ceil(200 * share)
        columns["ask_size"][i] = np.ceil(200 * (1 - share))
        if rng.random() < 0.1 and i > 0:
            columns["ask"][i] = columns["ask_size"][i] = np.nan if rng.random() < 0.5 else 0.0
    return columns


def rows_of(columns: Columns) -> Floats:
    """The plan's row columns; no splits unless the columns say so."""
    return sample_rows.rows_of(plan().inputs, columns)


def compute(columns: Columns, states: Floats | None = None, first: int = 0) -> tuple[Floats, Floats]:
    """Batch over one symbol: features, and the state as it ends."""
    at = columns["time"].astype(np.int64)
    features, ends = plan().batch(at, first + np.arange(len(at)), at, rows_of(columns), np.array([0, len(at)]), states)
    return features, ends


@cache
def features() -> Floats:
    """Everything over the market; not to be changed."""
    values, _ = compute(market())
    values.setflags(write=False)
    return values


def held(values: Floats) -> Floats:
    """Each value, or the last one carried before."""
    last = np.maximum.accumulate(np.where(np.isnan(values), -1, np.arange(len(values))))
    return np.where(last >= 0, values[last], np.nan)


def mids(columns: Columns) -> Floats:
    """The mid after each row; NaN while a side is empty or the book is crossed."""
    bid, ask = held(columns["bid"]), held(columns["ask"])
    return np.where((bid > 0) & (bid <= ask), (bid + ask) / 2, np.nan)


def periods(columns: Columns) -> list[tuple[int, int, int]]:
    """(buys, sells, row after it) of each finished period with trades."""
    number = columns["time"] // (1e6 * PERIOD_S)
    found = []
    for period in np.unique(number):
        inside = number == period
        buys, sells = int((columns["side"][inside] == 1).sum()), int((columns["side"][inside] == -1).sum())
        after = int(np.flatnonzero(inside)[-1]) + 1
        if buys + sells and after < len(number):
            found.append((buys, sells, after))
    return found


def samples(columns: Columns) -> tuple[Floats, list[int]]:
    """(last price, mid) at each sample of the information share, and its row."""
    mid, price = mids(columns), held(columns["price"])
    quotes = list(zip(held(columns["bid"]).tolist(), held(columns["ask"]).tolist(), strict=True))
    found, rows, last = [], [], (0.0, 0.0)
    for i in range(len(mid)):
        if np.isnan(mid[i]) or np.isnan(price[i]):
            continue
        if not np.isnan(columns["price"][i]) or quotes[i] != last:
            found.append((price[i], mid[i]))
            rows.append(i)
            last = quotes[i]
    return np.array(found), rows


def changes(columns: Columns) -> tuple[list[tuple[int, float, float]], list[int]]:
    """(class, bid, ask) at each change of the micro-price's state, and its row."""
    bid, ask, bid_size, ask_size = (held(columns[name]) for name in ("bid", "ask", "bid_size", "ask_size"))
    found: list[tuple[int, float, float]] = []
    rows = []
    for i in range(len(bid)):
        if not 0 < bid[i] < ask[i] or not bid_size[i] + ask_size[i] > 0:
            continue
        kind = min(int(bid_size[i] / (bid_size[i] + ask_size[i]) * CLASSES), CLASSES - 1)
        if not found or found[-1] != (kind, bid[i], ask[i]):
            found.append((kind, bid[i], ask[i]))
            rows.append(i)
    return found, rows
