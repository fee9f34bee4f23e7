"""Oscillators and volume indicators on coarse bars: equal closes, equal volumes, empty ranges, rows without volume."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import talib
from tapeline.indicators import Indicator

from tests.indicators.market import INDICATORS, Columns, compute, everything, positions
from tests.indicators.references import expected
from tests.indicators.references.arithmetic import Array, windows

UNLIKE = {
    "STOCHRSI": "where the RSI stands still, TA-Lib divides one rounding by another; here its range is empty",
    "EMV": "talipp divides by zero in a row without volume; here it has no value and leaves no trace",
    "RVOL": "TA-Lib says infinity where there was no volume before",
}
COMPARED = [
    indicator
    for indicator in INDICATORS
    if indicator.group in {"oscillators", "volume"}
    and indicator.oracle in {"TA-Lib", "talipp"}
    and indicator.name not in UNLIKE
]


@cache
def _bars() -> Columns:
    """800 bars on five prices and four volumes; a fifth of them repeat the bar before, twice for longer than any window."""
    rng = np.random.default_rng(13)
    count = 800
    edges = np.sort(rng.integers(8, 13, (count, 2)), axis=1).astype(float)
    body = rng.integers(edges[:, :1], edges[:, 1:] + 1, (count, 2)).astype(float)
    bars = np.column_stack([body[:, 0], edges[:, 1], edges[:, 0], body[:, 1], rng.integers(0, 4, count)])
    bars[600, 4] = 0.0
    for i in range(1, count):
        if rng.random() < 0.2 or 300 < i < 400 or 600 < i < 700:
            bars[i] = bars[i - 1]
    names = ("open", "high", "low", "close", "volume")
    return dict(zip(names, bars.T.copy(), strict=True)) | {"session": np.zeros(count)}


@cache
def _features() -> Array:
    return compute(everything(), _bars())


@pytest.mark.parametrize("indicator", COMPARED, ids=lambda indicator: indicator.name)
def test_ties_and_empty_ranges_are_as_the_oracle_has_them(indicator: Indicator) -> None:
    for position, reference in zip(positions(indicator), expected(indicator, _bars()), strict=True):
        ours = _features()[:, position]
        known = ~np.isnan(reference)
        assert np.array_equal(~np.isnan(ours), known)
        np.testing.assert_allclose(ours[known], reference[known], rtol=1e-9, atol=1e-9 * np.abs(reference[known]).max())


def test_stochrsi_differs_from_talib_only_where_the_rsi_stands_still() -> None:
    strength = talib.RSI(_bars()["close"], 14)
    moved = windows(strength, 5, lambda w: np.ptp(w, axis=-1)) > 1e-9
    ours = _features()[:, everything().outputs.index("stochrsi_k_14_5_3")]
    reference = talib.STOCHRSI(_bars()["close"])[0]
    known = ~np.isnan(reference)
    np.testing.assert_allclose(ours[known & moved], reference[known & moved], rtol=1e-9, atol=1e-6)
    assert (ours[known & ~moved] == 0).all()
    assert 100 < (known & ~moved).sum() < 300


def test_relative_volume_is_undefined_where_talib_divides_by_zero() -> None:
    reference = talib.RVOL(_bars()["volume"], 20)
    ours = _features()[:, everything().outputs.index("rvol_20")]
    finite = np.isfinite(reference)
    np.testing.assert_allclose(ours[finite], reference[finite], rtol=1e-9)
    assert np.isinf(reference).sum() == 2
    assert np.isnan(ours[~finite]).all()


def _place(x: Array, i: int, n: int, otherwise: float) -> float:
    window = x[i - n + 1 : i + 1]
    return (x[i] - window.min()) / np.ptp(window) if np.ptp(window) > 0 else otherwise


def test_fisher_takes_an_empty_range_for_its_middle() -> None:
    middle = (_bars()["high"] + _bars()["low"]) / 2
    fisher = _features()[:, everything().outputs.index("fisher_10")]
    value = transform = 0.0
    for i in range(9, len(middle)):
        value = 0.66 * (_place(middle, i, 10, 0.5) - 0.5) + 0.67 * value
        value = 0.999 if value > 0.99 else -0.999 if value < -0.99 else value
        transform = np.arctanh(value) + 0.5 * transform
        assert fisher[i] == pytest.approx(transform, rel=1e-9, abs=1e-12)


def test_stc_is_the_published_recursion() -> None:
    def cycle(x: Array) -> Array:
        smooth, held, started = np.full(len(x), np.nan), 0.0, False
        for i in range(int(np.isnan(x).sum()) + 9, len(x)):
            held = 100 * _place(x, i, 10, held / 100)
            smooth[i] = smooth[i - 1] + 0.5 * (held - smooth[i - 1]) if started else held
            started = True
        return smooth

    close = _bars()["close"]
    reference = cycle(cycle(talib.EMA(close, 23) - talib.EMA(close, 50)))
    stc = _features()[:, everything().outputs.index("stc_23_50_10")]
    np.testing.assert_allclose(stc, reference, rtol=1e-9, atol=1e-7)


def test_the_bars_hold_every_kind_of_tie() -> None:
    bars = _bars()
    for name in ("close", "volume"):
        assert (np.diff(bars[name]) == 0).sum() > 300
    assert (bars["high"] == bars["low"]).sum() > 50
    assert (bars["volume"] == 0).sum() > 50
