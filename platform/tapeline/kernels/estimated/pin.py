"""Probability of informed trading: a mixture of three Poisson days, fitted by maximum likelihood.

On a day without news buys come at rate ε_b and sells at ε_s; on a day with good news, of probability α(1−δ), buys come at
ε_b+μ; on one with bad news, αδ, sells at ε_s+μ (Easley, Kiefer, O'Hara & Paperman 1996, with two rates as in Easley,
Hvidkjaer & O'Hara 2002). The days' likelihoods are compared as logarithms and the largest factored out, which is the
factorisation of Lin & Ke 2011: no power or factorial is ever formed, and no number of trades overflows.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.kernels.primitive import primitive

State = NDArray[np.float64]
Parameters = tuple[float, float, float, float, float]  # α, δ, μ, ε_b, ε_s

_HEADER = 14  # started, period, buys, sells, periods seen, since the fit, fitted, age, α, δ, μ, ε_b, ε_s, PIN
_SCRATCH = 30  # gradient, negative Hessian

STARTS = 5
START_STEPS = 6
STEPS_MAX = 500
CONVERGED = 1e-13


@njit(error_model="numpy", forceinline=True)
def _times_log(count: float, rate: float) -> float:
    """Count · log(rate), 0 where nothing was counted."""
    return count * math.log(rate) if count > 0.0 else 0.0


@njit(error_model="numpy")
def _weights(buys: float, sells: float, p: Parameters) -> tuple[float, float, float, float]:
    """Probabilities of no, good and bad news on a day, and its log likelihood (without the factorials)."""
    alpha, delta, mu, rate_b, rate_s = p
    buys_none, sells_none = _times_log(buys, rate_b), _times_log(sells, rate_s)
    none = (math.log(1.0 - alpha) if alpha < 1.0 else -math.inf) + buys_none + sells_none
    informed = (math.log(alpha) if alpha > 0.0 else -math.inf) - mu
    good = informed + (math.log(1.0 - delta) if delta < 1.0 else -math.inf) + _times_log(buys, rate_b + mu) + sells_none
    bad = informed + (math.log(delta) if delta > 0.0 else -math.inf) + buys_none + _times_log(sells, rate_s + mu)
    largest = max(none, good, bad)
    none, good, bad = math.exp(none - largest), math.exp(good - largest), math.exp(bad - largest)
    total = none + good + bad
    return none / total, good / total, bad / total, largest + math.log(total) - rate_b - rate_s


@njit(error_model="numpy")
def log_likelihood(state: State, at: int, n: int, p: Parameters) -> float:
    """Of n periods, whose buys and then sells are kept from ``at`` on; without the factorials."""
    total = 0.0
    for i in range(n):
        total += _weights(state[at + i], state[at + n + i], p)[3]
    return total


@njit(error_model="numpy")
def _expectation_step(state: State, at: int, n: int, p: Parameters) -> Parameters:
    """One step of expectation–maximisation; what is hidden is each day's news and which of its trades were informed."""
    _, delta, mu, rate_b, rate_s = p
    days_good, days_bad, informed_b, informed_s, buys, sells = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        _, good, bad, _ = _weights(state[at + i], state[at + n + i], p)
        days_good += good
        days_bad += bad
        informed_b += good * state[at + i]
        informed_s += bad * state[at + n + i]
        buys += state[at + i]
        sells += state[at + n + i]
    informed_b *= mu / (rate_b + mu) if mu > 0.0 else 0.0
    informed_s *= mu / (rate_s + mu) if mu > 0.0 else 0.0
    days = days_good + days_bad
    if days > 0.0:
        delta = days_bad / days
        mu = (informed_b + informed_s) / days
    return days / n, delta, mu, (buys - informed_b) / n, (sells - informed_s) / n


@njit(error_model="numpy")
def _add_component(
    state: State, at: int, weight: float, g0: float, g1: float, g2: float, g3: float, g4: float,
    h0: float, h1: float, h22: float, h23: float, h24: float, h33: float, h44: float,
) -> None:  # fmt: skip
    """Add a component's part: its gradient g, and the negative of its Hessian h + g gᵀ, weighted."""
    gradient = (g0, g1, g2, g3, g4)
    for i in range(5):
        state[at + i] += weight * gradient[i]
        for j in range(5):
            state[at + 5 + 5 * i + j] -= weight * gradient[i] * gradient[j]
    state[at + 5] -= weight * h0
    state[at + 5 + 6] -= weight * h1
    state[at + 5 + 12] -= weight * h22
    state[at + 5 + 13] -= weight * h23
    state[at + 5 + 14] -= weight * h24
    state[at + 5 + 17] -= weight * h23
    state[at + 5 + 22] -= weight * h24
    state[at + 5 + 18] -= weight * h33
    state[at + 5 + 24] -= weight * h44


