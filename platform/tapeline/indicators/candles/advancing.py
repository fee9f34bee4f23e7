"""Rows of candles of one colour: soldiers, crows and their weakening, and what interrupts them."""

from __future__ import annotations

from tapeline.indicators.candles.candle import (
    EQUAL,
    FAR,
    NEAR,
    SHADOW_LONG,
    SHADOW_SHORT,
    SHADOW_VERY_SHORT,
    Candle,
    Candles,
    bearish,
    black,
    bullish,
    coloured,
    either_way,
    falling,
    pattern,
    rising,
    white,
    within,
)
from tapeline.indicators.expression import Expression, apply, every, some
from tapeline.kernels.arithmetic import absolute


@pattern("CDL3BLACKCROWS", lookback=13)
def three_black_crows(candles: Candles) -> Expression:
    """Three black crows: falling black candles without lower shadows, each opening in the body before; bearish."""
    before, first, second, third = candles.last(4)
    opened = every(
        second.open < first.open, second.open > first.close, third.open < second.open, third.open > second.close
    )
    bare = every(*(c.has_no(c.lower) for c in (first, second, third)))
    fell = every(before.high > first.close, falling(first.close, second.close, third.close))
    return bearish(every(before.white, black(first, second, third), bare, opened, fell))


@pattern("CDLIDENTICAL3CROWS")
def identical_three_crows(candles: Candles) -> Expression:
    """Identical three crows: falling black candles without lower shadows, each opening at the close before; bearish."""
    first, second, third = candles.last(3)
    bare = every(*(c.has_no(c.lower) for c in (first, second, third)))
    opened = every(
        within(second.open, first.close, first.measure(EQUAL)),
        within(third.open, second.close, second.measure(EQUAL)),
    )
    return bearish(every(black(first, second, third), bare, falling(first.close, second.close, third.close), opened))


def _opens_in_or_near(second: Candle, first: Candle) -> Expression:
    """It opens above the other's open, and not far above its close."""
    return every(second.open > first.open, second.open <= first.close + first.measure(NEAR))


@pattern("CDL3WHITESOLDIERS")
def three_white_soldiers(candles: Candles) -> Expression:
    """Three white soldiers: rising white candles without upper shadows, none much shorter than the last; bullish."""
    first, second, third = candles.last(3)
    bare = every(*(c.has_no(c.upper) for c in (first, second, third)))
    opened = every(_opens_in_or_near(second, first), _opens_in_or_near(third, second))
    kept = every(second.body > first.body - first.measure(FAR), third.body > second.body - second.measure(FAR))
    rose = rising(first.close, second.close, third.close)
    return bullish(every(white(first, second, third), bare, rose, opened, kept, third.not_short))


@pattern("CDLADVANCEBLOCK")
def advance_block(candles: Candles) -> Expression:
    """Advance block: three rising white candles that weaken in bodies or upper shadows; bearish."""
    first, second, third = candles.last(3)
    opened = every(_opens_in_or_near(second, first), _opens_in_or_near(third, second))
    weaker = some(
        every(
            second.body < first.body - first.measure(FAR),
            third.body < second.body + second.measure(NEAR),
        ),
        third.body < second.body - second.measure(FAR),
        every(
            third.body < second.body,
            second.body < first.body,
            some(third.upper > third.measure(SHADOW_SHORT), second.upper > second.measure(SHADOW_SHORT)),
        ),
        every(third.body < second.body, third.upper > third.measure(SHADOW_LONG)),
    )
    strong = every(first.long, first.upper < first.measure(SHADOW_SHORT))
    rose = rising(first.close, second.close, third.close)
    return bearish(every(white(first, second, third), rose, opened, strong, weaker))


@pattern("CDLSTALLEDPATTERN")
def stalled_pattern(candles: Candles) -> Expression:
    """Stalled pattern: two long white candles, then a small one on the shoulder of the second; bearish."""
    first, second, third = candles.last(3)
    rose = rising(first.close, second.close, third.close)
    strong = every(first.long, second.long, second.has_no(second.upper), _opens_in_or_near(second, first))
    shoulder = third.open >= second.close - third.body - second.measure(NEAR)
    return bearish(every(white(first, second, third), rose, strong, third.short, shoulder))


@pattern("CDL3LINESTRIKE")
def three_line_strike(candles: Candles) -> Expression:
    """Three-line strike: three advancing candles of a colour, undone by a fourth; the sign is their colour."""
    first, second, third, fourth = candles.last(4)
    near = every(
        *(
            every(b.open >= a.bottom - a.measure(NEAR), b.open <= a.top + a.measure(NEAR))
            for a, b in ((first, second), (second, third))
        )
    )
    rise = every(
        white(first, second, third), fourth.black, rising(first.close, second.close, third.close),
        fourth.open > third.close, fourth.close < first.open,
    )  # fmt: skip
    fall = every(
        black(first, second, third), fourth.white, falling(first.close, second.close, third.close),
        fourth.open < third.close, fourth.close > first.open,
    )  # fmt: skip
    return either_way(every(near, rise), every(near, fall))


@pattern("CDL3STARSINSOUTH")
def three_stars_in_the_south(candles: Candles) -> Expression:
    """Three stars in the south: black candles that shrink, each low above the one before; bullish."""
    first, second, third = candles.last(3)
    start = every(first.long, first.lower > first.measure(SHADOW_LONG))
    shrunk = every(
        second.body < first.body, second.open > first.close, second.open <= first.high, second.low < first.close,
        second.low >= first.low, second.lower > second.measure(SHADOW_VERY_SHORT),
    )  # fmt: skip
    end = every(
        third.short, third.has_no(third.lower), third.has_no(third.upper), third.low > second.low,
        third.high < second.high,
    )  # fmt: skip
    return bullish(every(black(first, second, third), start, shrunk, end))


@pattern("CDLGAPSIDESIDEWHITE", lookback=7)
def gap_side_by_side_white(candles: Candles) -> Expression:
    """Gapping side-by-side white lines: two alike white candles beyond a gap; the sign is the gap's direction."""
    first, second, third = candles.last(3)
    alike = every(
        white(second, third),
        within(third.body, second.body, second.measure(NEAR)),
        within(third.open, second.open, second.measure(EQUAL)),
    )
    up = every(second.body_above(first), third.body_above(first))
    down = every(second.body_below(first), third.body_below(first))
    return either_way(every(alike, up), every(alike, down))


@pattern("CDLTASUKIGAP", lookback=7)
def tasuki_gap(candles: Candles) -> Expression:
    """Tasuki gap: a gap that a candle of the other colour and like size fails to close; the sign is the gap's."""
    first, second, third = candles.last(3)
    like = apply(absolute, second.body - third.body) < second.measure(NEAR)
    up = every(
        second.body_above(first), second.white, third.black, third.open < second.close, third.open > second.open,
        third.close < second.open, third.close > first.top,
    )  # fmt: skip
    down = every(
        second.body_below(first), second.black, third.white, third.open < second.open, third.open > second.close,
        third.close > second.open, third.close < first.bottom,
    )  # fmt: skip
    return coloured(every(like, some(up, down)), second)


@pattern("CDLSTICKSANDWICH")
def stick_sandwich(candles: Candles) -> Expression:
    """Stick sandwich: a white candle between two black ones that close at one price; bullish."""
    first, second, third = candles.last(3)
    met = within(third.close, first.close, first.measure(EQUAL))
    return bullish(every(first.black, second.white, third.black, second.low > first.close, met))
