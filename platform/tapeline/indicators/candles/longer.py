"""Patterns of four and five candles, and those that later candles confirm."""

from __future__ import annotations

from tapeline.indicators.candles.candle import (
    NEAR,
    SHADOW_VERY_SHORT,
    Candle,
    Candles,
    black,
    bullish,
    either_way,
    falling,
    pattern,
    rising,
    white,
)
from tapeline.indicators.expression import Expression, apply, every
from tapeline.kernels.arithmetic import larger
from tapeline.kernels.sequence import confirmed

_CONFIRMED_WITHIN = 3
"""Candles after a hikkake that may confirm it."""


@pattern("CDLBREAKAWAY")
def breakaway(candles: Candles) -> Expression:
    """Breakaway: a gap, two more candles its way, then one of the other colour back into it, whose sign it has."""
    first, second, third, fourth, fifth = candles.last(5)
    fall = every(
        black(first, second, fourth), fifth.white, second.body_below(first), falling(second.high, third.high, fourth.high),
        falling(second.low, third.low, fourth.low), fifth.close > second.open, fifth.close < first.close,
    )  # fmt: skip
    rise = every(
        white(first, second, fourth), fifth.black, second.body_above(first), rising(second.high, third.high, fourth.high),
        rising(second.low, third.low, fourth.low), fifth.close < second.open, fifth.close > first.close,
    )  # fmt: skip
    return either_way(every(first.long, fall), every(first.long, rise))


@pattern("CDLCONCEALBABYSWALL")
def concealing_baby_swallow(candles: Candles) -> Expression:
    """Concealing baby swallow: two black marubozu, a gap down into them, then one that engulfs all of it; bullish."""
    first, second, third, fourth = candles.last(4)
    bare = every(*(c.has_no(shadow) for c in (first, second) for shadow in (c.lower, c.upper)))
    reached = every(third.upper > third.measure(SHADOW_VERY_SHORT), third.high > second.close)
    engulfed = every(fourth.high > third.high, fourth.low < third.low)
    return bullish(every(black(first, second, third, fourth), bare, third.body_below(second), reached, engulfed))


@pattern("CDLLADDERBOTTOM", lookback=14)
def ladder_bottom(candles: Candles) -> Expression:
    """Ladder bottom: three falling black candles, one with an upper shadow, then a white one above it; bullish."""
    first, second, third, fourth, fifth = candles.last(5)
    fell = every(falling(first.open, second.open, third.open), falling(first.close, second.close, third.close))
    turned = every(
        fourth.upper > fourth.measure(SHADOW_VERY_SHORT), fifth.open > fourth.open, fifth.close > fourth.high
    )
    return bullish(every(black(first, second, third, fourth), fifth.white, fell, turned))


@pattern("CDLMATHOLD")
def mat_hold(candles: Candles, penetration: float = 0.5) -> Expression:
    """Mat hold: small candles drift back from a gap, staying in the long white body's part, then a new high; bullish."""
    first, second, third, fourth, fifth = candles.last(5)
    small = every(first.long, second.short, third.short, fourth.short)
    floor = first.close - first.body * penetration
    held = every(
        *(condition for c in (third, fourth) for condition in (c.bottom < first.close, c.bottom > floor)),
        third.top < second.open,
        fourth.top < third.top,
    )
    highest = apply(larger, apply(larger, second.high, third.high), fourth.high)
    left = every(fifth.open > fourth.close, fifth.close > highest)
    return bullish(
        every(small, first.white, second.black, fifth.white, second.body_above(first), held, left),
    )


@pattern("CDLRISEFALL3METHODS")
def rise_fall_three_methods(candles: Candles) -> Expression:
    """Rising or falling three methods: three small candles against a long one and within it, then a new extreme."""
    first, second, third, fourth, fifth = candles.last(5)
    sizes = every(first.long, second.short, third.short, fourth.short, fifth.long)
    held = every(
        *(condition for c in (second, third, fourth) for condition in (c.bottom < first.high, c.top > first.low))
    )
    rise = every(
        white(first, fifth), black(second, third, fourth), falling(second.close, third.close, fourth.close),
        fifth.open > fourth.close, fifth.close > first.close,
    )  # fmt: skip
    fall = every(
        black(first, fifth), white(second, third, fourth), rising(second.close, third.close, fourth.close),
        fifth.open < fourth.close, fifth.close < first.close,
    )  # fmt: skip
    return either_way(every(sizes, held, rise), every(sizes, held, fall))


def _within_range(inner: Candle, outer: Candle) -> Expression:
    """It has a lower high and a higher low."""
    return every(inner.high < outer.high, inner.low > outer.low)


def _breakout(c: Candle, before: Candle) -> tuple[Expression, Expression]:
    """Lower high and lower low, or higher high and higher low: the false breaks that a rise, a fall answer."""
    return every(c.high < before.high, c.low < before.low), every(c.high > before.high, c.low > before.low)


def _hikkake(candles: Candles, rise: Expression, fall: Expression) -> Expression:
    """The setup on its row, and its confirmation by a close beyond the inside candle before it."""
    inside = candles[1]
    setup = either_way(rise, fall)
    return apply(confirmed, setup, candles[0].close, inside.high, inside.low, _CONFIRMED_WITHIN)


@pattern("CDLHIKKAKE", lookback=5)
def hikkake(candles: Candles) -> Expression:
    """Hikkake: a false break out of an inside bar, ±100; ±200 where one of the next three closes beyond that bar."""
    first, second, third = candles.last(3)
    down, up = _breakout(third, second)
    inside = _within_range(second, first)
    return _hikkake(candles, every(inside, down), every(inside, up))


@pattern("CDLHIKKAKEMOD", lookback=10)
def hikkake_modified(candles: Candles) -> Expression:
    """Modified hikkake: two inside bars, the first closing near its end, a false break ±100; confirmed ±200."""
    first, second, third, fourth = candles.last(4)
    down, up = _breakout(fourth, third)
    inside = every(_within_range(second, first), _within_range(third, second))
    near = second.measure(NEAR)
    low_close, high_close = second.close <= second.low + near, second.close >= second.high - near
    return _hikkake(candles, every(inside, down, low_close), every(inside, up, high_close))
