"""The dominant cycle of a price by Hilbert transform (Ehlers 2001, Rocket Science for Traders), and what follows from it.

One chain, :func:`dominant_cycle`, measures the cycle; the rest reads its results. Seeds, clamps and constants are those
of TA-Lib's MAMA and HT_* functions.
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.kernels.primitive import primitive
from tapeline.kernels.rolling import past

State = NDArray[np.float64]

EARLY, LATE = 9, 34
"""Smoothed prices before the chain begins: in TA-Lib's MAMA, HT_DCPERIOD and HT_PHASOR, and in its other functions."""

PERIOD_MAX = 50
_RING = 64  # the power of two above PERIOD_MAX: positions wrap by a mask

# A lane: rings of 8 smoothed prices, 16 detrended ones and 8 quadratures, then these scalars.
_DETREND, _QUADRATURE, _SCALARS, _LANE = 8, 24, 32, 38
_ONE, _TWO, _THREE = np.uint64(1), np.uint64(2), np.uint64(3)
_DEGREES = 45.0 / math.atan(1.0)


def _waves() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sines and cosines of n steps round the circle, row n, for n up to the longest period.

    The steps run back to 0 at the end of four-element blocks, with zeros before the first. They are worked out in
    decimals and rounded once, so that they, and the hash of a plan that reads them, are the same on every machine.
    """
    sines, cosines = np.zeros((PERIOD_MAX + 1, _RING)), np.zeros((PERIOD_MAX + 1, _RING))
    with localcontext(prec=50):
        circle = 2 * Decimal("3.14159265358979323846264338327950288419716939937511")
        for n in range(1, PERIOD_MAX + 1):
            turn = [Decimal(1)]  # the terms of Taylor's series of e^x without their signs
            while turn[-1] > Decimal("1e-50"):
                turn.append(turn[-1] * circle / (n * len(turn)))
            sine_one, cosine_one = sum(turn[1::4]) - sum(turn[3::4]), sum(turn[::4]) - sum(turn[2::4])
            sine_i, cosine_i = Decimal(0), Decimal(1)
            for i in range(n):
                place = ((n + 3) & ~3) - 1 - i
                sines[n, place], cosines[n, place] = float(sine_i), float(cosine_i)
                sine_i, cosine_i = (
                    sine_i * cosine_one + cosine_i * sine_one,
                    cosine_i * cosine_one - sine_i * sine_one,
                )
    return sines, cosines


_SINES, _COSINES = _waves()


@primitive(history=3, delay=3)
def smoothed(state: State, at: int, ring: int, capacity: int, newest: int, x: float) -> float:
    """Ehlers' smoother: weights 4, 3, 2, 1 of the last four values."""
    if newest < 0 or state[ring + 1] < 4.0:
        return math.nan
    one, two, three = (
        past(state, ring, capacity, newest, 1),
        past(state, ring, capacity, newest, 2),
        past(state, ring, capacity, newest, 3),
    )
    return (4.0 * x + 3.0 * one + 2.0 * two + three) * 0.1


@njit(error_model="numpy", forceinline=True)
def _transform(x0: float, x2: float, x4: float, x6: float, gain: float) -> float:
    """Ehlers' seven-tap Hilbert transformer; exactly 0 on equal values."""
    return (0.0962 * x0 - 0.0962 * x6 - 0.5769 * x4 + 0.5769 * x2) * gain


@njit(error_model="numpy", forceinline=True)
def _back(state: State, ring: int, mask: int, now: int, n: int) -> float:
    return state[np.uint64(ring + ((now - n) & mask))]


