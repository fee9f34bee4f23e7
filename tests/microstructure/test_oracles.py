"""Every feature over ticks against an independent definition, after many histories: real trades and a simulated book."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.indicators import Indicator

from tests.microstructure.references import REFERENCES
from tests.microstructure.tape import tape_of
from tests.microstructure.ticks import (
    INDICATORS,
    START_US,
    Columns,
    compute,
    e_mini,
    everything,
    market,
    market_features,
    parameters_of,
    positions,
)

each = pytest.mark.parametrize("indicator", INDICATORS, ids=lambda indicator: indicator.name)

FROM_TRADES = {
    "TICK_RULE", "ROLL_SPREAD", "TRADE_IMBALANCE", "SIGN_AUTOCORRELATION", "KYLE_LAMBDA", "HASBROUCK_LAMBDA", "VPIN", "BVC",
    "REALIZED_VARIANCE", "BIPOWER_VARIATION", "JUMP_VARIATION", "TWO_SCALE_VARIANCE", "REALIZED_KERNEL", "VARIANCE_RATIO",
}  # fmt: skip
"""Features that need prices and sizes of trades only, and so have values on the real trades."""


def _agrees(indicator: Indicator, results: np.ndarray, columns: Columns, rows: np.ndarray) -> None:
    """To 1e-9 of the value, or of a typical value where it crosses zero and the oracle itself cancels."""
    tape = tape_of(columns)
    reference, parameters = REFERENCES[indicator.name], parameters_of(indicator)
    expected = np.array([reference(tape.until(row), parameters) for row in rows.tolist()])
    assert expected.shape == (len(rows), len(indicator.outputs))
    compared = 0
    for position, theirs in zip(positions(indicator), expected.T, strict=True):
        ours = results[rows, position]
        warm = ~np.isnan(ours)
        # What is not known must be so for the oracle too, but for windows that are not full: there it takes what there is.
        np.testing.assert_array_equal(warm[-len(rows) // 2 :], ~np.isnan(theirs[-len(rows) // 2 :]))
        typical = np.nanmedian(np.abs(theirs))
        np.testing.assert_allclose(ours[warm], theirs[warm], rtol=1e-9, atol=1e-9 * typical)
        compared += int(warm.sum())
    assert compared >= 0.8 * len(rows) * len(indicator.outputs)


@each
def test_agrees_with_its_oracle_on_the_simulated_book(indicator: Indicator) -> None:
    rows = np.unique(np.random.default_rng(3).integers(300, len(market()["time"]), 120))
    _agrees(indicator, market_features(), market(), rows)


@pytest.mark.parametrize("name", sorted(FROM_TRADES))
def test_agrees_with_its_oracle_on_real_trades(name: str) -> None:
    indicator = next(i for i in INDICATORS if i.name == name)
    rows = np.unique(np.random.default_rng(4).integers(600, len(e_mini()["time"]), 60))
    _agrees(indicator, _e_mini_features(), e_mini(), rows)


@cache
def _e_mini_features() -> np.ndarray:
    return compute(everything(), e_mini())


def test_no_feature_is_without_an_oracle() -> None:
    assert set(REFERENCES) == {indicator.name for indicator in INDICATORS}
    assert {"TICK_RULE", "KYLE_LAMBDA", "VPIN"} <= FROM_TRADES <= set(REFERENCES)


def test_signs_are_those_of_tclf() -> None:
    """All rows but locked books, where tclf's CLNV depends on the rounding of 0.7 a + 0.3 a."""
    with (Path(__file__).parent / "fixtures" / "signs.csv").open(encoding="utf-8") as stream:
        assert stream.readline().startswith("# tclf 0.4.0")
        table = {name: np.array(values) for name, values in _columns(csv.DictReader(stream)).items()}
    count = len(table["price"])
    columns = {name: np.full(2 * count, np.nan) for name in market()}
    columns["time"] = START_US + np.arange(2 * count, dtype=np.float64)
    columns["bid"][::2], columns["ask"][::2], columns["price"][1::2] = table["bid"], table["ask"], table["price"]
    names = ("TICK_RULE", "LEE_READY", "EMO", "CLNV")
    results = compute(FeaturePlan.of([FeatureRequest(name) for name in names]), columns)[1::2]
    locked = table["bid"] == table["ask"]
    assert locked.sum() > 100
    for name, ours in zip(names, results.T, strict=True):
        theirs = table[name.lower()]
        same = (ours == theirs) | (locked & (theirs == 0.0)) if name == "CLNV" else ours == theirs
        assert same.all(), name


def _columns(rows: csv.DictReader) -> dict[str, list[float]]:
    columns: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(float(value))
    return columns