@njit(error_model="numpy")
def _differentiate(state: State, at: int, n: int, scratch: int, p: Parameters) -> None:
    """Write the log likelihood's gradient and negative Hessian into the scratch slots."""
    alpha, delta, mu, rate_b, rate_s = p
    state[scratch : scratch + _SCRATCH] = 0.0
    day = scratch + _SCRATCH
    for i in range(n):
        buys, sells = state[at + i], state[at + n + i]
        none, good, bad, _ = _weights(buys, sells, p)
        raised_b, raised_s = rate_b + mu, rate_s + mu
        b, s = buys / rate_b - 1.0, sells / rate_s - 1.0
        b2, s2 = -buys / rate_b / rate_b, -sells / rate_s / rate_s
        up_b, up_s = buys / raised_b - 1.0, sells / raised_s - 1.0
        up_b2, up_s2 = -buys / raised_b / raised_b, -sells / raised_s / raised_s
        rest, kept, share = 1.0 - alpha, 1.0 - delta, 1.0 / alpha
        state[day : day + _SCRATCH] = 0.0
        _add_component(state, day, none, -1.0 / rest, 0.0, 0.0, b, s, -1.0 / rest / rest, 0.0, 0.0, 0.0, 0.0, b2, s2)
        _add_component(
            state, day, good, share, -1.0 / kept, up_b, up_b, s,
            -share * share, -1.0 / kept / kept, up_b2, up_b2, 0.0, up_b2, s2,
        )  # fmt: skip
        _add_component(
            state, day, bad, share, 1.0 / delta, up_s, b, up_s,
            -share * share, -1.0 / delta / delta, up_s2, 0.0, up_s2, b2, up_s2,
        )  # fmt: skip
        for j in range(5):
            state[scratch + j] += state[day + j]
            for k in range(5):
                state[scratch + 5 + 5 * j + k] += state[day + 5 + 5 * j + k] + state[day + j] * state[day + k]


@njit(error_model="numpy")
def _newton_step(state: State, at: int, n: int, scratch: int, p: Parameters) -> tuple[bool, Parameters]:
    """Newton's step, by Cholesky; False if the likelihood is not concave here or the step leaves the domain."""
    if not (0.0 < p[0] < 1.0 and 0.0 < p[1] < 1.0 and p[2] > 0.0 and p[3] > 0.0 and p[4] > 0.0):
        return False, p
    _differentiate(state, at, n, scratch, p)
    matrix = scratch + 5
    for j in range(5):
        diagonal = state[matrix + 6 * j]
        pivot = diagonal
        for k in range(j):
            pivot -= state[matrix + 5 * j + k] ** 2
        if not pivot > 1e-14 * diagonal:
            return False, p
        state[matrix + 6 * j] = math.sqrt(pivot)
        for i in range(j + 1, 5):
            x = state[matrix + 5 * i + j]
            for k in range(j):
                x -= state[matrix + 5 * i + k] * state[matrix + 5 * j + k]
            state[matrix + 5 * i + j] = x / state[matrix + 6 * j]
    for i in range(5):
        for k in range(i):
            state[scratch + i] -= state[matrix + 5 * i + k] * state[scratch + k]
        state[scratch + i] /= state[matrix + 6 * i]
    for i in range(4, -1, -1):
        for k in range(i + 1, 5):
            state[scratch + i] -= state[matrix + 5 * k + i] * state[scratch + k]
        state[scratch + i] /= state[matrix + 6 * i]
    moved = (
        p[0] + state[scratch], p[1] + state[scratch + 1], p[2] + state[scratch + 2], p[3] + state[scratch + 3],
        p[4] + state[scratch + 4],
    )  # fmt: skip
    inside = 0.0 < moved[0] < 1.0 and 0.0 < moved[1] < 1.0 and moved[2] > 0.0 and moved[3] > 0.0 and moved[4] > 0.0
    return inside, moved


@njit(error_model="numpy")
def _distance(p: Parameters, q: Parameters) -> float:
    """The largest change of a parameter, relative for the rates."""
    rates = max(abs(p[2] - q[2]), abs(p[3] - q[3]), abs(p[4] - q[4])) / (p[2] + p[3] + p[4])
    return max(abs(p[0] - q[0]), abs(p[1] - q[1]), rates)


