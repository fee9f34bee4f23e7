"""Fitted features against other estimators of the same model, and against simulated truths."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from tapeline.kernels.estimated.information_share import fit_shares, shares_of
from tapeline.kernels.estimated.micro_price import fit_adjustments
from tapeline.kernels.estimated.pin import fit_pin, log_likelihood

from tests.microstructure.book.estimated_market import (
    CHANGES,
    CLASSES,
    EVERY_CHANGE,
    EVERY_SAMPLE,
    LAGS,
    MICRO,
    PERIODS,
    PIN,
    SAMPLES,
    SHARE,
    SPREADS,
    changes,
    compute,
    features,
    held,
    market,
    periods,
    samples,
)
from tests.microstructure.book.estimated_references import (
    information_shares,
    micro_adjustments,
    pin_log_likelihood,
    pin_maximum,
)
from tests.microstructure.ticks import cut, e_mini


def _fit(buys: np.ndarray, sells: np.ndarray) -> np.ndarray:
    return np.array(fit_pin(np.concatenate([buys, sells, np.zeros(60)]).astype(float), 0, len(buys), 2 * len(buys)))


def _simulate(truth: tuple[float, ...], count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    alpha, delta, mu, rate_b, rate_s = truth
    rng = np.random.default_rng(seed)
    news, bad = rng.random(count) < alpha, rng.random(count) < delta
    return rng.poisson(rate_b + mu * (news & ~bad)), rng.poisson(rate_s + mu * (news & bad))


def _pin(p: np.ndarray) -> float:
    return p[0] * p[2] / (p[0] * p[2] + p[3] + p[4])


@pytest.mark.parametrize("truth", [(0.4, 0.5, 60, 200, 180), (0.25, 0.8, 150, 350, 90), (0.5, 0.3, 2e4, 3e4, 5e4)])
@pytest.mark.parametrize("seed", [1, 2])
def test_pin_is_scipys_maximum(truth: tuple[float, ...], seed: int) -> None:
    """Also where the powers and factorials of the likelihood as first written overflow."""
    buys, sells = _simulate(truth, 60, seed)
    ours, theirs = _fit(buys, sells), pin_maximum(buys, sells)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_pin_is_never_below_scipys_maximum(seed: int) -> None:
    """Few trades and little news: the likelihood is flat, has several tops, and may end at a boundary."""
    rng = np.random.default_rng(seed)
    truth = (rng.uniform(0.05, 0.9), rng.uniform(0, 1), rng.uniform(1, 30), rng.uniform(1, 60), rng.uniform(1, 60))
    buys, sells = _simulate(truth, 40, seed)
    ours = pin_log_likelihood(np.clip(_fit(buys, sells), 1e-300, None), buys, sells)
    theirs = pin_log_likelihood(pin_maximum(buys, sells), buys, sells)
    assert ours >= theirs - 1e-6


def test_pin_is_at_least_as_likely_as_frds_and_agrees_where_that_converged() -> None:
    with (Path(__file__).parent / "fixtures" / "pin.csv").open(encoding="utf-8") as stream:
        assert stream.readline().startswith("# frds 2.4.1")
        histories = list(csv.DictReader(stream))
    assert len(histories) == 4
    close = 0
    for history in histories:
        buys, sells = (np.array(history[name].split(), dtype=float) for name in ("buys", "sells"))
        ours = _fit(buys, sells)
        theirs = np.array([float(history[name]) for name in ("alpha", "delta", "mu", "epsilon_b", "epsilon_s")])
        gain = pin_log_likelihood(ours, buys, sells) - pin_log_likelihood(theirs, buys, sells)
        assert gain >= -1e-9
        if gain < 1e-4:  # L-BFGS-B stops early where the likelihood is flat
            close += 1
            np.testing.assert_allclose(_pin(ours), float(history["pin"]), rtol=2e-3)
    assert close >= 2


def test_pin_recovers_the_truth_within_its_standard_error() -> None:
    truth = np.array([0.4, 0.5, 60.0, 200.0, 180.0])
    fits = np.array([_fit(*_simulate(tuple(truth), 250, seed)) for seed in range(30)])
    errors = fits.std(axis=0, ddof=1) / np.sqrt(len(fits))
    assert (np.abs(fits.mean(axis=0) - truth) < 3 * errors).all()
    assert abs(np.mean([_pin(fit) for fit in fits]) - _pin(truth)) < 0.003


@pytest.mark.parametrize(("buys", "sells"), [(0, 5), (5, 0), (1, 1), (7, 7)])
def test_pin_of_days_that_are_all_alike_is_a_number(buys: int, sells: int) -> None:
    fit = _fit(np.full(20, buys), np.full(20, sells))
    assert np.isfinite(fit).all()
    assert 0.0 <= _pin(fit) <= 1.0
    kept = np.concatenate([np.full(20, buys), np.full(20, sells)]).astype(float)
    assert np.isfinite(log_likelihood(kept, 0, 20, tuple(fit)))


def test_pin_of_the_market_is_that_of_its_last_periods() -> None:
    found = periods(market())
    values = features()[:, PIN]
    ends = [after for _, _, after in found]
    assert np.isnan(values[: ends[PERIODS - 1]]).all()
    for last in range(PERIODS - 1, len(found), 20):
        window = found[last - PERIODS + 1 : last + 1]
        buys, sells = (np.array([entry[i] for entry in window], dtype=float) for i in (0, 1))
        row = values[found[last][2]]
        assert row[6] == 0.0
        np.testing.assert_allclose(row[1:6], _fit(buys, sells), rtol=1e-12)
        np.testing.assert_allclose(row[0], _pin(row[1:6]), rtol=1e-12)
        best = pin_log_likelihood(pin_maximum(buys, sells), buys, sells)
        assert pin_log_likelihood(np.clip(row[1:6], 1e-300, None), buys, sells) >= best - 1e-6
    fitted = np.flatnonzero(values[:, 6] == 0.0)
    assert set(fitted) == set(ends[PERIODS - 1 :])


def test_pin_of_real_trades_is_that_of_the_tick_test() -> None:
    """The E-mini has neither sides nor quotes: an up-tick is a buy, and a trade at the last price is as the one before."""
    columns = cut(e_mini(), slice(0, 20_000))
    values = compute(columns)[0][:, PIN]
    moves = np.sign(np.diff(columns["price"], prepend=columns["price"][0]))
    first = np.flatnonzero(moves)[0]
    signs = np.zeros(len(moves))
    signs[first:] = held(np.where(moves == 0, np.nan, moves))[first:]
    found = periods(columns | {"side": np.where(signs == 0, np.nan, signs)})
    fitted = np.flatnonzero(values[:, 6] == 0.0)
    assert fitted.tolist() == [after for _, _, after in found[PERIODS - 1 :]]
    assert len(fitted) > 30
    for last in range(PERIODS - 1, len(found), 10):
        window = found[last - PERIODS + 1 : last + 1]
        buys, sells = (np.array([entry[i] for entry in window], dtype=float) for i in (0, 1))
        np.testing.assert_allclose(values[found[last][2], 1:6], _fit(buys, sells), rtol=1e-12)


def test_information_share_is_that_of_least_squares() -> None:
    prices, rows = samples(market())
    values = features()[:, SHARE]
    assert np.isnan(values[: rows[SAMPLES - 1]]).all()
    fits = list(range(SAMPLES - 1, len(rows), EVERY_SAMPLE))
    assert len(fits) > 40
    for last in fits:
        expected = information_shares(prices[last - SAMPLES + 1 : last + 1], LAGS)
        np.testing.assert_allclose(values[rows[last], :3], expected, rtol=1e-9, atol=1e-12)
        assert values[rows[last], 3] == 0.0
    assert set(np.flatnonzero(values[:, 3] == 0.0)) == {rows[last] for last in fits}


def _two_markets(speeds: tuple[float, float], spreads: tuple[float, float, float], count: int, seed: int) -> np.ndarray:
    """Two prices that correct their gap at these speeds; innovations with deviations and a correlation."""
    first, second, correlation = spreads
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((count, 2))
    errors = np.column_stack(
        [first * z[:, 0], second * (correlation * z[:, 0] + np.sqrt(1 - correlation**2) * z[:, 1])]
    )
    prices = np.empty((count, 2))
    now = np.array([100.0, 100.0])
    for i in range(count):
        now = now + np.array(speeds) * (now[0] - now[1]) + errors[i]
        prices[i] = now
    return prices


@pytest.mark.parametrize(
    ("speeds", "spreads"),
    [((-0.1, 0.3), (1.0, 2.0, 0.0)), ((-0.02, 0.4), (1.0, 1.0, 0.6)), ((-0.3, 0.05), (0.5, 1.0, -0.3))],
)
def test_information_share_recovers_the_truth(speeds: tuple, spreads: tuple) -> None:
    """From the model's own speeds and covariance; uncorrelated innovations leave no room between the bounds."""
    first, second, correlation = spreads
    truth = shares_of(*speeds, first**2, correlation * first * second, second**2)
    count, lags, fits = 4_000, 1, []
    for seed in range(25):
        prices = _two_markets(speeds, spreads, count, seed)
        state = np.concatenate([prices.T.ravel(), np.zeros(100)])
        fits.append(fit_shares(state, 0, count, count - 1, lags, 2 * count))
    mean, error = np.mean(fits, axis=0), np.std(fits, axis=0, ddof=1) / 5
    assert (np.abs(mean - truth) < 3.5 * error + 1e-3).all()
    assert (truth[2] - truth[1] < 1e-12) == (correlation == 0.0)


