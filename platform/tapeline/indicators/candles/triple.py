"""Reversals of three candles."""

from __future__ import annotations

from tapeline.indicators.candles.candle import (
    BODY_DOJI,
    Candle,
    Candles,
    bearish,
    bullish,
    coloured,
    either_way,
    opposite,
    pattern,
)
from tapeline.indicators.expression import Expression, every, some


@pattern("CDL2CROWS")
def two_crows(candles: Candles) -> Expression:
    """Two crows: a black candle above a long white one, then one that opens in it and closes in the first; bearish."""
    first, second, third = candles.last(3)
    turn = every(
        third.open < second.open, third.open > second.close, third.close > first.open, third.close < first.close
    )
    return bearish(every(first.white, first.long, second.black, second.body_above(first), third.black, turn))


@pattern("CDL3INSIDE")
def three_inside(candles: Candles) -> Expression:
    """Three inside up or down: a harami, confirmed by a close beyond the first open; the sign is against the first."""
    first, second, third = candles.last(3)
    held = every(first.long, second.not_long, second.inside(first))
    return either_way(
        every(held, first.black, third.white, third.close > first.open),
        every(held, first.white, third.black, third.close < first.open),
    )


@pattern("CDL3OUTSIDE", lookback=3)
def three_outside(candles: Candles) -> Expression:
    """Three outside up or down: an engulfing body, confirmed by the next close; the sign is the second's colour."""
    first, second, third = candles.last(3)
    return either_way(
        every(
            second.white, first.black, second.close > first.open, second.open < first.close, third.close > second.close
        ),
        every(
            second.black, first.white, second.open > first.close, second.close < first.open, third.close < second.close
        ),
    )


def _reversed_into(first: Candle, third: Candle, penetration: float) -> tuple[Expression, Expression]:
    """The third closes deep in the body of the first, of the other colour: upwards, downwards."""
    reach = first.body * penetration
    up = every(first.black, third.white, third.close > first.close + reach)
    return up, every(first.white, third.black, third.close < first.close - reach)


@pattern("CDLABANDONEDBABY")
def abandoned_baby(candles: Candles, penetration: float = 0.3) -> Expression:
    """Abandoned baby: a doji with gaps on both sides between two opposite candles; the sign is the third's colour."""
    first, second, third = candles.last(3)
    up, down = _reversed_into(first, third, penetration)
    bodies = every(first.long, second.doji, third.not_short)
    return either_way(
        every(bodies, up, second.all_below(first), third.all_above(second)),
        every(bodies, down, second.all_above(first), third.all_below(second)),
    )


def _star(candles: Candles, small: Expression, penetration: float) -> tuple[Expression, Expression]:
    """Morning and evening: a small body beyond a long one, then a third one back into the first."""
    first, second, third = candles.last(3)
    up, down = _reversed_into(first, third, penetration)
    bodies = every(first.long, small, third.not_short)
    return every(bodies, up, second.body_below(first)), every(bodies, down, second.body_above(first))


@pattern("CDLMORNINGSTAR")
def morning_star(candles: Candles, penetration: float = 0.3) -> Expression:
    """Morning star: a small body below a long black one, then a white one deep into the first; bullish."""
    return bullish(_star(candles, candles[1].not_long, penetration)[0])


@pattern("CDLMORNINGDOJISTAR")
def morning_doji_star(candles: Candles, penetration: float = 0.3) -> Expression:
    """Morning doji star: a doji below a long black body, then a white one deep into the first; bullish."""
    return bullish(_star(candles, candles[1].doji, penetration)[0])


@pattern("CDLEVENINGSTAR")
def evening_star(candles: Candles, penetration: float = 0.3) -> Expression:
    """Evening star: a small body above a long white one, then a black one deep into the first; bearish."""
    return bearish(_star(candles, candles[1].not_long, penetration)[1])


@pattern("CDLEVENINGDOJISTAR")
def evening_doji_star(candles: Candles, penetration: float = 0.3) -> Expression:
    """Evening doji star: a doji above a long white body, then a black one deep into the first; bearish."""
    return bearish(_star(candles, candles[1].doji, penetration)[1])


@pattern("CDLTRISTAR")
def tristar(candles: Candles) -> Expression:
    """Tristar: three dojis, the middle one beyond the others; bearish above them, bullish below."""
    first, second, third = candles.last(3)
    least = first.measure(BODY_DOJI)
    dojis = every(first.body <= least, second.body <= least, third.body <= least)
    return either_way(
        every(dojis, second.body_below(first), third.bottom > second.bottom),
        every(dojis, second.body_above(first), third.top < second.top),
    )


@pattern("CDLUNIQUE3RIVER")
def unique_three_river(candles: Candles) -> Expression:
    """Unique three river: a black harami with a lower low, then a small white body above that low; bullish."""
    first, second, third = candles.last(3)
    harami = every(second.close > first.close, second.open <= first.open, second.low < first.low)
    return bullish(
        every(first.long, first.black, second.black, harami, third.short, third.white, third.open > second.low)
    )


@pattern("CDLUPSIDEGAP2CROWS")
def upside_gap_two_crows(candles: Candles) -> Expression:
    """Upside gap two crows: above a long white candle a small black one, engulfed by another; bearish."""
    first, second, third = candles.last(3)
    engulfed = every(third.open > second.open, third.close < second.close, third.close > first.close)
    return bearish(
        every(first.white, first.long, second.black, second.not_long, second.body_above(first), third.black, engulfed)
    )


@pattern("CDLXSIDEGAP3METHODS")
def side_gap_three_methods(candles: Candles) -> Expression:
    """Upside or downside gap three methods: two candles of a colour with a gap, filled by a third; their sign."""
    first, second, third = candles.last(3)
    filled = every(
        third.open < second.top, third.open > second.bottom, third.close < first.top, third.close > first.bottom
    )
    gap = some(
        every(first.white, second.white, second.body_above(first)),
        every(first.black, second.black, second.body_below(first)),
    )
    return coloured(every(gap, opposite(second, third), filled), first)