@njit(error_model="numpy")
def _best_start(state: State, at: int, n: int) -> Parameters:
    """The best of a grid after a few steps each: Yan & Zhang 2012, from the buys and, mirrored, from the sells."""
    buys, sells = 0.0, 0.0
    for i in range(n):
        buys += state[at + i] / n
        sells += state[at + n + i] / n
    best, best_value = (0.5, 0.5, 0.5 * (buys + sells), 0.5 * buys, 0.5 * sells), -math.inf
    for number in range(2 * STARTS**3):
        alpha = (2 * (number // 2 % STARTS) + 1) / (2.0 * STARTS)
        delta = (2 * (number // 2 // STARTS % STARTS) + 1) / (2.0 * STARTS)
        part = (2 * (number // 2 // STARTS // STARTS) + 1) / (2.0 * STARTS)
        if number % 2 == 0:
            mu = (1.0 - part) * buys / (alpha * (1.0 - delta))
            p = (alpha, delta, mu, part * buys, sells - alpha * delta * mu)
        else:
            mu = (1.0 - part) * sells / (alpha * delta)
            p = (alpha, delta, mu, buys - alpha * (1.0 - delta) * mu, part * sells)
        if not (p[3] > 0.0 and p[4] > 0.0):
            continue
        for _ in range(START_STEPS):
            p = _expectation_step(state, at, n, p)
        value = log_likelihood(state, at, n, p)
        if value > best_value:
            best, best_value = p, value
    return best


@njit(error_model="numpy", cache=True)
def fit_pin(state: State, at: int, n: int, scratch: int) -> Parameters:
    """Maximum likelihood over n periods: Newton's steps where they climb, steps of expectation–maximisation elsewhere.

    Parameters
    ----------
    state, at
        Buys of n periods from slot ``at`` on, then their sells.
    scratch
        60 slots that may be overwritten.

    Returns
    -------
    tuple
        α, δ, μ, ε_b, ε_s.
    """
    p = _best_start(state, at, n)
    value = log_likelihood(state, at, n, p)
    for _ in range(STEPS_MAX):
        climbs, moved = _newton_step(state, at, n, scratch, p)
        if climbs:
            reached = log_likelihood(state, at, n, moved)
            climbs = reached >= value - 1e-13 * abs(value)
        if not climbs:
            moved = _expectation_step(state, at, n, p)
            reached = log_likelihood(state, at, n, moved)
        close = _distance(p, moved) < CONVERGED
        p, value = moved, reached
        if close:
            break
    return p


@primitive(outputs=7, slots=lambda periods, _width, _every: _HEADER + 2 * periods + 2 * _SCRATCH)
def informed_trading(
    state: State, at: int, time: float, sign: float, periods: int, width_s: int, every: int
) -> tuple[float, float, float, float, float, float, float]:
    """PIN, α, δ, μ, ε_b, ε_s of the last periods with trades, and the fit's age in rows.

    A period is a multiple of ``width_s`` seconds since the epoch. When one with trades is over, the first row after it
    enters it; every so many of them the model is fitted. ``sign`` is NaN where nothing was traded, ``time`` where the row
    is not to count.
    """
    if time == time:
        period = math.floor(time / (1e6 * width_s))
        state[at + 7] += 1.0
        if state[at] != 0.0 and period != state[at + 1]:
            if state[at + 2] + state[at + 3] > 0.0:
                first = at + _HEADER
                for i in range(first, first + 2 * periods - 1):  # oldest first, so that equal windows have equal sums
                    state[i] = state[i + 1]
                state[first + periods - 1] = state[at + 2]
                state[first + 2 * periods - 1] = state[at + 3]
                state[at + 4] += 1.0
                state[at + 5] += 1.0
                state[at + 2] = 0.0
                state[at + 3] = 0.0
            if state[at + 4] >= periods and (state[at + 5] >= every or state[at + 6] == 0.0):
                p = fit_pin(state, at + _HEADER, periods, at + _HEADER + 2 * periods)
                for i in range(5):
                    state[at + 8 + i] = p[i]
                informed = p[0] * p[2]
                state[at + 13] = informed / (informed + p[3] + p[4])
                state[at + 5] = 0.0
                state[at + 6] = 1.0
                state[at + 7] = 0.0
        state[at] = 1.0
        state[at + 1] = period
        if sign > 0.0:
            state[at + 2] += 1.0
        elif sign < 0.0:
            state[at + 3] += 1.0
    if state[at + 6] == 0.0:
        return math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan
    return (
        state[at + 13], state[at + 8], state[at + 9], state[at + 10], state[at + 11], state[at + 12], state[at + 7],
    )  # fmt: skip