def test_micro_price_is_stoikovs_fixed_point() -> None:
    history, rows = changes(market())
    values = features()[:, MICRO]
    assert np.isnan(values[: rows[CHANGES - 1]]).all()
    fits = list(range(CHANGES - 1, len(rows), EVERY_CHANGE))
    assert len(fits) > 10
    compared, leaning = 0, []
    for last, following in zip(fits, [*fits[1:], len(rows)], strict=True):
        table, tick = micro_adjustments(history[last - CHANGES + 1 : last + 1], CLASSES, SPREADS)
        for k in range(last, following):
            kind, bid, ask = history[k]
            expected = table[min(max(round((ask - bid) / tick), 1), SPREADS) - 1, kind]
            np.testing.assert_allclose(values[rows[k], 0], (bid + ask) / 2 + expected, rtol=1e-9)
            np.testing.assert_allclose(values[rows[k], 0] - (bid + ask) / 2, expected, rtol=1e-7, atol=1e-10)
            compared += 1
            leaning.append(np.sign(expected) == np.sign(kind - (CLASSES - 1) / 2))
    assert compared > 1_000
    assert np.mean(leaning) > 0.8  # a longer bid queue means up: the market was made so
    assert set(np.flatnonzero(values[:, 1] == 0.0)) == {rows[last] for last in fits}