@njit(error_model="numpy", forceinline=True)
def _advance(state: State, lane: int, now: int, smooth: float) -> tuple[float, float, float]:
    """One row of one lane: in-phase and quadrature component, smoothed period."""
    scalars = lane + _SCALARS
    detrend, quadrature = lane + _DETREND, lane + _QUADRATURE
    last_i, last_q = state[scalars], state[scalars + 1]
    period = state[scalars + 4]
    gain = 0.075 * period + 0.54
    state[lane + (now & 7)] = smooth
    x = _transform(
        smooth, _back(state, lane, 7, now, 2), _back(state, lane, 7, now, 4), _back(state, lane, 7, now, 6), gain
    )
    state[detrend + (now & 15)] = x
    d3, d5 = _back(state, detrend, 15, now, 3), _back(state, detrend, 15, now, 5)
    q = _transform(
        x, _back(state, detrend, 15, now, 2), _back(state, detrend, 15, now, 4), _back(state, detrend, 15, now, 6), gain
    )
    state[quadrature + (now & 7)] = q
    ji = _transform(d3, d5, _back(state, detrend, 15, now, 7), _back(state, detrend, 15, now, 9), gain)
    jq = _transform(
        q,
        _back(state, quadrature, 7, now, 2),
        _back(state, quadrature, 7, now, 4),
        _back(state, quadrature, 7, now, 6),
        gain,
    )
    i2 = 0.2 * (d3 - jq) + 0.8 * last_i
    q2 = 0.2 * (q + ji) + 0.8 * last_q
    real = 0.2 * (i2 * last_i + q2 * last_q) + 0.8 * state[scalars + 2]
    imaginary = 0.2 * (i2 * last_q - q2 * last_i) + 0.8 * state[scalars + 3]
    found = period
    if imaginary != 0.0 and real != 0.0:
        found = 360.0 / (math.atan(imaginary / real) * _DEGREES)
    found = min(50.0, max(6.0, 0.67 * period, min(1.5 * period, found)))
    period = 0.2 * found + 0.8 * period
    smooth_period = 0.33 * period + 0.67 * state[scalars + 5]
    state[scalars], state[scalars + 1], state[scalars + 2], state[scalars + 3] = i2, q2, real, imaginary
    state[scalars + 4], state[scalars + 5] = period, smooth_period
    return d3, q, smooth_period


@njit(error_model="numpy", forceinline=True)
def _same(state: State, one: int, other: int) -> bool:
    equal = True
    for k in range(_LANE):
        equal = equal and state[np.uint64(one + k)] == state[np.uint64(other + k)]
    return equal


@primitive(outputs=4, slots=2 + 2 * _LANE, delay=EARLY)
def dominant_cycle(state: State, at: int, smooth: float) -> tuple[float, float, float, float]:
    """In-phase and quadrature component and period of the dominant cycle; and the period from the later start.

    TA-Lib begins the chain 9 smoothed prices in for some functions and 34 for others. Both beginnings run here, in two
    lanes, until they have forgotten where they began and agree bit for bit; from then on there is one. Slots: rows,
    whether the lanes have met, the lanes.
    """
    if smooth != smooth:
        return math.nan, math.nan, math.nan, math.nan
    count = state[at] + 1.0
    state[at] = count
    if count <= EARLY:
        return math.nan, math.nan, math.nan, math.nan
    now = int(count)
    early, late = at + 2, at + 2 + _LANE
    inphase, quadrature, period = _advance(state, early, now, smooth)
    if state[at + 1] != 0.0:
        return inphase, quadrature, period, period
    if count <= LATE:
        return inphase, quadrature, period, math.nan
    _, _, late_period = _advance(state, late, now, smooth)
    if late_period == period and _same(state, early, late):
        state[at + 1] = 1.0
    return inphase, quadrature, period, late_period


@primitive(outputs=2, slots=3)
def phase_adaptive_means(
    state: State, at: int, x: float, inphase: float, quadrature: float, fast: float, slow: float
) -> tuple[float, float]:
    """MAMA and FAMA: means whose factor is ``fast`` over the phase's change in degrees, but at least ``slow``.

    Ehlers 2001; both begin at 0, as in TA-Lib. Slots: phase, MAMA, FAMA.
    """
    if x != x or inphase != inphase or quadrature != quadrature:
        return math.nan, math.nan
    phase = math.atan(quadrature / inphase) * _DEGREES if inphase != 0.0 else 0.0
    change = max(1.0, state[at] - phase)
    factor = max(slow, fast / change) if change > 1.0 else fast
    mama = factor * x + (1.0 - factor) * state[at + 1]
    factor *= 0.5
    fama = factor * mama + (1.0 - factor) * state[at + 2]
    state[at], state[at + 1], state[at + 2] = phase, mama, fama
    return mama, fama


