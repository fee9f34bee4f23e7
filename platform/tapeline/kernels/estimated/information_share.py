"""Hasbrouck's information share of two prices of one thing, from a vector error correction model.

``Δp_t = c + a·(p₁ − p₂)_{t−1} + Σ Γ_i Δp_{t−i} + e_t`` with the cointegrating vector known to be (1, −1). All prices follow
one random walk in the long run, whose innovation is ψ′e with ψ orthogonal to a (up to a factor that does not matter: Engle &
Granger's representation; Hasbrouck 1995, de Jong 2002). The share of a price is its part of the variance ψ′Ωψ; as the
innovations correlate, a Cholesky factor of Ω gives that to whichever comes first, so both orders are taken.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.kernels.estimated.linear import solve
from tapeline.kernels.primitive import primitive

State = NDArray[np.float64]

# samples seen, since the fit, fitted, age, middle share, lower, upper, price (held), whether it is known, bid, ask
_HEADER = 11


@njit(error_model="numpy", forceinline=True)
def _regressors(lags: int) -> int:
    return 1 + 2 * lags


def _slots(samples: int, lags: int, _every: int) -> int:
    k = _regressors.py_func(lags)
    return _HEADER + 2 * samples + 2 * (k + 2) + k * (k + 2) + 3


@njit(error_model="numpy", forceinline=True)
def _price(state: State, at: int, samples: int, newest: int, ago: int, which: int) -> float:
    place = newest - ago
    if place < 0:
        place += samples
    return state[at + which * samples + place]


@njit(error_model="numpy")
def _observe(state: State, at: int, samples: int, newest: int, ago: int, lags: int, into: int) -> None:
    """Write one row of the regressions: the gap, the lagged changes of both prices, then the changes to explain."""
    state[into] = _price(state, at, samples, newest, ago + 1, 0) - _price(state, at, samples, newest, ago + 1, 1)
    for which in range(2):
        for lag in range(lags + 1):
            change = _price(state, at, samples, newest, ago + lag, which) - _price(
                state, at, samples, newest, ago + lag + 1, which
            )
            place = 1 + 2 * lags + which if lag == 0 else which * lags + lag
            state[into + place] = change


@njit(error_model="numpy", cache=True)
def fit_shares(state: State, at: int, samples: int, newest: int, lags: int, scratch: int) -> tuple[float, float, float]:
    """Share of the first price, in the middle of its bounds, and the bounds; NaN if the prices do not determine it.

    Parameters
    ----------
    state, at
        From slot ``at`` on a ring of so many first prices, then one of second prices.
    samples, newest
        Their number, and the position of the newest.
    lags
        Lagged changes of each price.
    scratch
        ``2(k+2) + k(k+2) + 3`` slots that may be overwritten, k = 1 + 2·lags.
    """
    k = _regressors(lags)
    width = k + 2
    row, mean, system = scratch, scratch + width, scratch + 2 * width
    residual = system + k * width
    state[scratch : residual + 3] = 0.0
    count = samples - lags - 1
    for ago in range(count):
        _observe(state, at, samples, newest, ago, lags, row)
        for i in range(width):
            state[mean + i] += state[row + i] / count
    for ago in range(count):
        _observe(state, at, samples, newest, ago, lags, row)
        for i in range(width):
            state[row + i] -= state[mean + i]
        for i in range(k):
            for j in range(i, width):
                state[system + i * width + j] += state[row + i] * state[row + j]
    for i in range(1, k):
        for j in range(i):
            state[system + i * width + j] = state[system + j * width + i]
    if not solve(state, system, k, 2):
        return math.nan, math.nan, math.nan
    # The residuals are formed anew: their covariance as a difference of sums would lose digits.
    for ago in range(count):
        _observe(state, at, samples, newest, ago, lags, row)
        first, second = state[row + k] - state[mean + k], state[row + k + 1] - state[mean + k + 1]
        for i in range(k):
            x = state[row + i] - state[mean + i]
            first -= x * state[system + i * width + k]
            second -= x * state[system + i * width + k + 1]
        state[residual] += first * first
        state[residual + 1] += first * second
        state[residual + 2] += second * second
    return shares_of(
        state[system + k], state[system + k + 1], state[residual], state[residual + 1], state[residual + 2]
    )


@njit(error_model="numpy")
def shares_of(
    speed_first: float, speed_second: float, first: float, both: float, second: float
) -> tuple[float, float, float]:
    """Middle, lower and upper share of the first price, from the speeds of adjustment and the residuals' covariance."""
    weight, other = speed_second, -speed_first
    variance = weight * weight * first + 2.0 * weight * other * both + other * other * second
    if not (variance > 0.0 and first > 0.0 and second > 0.0):
        return math.nan, math.nan, math.nan
    leading = (weight * first + other * both) ** 2 / first / variance
    following = weight * weight * max(first - both * both / second, 0.0) / variance
    return 0.5 * (leading + following), min(leading, following), max(leading, following)


@primitive(outputs=4, slots=_slots)
def information_share(
    state: State, at: int, usable: float, price: float, bid: float, ask: float, samples: int, lags: int, every: int
) -> tuple[float, float, float, float]:
    """Information share of trade prices against the mid (middle, lower, upper) over the last samples, and the fit's age.

    A row is a sample if it carries a trade or moves a quote, once both prices are known and the book is neither empty nor
    crossed; a row without a trade has the last one's price. Fitted every so many samples once the window is full.
    ``usable`` is NaN where the row is not to count; the quotes are current ones.
    """
    if usable == usable:
        state[at + 3] += 1.0
        if price == price:
            state[at + 7] = price
            state[at + 8] = 1.0
        if (
            0.0 < bid <= ask
            and state[at + 8] != 0.0
            and (price == price or bid != state[at + 9] or ask != state[at + 10])
        ):
            state[at + 9] = bid
            state[at + 10] = ask
            newest = int(state[at]) % samples
            state[at + _HEADER + newest] = state[at + 7]
            state[at + _HEADER + samples + newest] = bid + 0.5 * (ask - bid)
            state[at] += 1.0
            state[at + 1] += 1.0
            if state[at] >= samples and (state[at + 1] >= every or state[at + 2] == 0.0):
                state[at + 4], state[at + 5], state[at + 6] = fit_shares(
                    state, at + _HEADER, samples, newest, lags, at + _HEADER + 2 * samples
                )
                state[at + 1] = 0.0
                state[at + 2] = 1.0
                state[at + 3] = 0.0
    if state[at + 2] == 0.0:
        return math.nan, math.nan, math.nan, math.nan
    return state[at + 4], state[at + 5], state[at + 6], state[at + 3]
