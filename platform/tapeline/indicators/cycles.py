"""Trend and cycle by Hilbert transform: all read one chain, which a plan computes once."""

from __future__ import annotations

from tapeline.indicators.expression import Expression, apply, outcomes
from tapeline.indicators.specification import indicator
from tapeline.kernels.hilbert import (
    cycle_phase,
    cycle_trend,
    dominant_cycle,
    phase_adaptive_means,
    sine_waves,
    smoothed,
    trend_mode,
)
from tapeline.kernels.sequence import withheld

_EHLERS = "Ehlers 2001, Rocket Science for Traders; TA-Lib"


def phase_adaptive(x: Expression, fast: float, slow: float) -> tuple[Expression, Expression]:
    """Ehlers' MAMA and FAMA."""
    inphase, quadrature, _, _ = outcomes(dominant_cycle, apply(smoothed, x))
    mama, fama = outcomes(phase_adaptive_means, x, inphase, quadrature, fast, slow)
    return apply(withheld, mama, 20), apply(withheld, fama, 20)


def _late_period(x: Expression) -> Expression:
    return outcomes(dominant_cycle, apply(smoothed, x))[3]


def _phase(x: Expression) -> Expression:
    return apply(cycle_phase, apply(smoothed, x), _late_period(x))


@indicator("HT_TRENDLINE", group="trend", outputs={"ht_trendline": "price"}, source=f"{_EHLERS} TA_HT_TRENDLINE")
def ht_trendline(close: Expression) -> Expression:
    """Instantaneous trendline: the mean over one dominant cycle."""
    return apply(withheld, apply(cycle_trend, close, _late_period(close)), 26)


@indicator("HT_TRENDMODE", group="trend", outputs={"ht_trendmode": "flag"}, source=f"{_EHLERS} TA_HT_TRENDMODE")
def ht_trendmode(close: Expression) -> Expression:
    """1 in a trend, 0 in a cycle."""
    phase, period = _phase(close), _late_period(close)
    trend = apply(cycle_trend, close, period)
    wave, lead = outcomes(sine_waves, phase)
    return apply(withheld, apply(trend_mode, apply(smoothed, close), period, phase, wave, lead, trend), 26)


@indicator("HT_DCPERIOD", group="trend", outputs={"ht_dcperiod": "rows"}, source=f"{_EHLERS} TA_HT_DCPERIOD")
def ht_dcperiod(close: Expression) -> Expression:
    """Period of the dominant cycle, 6 to 50 rows."""
    return apply(withheld, outcomes(dominant_cycle, apply(smoothed, close))[2], 20)


@indicator("HT_DCPHASE", group="trend", outputs={"ht_dcphase": "degrees"}, source=f"{_EHLERS} TA_HT_DCPHASE")
def ht_dcphase(close: Expression) -> Expression:
    """Phase of the dominant cycle, −45° to 315°."""
    return apply(withheld, _phase(close), 26)


@indicator(
    "HT_PHASOR",
    group="trend",
    outputs={"ht_phasor_inphase": "price", "ht_phasor_quadrature": "price"},
    source=f"{_EHLERS} TA_HT_PHASOR",
)
def ht_phasor(close: Expression) -> tuple[Expression, ...]:
    """In-phase and quadrature component of the detrended price."""
    inphase, quadrature, _, _ = outcomes(dominant_cycle, apply(smoothed, close))
    return apply(withheld, inphase, 20), apply(withheld, quadrature, 20)


@indicator(
    "HT_SINE",
    group="trend",
    outputs={"ht_sine": "ratio", "ht_leadsine": "ratio"},
    source=f"{_EHLERS} TA_HT_SINE",
)
def ht_sine(close: Expression) -> tuple[Expression, ...]:
    """Sine of the dominant cycle's phase, and the sine 45° ahead, which crosses it before a turn."""
    wave, lead = outcomes(sine_waves, _phase(close))
    return apply(withheld, wave, 26), apply(withheld, lead, 26)