def test_micro_price_is_undefined_while_a_side_is_empty() -> None:
    bid, ask = held(market()["bid"]), held(market()["ask"])
    gone = (ask == 0.0) | (bid == 0.0)
    gone[: np.flatnonzero(features()[:, MICRO][:, 1] == 0.0)[0]] = False
    assert gone.sum() > 20
    assert np.isnan(features()[gone, MICRO.start]).all()
    assert not np.isnan(features()[gone, MICRO.start + 1]).any()


def test_micro_price_recovers_the_truth() -> None:
    """A chain whose steps are drawn from known odds: imbalance says how the mid moves, and is drawn anew each time."""
    up = np.array([0.1, 0.3, 0.7, 0.9])  # chance of a tick up rather than down, by class; half of the steps move
    truth = 0.5 * (
        2 * up - 1
    )  # the next class is independent of this one, so nothing follows the first move on average
    count, fits = 8_000, []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        kinds = rng.integers(0, 4, count)
        moves = np.where(rng.random(count) < 0.5, np.where(rng.random(count) < up[kinds], 1, -1), 0)
        bids = 1_000 + np.concatenate([[0], np.cumsum(moves)[:-1]])
        state = np.concatenate([np.column_stack([kinds, bids, bids + 1]).ravel(), np.zeros(20)]).astype(float)
        assert fit_adjustments(state, 0, count, 0, 4, 1, 3 * count) == 1.0
        fits.append(state[3 * count : 3 * count + 2].copy())
    mean, error = np.mean(fits, axis=0), np.std(fits, axis=0, ddof=1) / np.sqrt(len(fits))
    assert (np.abs(mean - truth[:2]) < 3.5 * error).all()
