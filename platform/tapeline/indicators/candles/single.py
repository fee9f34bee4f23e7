"""Patterns of one candle, some of which ask where it stands to the one before."""

from __future__ import annotations

from tapeline.indicators.candles.candle import (
    NEAR,
    SHADOW_LONG,
    SHADOW_SHORT,
    SHADOW_VERY_LONG,
    SHADOW_VERY_SHORT,
    Candles,
    bearish,
    bullish,
    coloured,
    pattern,
)
from tapeline.indicators.expression import Expression, every, some


@pattern("CDLBELTHOLD")
def belt_hold(candles: Candles) -> Expression:
    """Belt hold: a long body that opened at its extreme; the sign is its colour."""
    c = candles[0]
    from_extreme = some(every(c.white, c.has_no(c.lower)), every(c.black, c.has_no(c.upper)))
    return coloured(every(c.long, from_extreme), c)


@pattern("CDLCLOSINGMARUBOZU")
def closing_marubozu(candles: Candles) -> Expression:
    """Closing marubozu: a long body that closed at its extreme; the sign is its colour."""
    c = candles[0]
    to_extreme = some(every(c.white, c.has_no(c.upper)), every(c.black, c.has_no(c.lower)))
    return coloured(every(c.long, to_extreme), c)


@pattern("CDLDOJI")
def doji(candles: Candles) -> Expression:
    """Doji: open and close are almost equal; always 100."""
    return bullish(candles[0].doji)


@pattern("CDLDRAGONFLYDOJI")
def dragonfly_doji(candles: Candles) -> Expression:
    """Dragonfly doji: open and close at the high, above a lower shadow; always 100."""
    c = candles[0]
    return bullish(every(c.doji, c.has_no(c.upper), c.lower > c.measure(SHADOW_VERY_SHORT)))


@pattern("CDLGRAVESTONEDOJI")
def gravestone_doji(candles: Candles) -> Expression:
    """Gravestone doji: open and close at the low, below an upper shadow; always 100."""
    c = candles[0]
    return bullish(every(c.doji, c.has_no(c.lower), c.upper > c.measure(SHADOW_VERY_SHORT)))


@pattern("CDLHAMMER", lookback=11)
def hammer(candles: Candles) -> Expression:
    """Hammer: a small body on a long lower shadow, near or below the low before; bullish."""
    before, c = candles.last(2)
    shape = every(c.short, c.lower > c.measure(SHADOW_LONG), c.has_no(c.upper))
    return bullish(every(shape, c.bottom <= before.low + before.measure(NEAR)))


@pattern("CDLHANGINGMAN", lookback=11)
def hanging_man(candles: Candles) -> Expression:
    """Hanging man: a small body on a long lower shadow, near or above the high before; bearish."""
    before, c = candles.last(2)
    shape = every(c.short, c.lower > c.measure(SHADOW_LONG), c.has_no(c.upper))
    return bearish(every(shape, c.bottom >= before.high - before.measure(NEAR)))


@pattern("CDLHIGHWAVE")
def high_wave(candles: Candles) -> Expression:
    """High wave: a small body between very long shadows; the sign is its colour."""
    c = candles[0]
    far = c.measure(SHADOW_VERY_LONG)
    return coloured(every(c.short, c.upper > far, c.lower > far), c)


@pattern("CDLINVERTEDHAMMER", lookback=11)
def inverted_hammer(candles: Candles) -> Expression:
    """Inverted hammer: a small body under a long upper shadow, gapping down; bullish."""
    before, c = candles.last(2)
    shape = every(c.short, c.upper > c.measure(SHADOW_LONG), c.has_no(c.lower))
    return bullish(every(shape, c.body_below(before)))


@pattern("CDLLONGLEGGEDDOJI")
def long_legged_doji(candles: Candles) -> Expression:
    """Long-legged doji: a doji with at least one long shadow; always 100."""
    c = candles[0]
    far = c.measure(SHADOW_LONG)
    return bullish(every(c.doji, some(c.lower > far, c.upper > far)))


@pattern("CDLLONGLINE")
def long_line(candles: Candles) -> Expression:
    """Long line: a long body with short shadows; the sign is its colour."""
    c = candles[0]
    usual = c.measure(SHADOW_SHORT)
    return coloured(every(c.long, c.upper < usual, c.lower < usual), c)


@pattern("CDLMARUBOZU")
def marubozu(candles: Candles) -> Expression:
    """Marubozu: a long body with hardly any shadow; the sign is its colour."""
    return coloured(candles[0].marubozu, candles[0])


@pattern("CDLRICKSHAWMAN")
def rickshaw_man(candles: Candles) -> Expression:
    """Rickshaw man: a doji in the middle of two long shadows; always 100."""
    c = candles[0]
    far, near = c.measure(SHADOW_LONG), c.measure(NEAR)
    middle = c.low + c.whole / 2.0
    return bullish(
        every(c.doji, c.lower > far, c.upper > far, c.bottom <= middle + near, c.top >= middle - near),
    )


@pattern("CDLSHOOTINGSTAR", lookback=11)
def shooting_star(candles: Candles) -> Expression:
    """Shooting star: a small body under a long upper shadow, gapping up; bearish."""
    before, c = candles.last(2)
    shape = every(c.short, c.upper > c.measure(SHADOW_LONG), c.has_no(c.lower))
    return bearish(every(shape, c.body_above(before)))


@pattern("CDLSHORTLINE")
def short_line(candles: Candles) -> Expression:
    """Short line: a short body with short shadows; the sign is its colour."""
    c = candles[0]
    usual = c.measure(SHADOW_SHORT)
    return coloured(every(c.short, c.upper < usual, c.lower < usual), c)


@pattern("CDLSPINNINGTOP")
def spinning_top(candles: Candles) -> Expression:
    """Spinning top: a short body between shadows that are longer than it; the sign is its colour."""
    c = candles[0]
    return coloured(every(c.short, c.upper > c.body, c.lower > c.body), c)


@pattern("CDLTAKURI")
def takuri(candles: Candles) -> Expression:
    """Takuri line: a dragonfly doji with a very long lower shadow; always 100."""
    c = candles[0]
    return bullish(every(c.doji, c.has_no(c.upper), c.lower > c.measure(SHADOW_VERY_LONG)))
