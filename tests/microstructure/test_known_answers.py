"""Simulated processes with known parameters: each estimator finds its own within the standard error of the simulations."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.indicators import TICK_INPUTS

from tests.indicators.market import compute as compute_bars
from tests.microstructure.ticks import START_US, Columns, compute

RUNS = 40


def _trades(price: NDArray[np.float64], **others: NDArray[np.float64]) -> Columns:
    """One trade a second."""
    columns = {name: np.full(len(price), np.nan) for name in TICK_INPUTS}
    columns["time"] = START_US + 1e6 * np.arange(len(price))
    return columns | {"price": price, "size": np.ones(len(price))} | others


@cache
def _plan(*requests: FeatureRequest) -> FeaturePlan:
    return FeaturePlan.of(requests)


def _last(request: FeatureRequest, columns: Columns) -> float:
    return float(compute(_plan(request), columns)[-1, 0])


def _is_mean(samples: list[float], truth: float) -> None:
    """Within three standard errors of the samples' mean, which themselves are small beside the truth."""
    error = float(np.std(samples, ddof=1)) / math.sqrt(len(samples))
    assert error < 0.05 * abs(truth)
    assert abs(np.mean(samples) - truth) < 3 * error


def test_rolls_spread() -> None:
    """Roll 1984: a random walk with a bounce of half the spread."""
    request, found = FeatureRequest.of("ROLL_SPREAD", window=4_000), []
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        value = 100 + np.cumsum(rng.normal(0, 0.02, 4_001))
        found.append(_last(request, _trades(value + 0.05 * rng.choice([-1, 1], 4_001))))
    _is_mean(found, 0.10)


def test_kyles_lambda() -> None:
    """Kyle 1985: the price moves by λ times the signed size, and by news."""
    request, found = FeatureRequest.of("KYLE_LAMBDA", window=2_000), []
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        side, size = rng.choice([-1.0, 1.0], 2_001), rng.integers(1, 100, 2_001).astype(np.float64)
        price = 1_000 + np.cumsum(2e-4 * side * size + rng.normal(0, 0.02, 2_001))
        found.append(_last(request, _trades(price, side=side, size=size)))
    _is_mean(found, 2e-4)


def test_hasbroucks_lambda() -> None:
    """Hasbrouck 2009: the logarithm of the price moves by λ times the signed root of the money."""
    request, found = FeatureRequest.of("HASBROUCK_LAMBDA", interval_s=20.0, window=200), []
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        side, size = rng.choice([-1.0, 1.0], 5_000), rng.integers(1, 100, 5_000).astype(np.float64)
        price, value = np.empty(5_000), 50.0
        news = rng.normal(0, 1e-4, 5_000)
        for i in range(5_000):
            value *= math.exp(2e-6 * side[i] * math.sqrt(value * size[i]) + news[i])
            price[i] = value
        found.append(_last(request, _trades(price, side=side, size=size)))
    _is_mean(found, 2e-6)


def test_signs_that_persist() -> None:
    """Signs that repeat with probability 0.8 have autocorrelations of 0.6, 0.36, …"""
    found = []
    request = FeatureRequest.of("SIGN_AUTOCORRELATION", lags=2, window=4_000)
    for seed in range(RUNS):
        turns = np.random.default_rng(seed).random(4_000) < 0.2
        found.append(_last(request, _trades(np.full(4_000, 9.0), side=np.cumprod(np.where(turns, -1.0, 1.0)))))
    _is_mean(found, 0.36)


def test_vpin_of_normal_changes() -> None:
    """E|2Φ(Z) − 1| is 1/2."""
    request, found = FeatureRequest.of("VPIN", bucket_size=7.0, window=2_000), []
    for seed in range(RUNS):
        price = 1e4 + np.cumsum(np.random.default_rng(seed).normal(0, 1, 2_001))
        found.append(_last(request, _trades(price, size=np.full(2_001, 7.0))))
    _is_mean(found, 0.5)


@pytest.mark.parametrize("q", [2, 10])
def test_the_variance_ratio_of_a_random_walk(q: int) -> None:
    request = FeatureRequest.of("VARIANCE_RATIO", q=q, window=2_000)
    walks = (np.cumsum(np.random.default_rng(seed).normal(0, 1e-3, 2_001)) for seed in range(RUNS))
    _is_mean([_last(request, _trades(np.exp(walk))) for walk in walks], 1.0)


def test_noise_misleads_realised_variance_and_neither_two_scales_nor_the_kernel() -> None:
    """Noise as large as a trade's own move: Zhang, Mykland & Aït-Sahalia 2005."""
    steps, move = 4_000, 1e-4
    truth = steps * move**2
    requests = [
        FeatureRequest.of("REALIZED_VARIANCE", window=steps),
        FeatureRequest.of("TWO_SCALE_VARIANCE", scale=30, window=steps),
        FeatureRequest.of("REALIZED_KERNEL", lags=60, window=steps),
    ]
    found: list[NDArray[np.float64]] = []
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        logarithm = np.cumsum(rng.normal(0, move, steps + 1)) + rng.normal(0, move, steps + 1)
        found.append(compute(_plan(*requests), _trades(np.exp(logarithm)))[-1])
    plain, two_scales, kernel = np.array(found).T
    assert np.mean(plain) == pytest.approx(3 * truth, rel=0.02)
    _is_mean(two_scales.tolist(), truth)
    _is_mean(kernel.tolist(), truth)


def test_a_jump_is_told_from_the_rest() -> None:
    request, found = FeatureRequest.of("JUMP_VARIATION", window=4_000), []
    for seed in range(RUNS):
        moves = np.random.default_rng(seed).normal(0, 1e-4, 4_001)
        moves[2_000] += 0.02
        found.append(_last(request, _trades(np.exp(np.cumsum(moves)))))
    # The jump's neighbours bring π/2·0.02·(|r₋|+|r₊|) into the bipower variation.
    _is_mean(found, 0.02**2 - math.pi / 2 * 0.02 * 2 * 1e-4 * math.sqrt(2 / math.pi))


def _bars(seed: int, days: int, spread: float) -> Columns:
    """Days of 390 trades at a spread around a random walk."""
    rng = np.random.default_rng(seed)
    value = np.cumsum(rng.normal(0, 0.01 / math.sqrt(390), days * 390))
    price = np.exp(value + 0.5 * spread * rng.choice([-1, 1], days * 390)).reshape(days, 390) * 50
    return {
        "open": price[:, 0], "high": price.max(axis=1), "low": price.min(axis=1), "close": price[:, -1],
        "volume": np.ones(days), "session": np.zeros(days),
    }  # fmt: skip


def test_spreads_from_bars() -> None:
    """EDGE and Abdi and Ranaldo's are unbiased in the square; Corwin and Schultz's is biased where few trades make a bar."""
    plan = FeaturePlan.of([FeatureRequest.of(name, window=250) for name in ("EDGE", "ABDI_RANALDO", "CORWIN_SCHULTZ")])
    found = np.array([compute_bars(plan, _bars(seed, 250, 0.02))[-1] for seed in range(RUNS)])
    _is_mean((found[:, 0] ** 2).tolist(), 0.02**2)
    _is_mean((found[:, 1] ** 2).tolist(), 0.02**2)
    assert np.mean(found[:, 2]) == pytest.approx(0.02, rel=0.15)