@primitive(slots=2 + 2 * _RING, delay=LATE - EARLY)
def cycle_phase(state: State, at: int, smooth: float, period: float) -> float:
    """Phase of the dominant cycle in degrees, −45 to 315: that of the discrete Fourier transform at its period.

    Slots: rows, phase, the smoothed prices twice over, so that the newest n always lie side by side.
    """
    if smooth != smooth or period != period:
        return math.nan
    now = int(state[at]) & (_RING - 1)
    state[at] += 1.0
    ring = at + 2
    state[np.uint64(ring + now)] = smooth
    state[np.uint64(ring + now + _RING)] = smooth
    n = int(period + 0.5)
    length = (n + 3) & ~3  # whole blocks of four
    first = ring + now + _RING - length + 1
    real_0 = real_1 = real_2 = real_3 = 0.0  # four sums run side by side, where one would wait for itself
    imaginary_0 = imaginary_1 = imaginary_2 = imaginary_3 = 0.0
    for i in range(0, length, 4):
        j = np.uint64(i)
        k = np.uint64(first + i)
        x_0, x_1, x_2, x_3 = state[k], state[k + _ONE], state[k + _TWO], state[k + _THREE]
        real_0 += _SINES[n, j] * x_0
        real_1 += _SINES[n, j + _ONE] * x_1
        real_2 += _SINES[n, j + _TWO] * x_2
        real_3 += _SINES[n, j + _THREE] * x_3
        imaginary_0 += _COSINES[n, j] * x_0
        imaginary_1 += _COSINES[n, j + _ONE] * x_1
        imaginary_2 += _COSINES[n, j + _TWO] * x_2
        imaginary_3 += _COSINES[n, j + _THREE] * x_3
    real = (real_0 + real_1) + (real_2 + real_3)
    imaginary = (imaginary_0 + imaginary_1) + (imaginary_2 + imaginary_3)
    if imaginary != 0.0:
        phase = math.atan(real / imaginary) * _DEGREES
    else:
        phase = state[at + 1] + (90.0 if real > 0.0 else (-90.0 if real < 0.0 else 0.0))
    phase += 90.0 + 360.0 / period
    if imaginary < 0.0:
        phase += 180.0
    if phase > 315.0:
        phase -= 360.0
    state[at + 1] = phase
    return phase


@primitive(outputs=2)
def sine_waves(phase: float) -> tuple[float, float]:
    """Sine of a phase in degrees, and the sine 45 degrees on."""
    wave, quarter = math.sin(phase / _DEGREES), math.cos(phase / _DEGREES)
    return wave, (wave + quarter) * math.sqrt(0.5)


@primitive(slots=4 + 2 * _RING, delay=LATE - EARLY)
def cycle_trend(state: State, at: int, x: float, period: float) -> float:
    """Ehlers' instantaneous trendline: the mean over one dominant cycle, smoothed with weights 4, 3, 2, 1.

    Prices are kept from the first row on, also while there is no period yet: the first windows reach back to them. Slots:
    rows, the last three means, the prices twice over.
    """
    if x != x:
        return math.nan
    now = int(state[at]) & (_RING - 1)
    state[at] += 1.0
    ring = at + 4
    state[np.uint64(ring + now)] = x
    state[np.uint64(ring + now + _RING)] = x
    if period != period:
        return math.nan
    n = int(period + 0.5)
    first = ring + now + _RING - n + 1
    total_0 = total_1 = total_2 = total_3 = 0.0  # deviations from x, so that equal prices give that price
    for i in range(n & 3):
        total_0 += state[np.uint64(first + i)] - x
    for i in range(n & 3, n, 4):
        k = np.uint64(first + i)
        total_0 += state[k] - x
        total_1 += state[k + _ONE] - x
        total_2 += state[k + _TWO] - x
        total_3 += state[k + _THREE] - x
    mean = x + ((total_0 + total_1) + (total_2 + total_3)) / n if n > 0 else 0.0
    result = (4.0 * mean + 3.0 * state[at + 1] + 2.0 * state[at + 2] + state[at + 3]) / 10.0
    state[at + 3] = state[at + 2]
    state[at + 2] = state[at + 1]
    state[at + 1] = mean
    return result


@primitive(slots=4)
def trend_mode(
    state: State, at: int, smooth: float, period: float, phase: float, wave: float, lead: float, trend: float
) -> float:
    """Ehlers' market mode: 1 in a trend, 0 in a cycle. Slots: phase, sine and leading sine before, rows in the trend.

    A cycle is a recent crossing of the two sines, or a phase that advances at about the cycle's rate; a price 1.5 % off
    the trendline is a trend all the same.
    """
    if smooth != smooth or period != period or phase != phase:
        return math.nan
    if wave != wave or lead != lead or trend != trend:
        return math.nan
    last_phase, last_wave, last_lead, rows = state[at], state[at + 1], state[at + 2], state[at + 3]
    crossed = (wave > lead and last_wave <= last_lead) or (wave < lead and last_wave >= last_lead)
    rows = 1.0 if crossed else rows + 1.0
    state[at], state[at + 1], state[at + 2], state[at + 3] = phase, wave, lead, rows
    turned = phase - last_phase
    cycling = crossed or rows < 0.5 * period or 0.67 * 360.0 / period < turned < 1.5 * 360.0 / period
    far = trend != 0.0 and abs((smooth - trend) / trend) >= 0.015
    return 1.0 if far or not cycling else 0.0
