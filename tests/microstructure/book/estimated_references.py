"""The same estimates by other means: scipy's optimisers, numpy's least squares, Stoikov's own iteration."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, root
from scipy.special import logsumexp
from scipy.stats import poisson

Floats = NDArray[np.float64]


def pin_components(p: Floats, buys: Floats, sells: Floats) -> Floats:
    """Log of probability times likelihood, (3, days): no news, good, bad. p: α, δ, μ, ε_b, ε_s."""
    alpha, delta, mu, rate_b, rate_s = p
    with np.errstate(divide="ignore"):
        chances = np.log([1 - alpha, alpha * (1 - delta), alpha * delta])
    rates_b, rates_s = (rate_b, rate_b + mu, rate_b), (rate_s, rate_s, rate_s + mu)
    return np.array([
        chance + poisson.logpmf(buys, b) + poisson.logpmf(sells, s)
        for chance, b, s in zip(chances, rates_b, rates_s, strict=True)
    ])  # fmt: skip


def pin_log_likelihood(p: Floats, buys: Floats, sells: Floats) -> float:
    """With all constants."""
    return float(logsumexp(pin_components(p, buys, sells), axis=0).sum())


def _scores(p: Floats, buys: Floats, sells: Floats) -> Floats:
    """Gradient: each component's, weighted by what it probably was (Fisher's identity)."""
    alpha, delta, mu, rate_b, rate_s = p
    parts = pin_components(p, buys, sells)
    none, good, bad = np.exp(parts - logsumexp(parts, axis=0))
    up_b, up_s = good * (buys / (rate_b + mu) - 1), bad * (sells / (rate_s + mu) - 1)
    return np.array([
        ((good + bad) / alpha - none / (1 - alpha)).sum(),
        (bad / delta - good / (1 - delta)).sum(),
        (up_b + up_s).sum(),
        (up_b + (1 - good) * (buys / rate_b - 1)).sum(),
        (up_s + (1 - bad) * (sells / rate_s - 1)).sum(),
    ])  # fmt: skip


def pin_maximum(buys: Floats, sells: Floats) -> Floats:
    """The best of many starts by L-BFGS-B; where it is inside, then the root of the gradient."""
    best, value = None, np.inf
    for alpha in (0.2, 0.5, 0.8):
        for delta in (0.2, 0.5, 0.8):
            for part in (0.3, 0.7):
                mu = (1 - part) * (buys.mean() + sells.mean()) / alpha
                start = np.array([alpha, delta, mu, part * buys.mean(), part * sells.mean()]) + 1e-3
                found = minimize(
                    lambda p: -pin_log_likelihood(p, buys, sells),
                    start,
                    jac=lambda p: -_scores(p, buys, sells),
                    bounds=[(1e-9, 1 - 1e-9)] * 2 + [(1e-9, None)] * 3,
                    method="L-BFGS-B",
                )
                if found.fun < value:
                    best, value = found.x, found.fun
    assert best is not None
    if not ((best[:2] > 1e-3) & (best[:2] < 1 - 1e-3)).all():
        return best  # at a boundary the gradient has no root
    with np.errstate(all="ignore"):
        polished = root(lambda p: _scores(p, buys, sells), best, method="hybr", options={"xtol": 1e-14}).x
    return polished if np.abs(polished / best - 1).max() < 1e-2 else best


def information_shares(prices: Floats, lags: int) -> tuple[float, float, float]:
    """Middle, lower and upper share of the first column, by least squares with an intercept and numpy's Cholesky."""
    moves = np.diff(prices, axis=0)
    rows = np.arange(lags, len(moves))
    gap = (prices[:, 0] - prices[:, 1])[rows]
    x = np.column_stack([np.ones(len(rows)), gap, *(moves[rows - lag] for lag in range(1, lags + 1))])
    coefficients, *_ = np.linalg.lstsq(x, moves[rows], rcond=None)
    errors = moves[rows] - x @ coefficients
    omega = errors.T @ errors / len(rows)
    speeds = coefficients[1]
    psi = np.array([speeds[1], -speeds[0]])
    total = psi @ omega @ psi
    leading = (psi @ np.linalg.cholesky(omega))[0] ** 2 / total
    swapped = omega[::-1, ::-1]
    following = (psi[::-1] @ np.linalg.cholesky(swapped))[1] ** 2 / total
    return (leading + following) / 2, min(leading, following), max(leading, following)


def micro_adjustments(history: list[tuple[int, float, float]], classes: int, spreads: int) -> tuple[Floats, float]:
    """G* of each (spread, class) by Stoikov's own way, (spreads, classes), NaN where never left; and the tick.

    Q, R and T from the steps and their mirrors, G¹ = (I−Q)⁻¹ R K, B = (I−Q)⁻¹ T, and G* as the sum of Bⁱ G¹.
    """
    tick = min(ask - bid for _, bid, ask in history)
    states = [(min(max(round((ask - bid) / tick), 1), spreads) - 1, kind) for kind, bid, ask in history]
    mids = [(bid + ask) / 2 for _, bid, ask in history]
    size = spreads * classes
    stay, move, gain = np.zeros((size, size)), np.zeros((size, size)), np.zeros(size)
    for i in range(len(history) - 1):
        change = mids[i + 1] - mids[i]
        for sign in (1, -1):
            a, b = (s * classes + (k if sign > 0 else classes - 1 - k) for s, k in (states[i], states[i + 1]))
            (move if change else stay)[a, b] += 1
            gain[a] += sign * change
    left = (stay + move).sum(axis=1)
    known = left > 0
    per = 1 / np.where(known, left, 1)
    q, t, r = stay * per[:, None], move * per[:, None], gain * per
    inverse = np.linalg.inv(np.eye(size) - q)
    first, b = inverse @ r, inverse @ t
    total, term = first.copy(), first
    for _ in range(200_000):
        term = b @ term
        total += term
        if np.abs(term).max() < 1e-14 * tick:
            break
    return np.where(known, total, np.nan).reshape(spreads, classes), tick
