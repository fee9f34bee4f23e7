"""Patterns of two candles."""

from __future__ import annotations

from tapeline.indicators.candles.candle import (
    EQUAL,
    Candle,
    Candles,
    bearish,
    bullish,
    coloured,
    either_way,
    opposite,
    pattern,
    within,
)
from tapeline.indicators.expression import Expression, every, some


@pattern("CDLCOUNTERATTACK")
def counterattack(candles: Candles) -> Expression:
    """Counterattack: two long candles of opposite colours that close at one price; the sign is the second's colour."""
    first, second = candles.last(2)
    met = within(second.close, first.close, first.measure(EQUAL))
    return coloured(every(opposite(first, second), first.long, second.long, met), second)


@pattern("CDLDARKCLOUDCOVER")
def dark_cloud_cover(candles: Candles, penetration: float = 0.5) -> Expression:
    """Dark cloud cover: after a long white candle one opens above its high and closes deep in its body; bearish."""
    first, second = candles.last(2)
    deep = every(second.close > first.open, second.close < first.close - first.body * penetration)
    return bearish(every(first.white, first.long, second.black, second.open > first.high, deep))


@pattern("CDLDOJISTAR")
def doji_star(candles: Candles) -> Expression:
    """Doji star: a doji that gaps away in the direction of a long body; the sign is against it."""
    first, second = candles.last(2)
    star = every(first.long, second.doji)
    return either_way(
        every(star, first.black, second.body_below(first)), every(star, first.white, second.body_above(first))
    )


@pattern("CDLENGULFING", lookback=2)
def engulfing(candles: Candles) -> Expression:
    """Engulfing: a body around one of the other colour, ±80 where they share an end; the sign is the second's colour."""
    first, second = candles.last(2)
    shared = some(second.top <= first.top, second.bottom >= first.bottom)
    distinct = some(second.top > first.top, second.bottom < first.bottom)
    around = every(opposite(first, second), second.top >= first.top, second.bottom <= first.bottom, distinct)
    return coloured(around, second) * (1.0 - 0.2 * shared)


def _harami(first: Candle, small: Expression, second: Candle) -> Expression:
    """A small body inside a long one, 80 where they share an end; the sign is against the first's colour."""
    held = every(first.long, small, second.top <= first.top, second.bottom >= first.bottom)
    shared = 1.0 - second.inside(first)
    return either_way(every(held, first.black), every(held, first.white)) * (1.0 - 0.2 * shared)


@pattern("CDLHARAMI")
def harami(candles: Candles) -> Expression:
    """Harami: a small body inside a long one, ±80 where they share an end; the sign is against the first's colour."""
    first, second = candles.last(2)
    return _harami(first, second.not_long, second)


@pattern("CDLHARAMICROSS")
def harami_cross(candles: Candles) -> Expression:
    """Harami cross: a doji inside a long body, ±80 where they share an end; the sign is against the first's colour."""
    first, second = candles.last(2)
    return _harami(first, second.doji, second)


@pattern("CDLHOMINGPIGEON")
def homing_pigeon(candles: Candles) -> Expression:
    """Homing pigeon: a short black body inside a long black one; bullish."""
    first, second = candles.last(2)
    held = every(second.open < first.open, second.close > first.close)
    return bullish(every(first.black, second.black, first.long, second.not_long, held))


def _from_below(first: Candle, second: Candle) -> Expression:
    """A white candle opens under the low of a long black one."""
    return every(first.black, first.long, second.white, second.open < first.low)


@pattern("CDLINNECK")
def in_neck(candles: Candles) -> Expression:
    """In-neck: from below a long black candle's low up to its close, or barely more; bearish."""
    first, second = candles.last(2)
    met = every(second.close <= first.close + first.measure(EQUAL), second.close >= first.close)
    return bearish(every(_from_below(first, second), met))


def _kicking(first: Candle, second: Candle) -> Expression:
    """Two marubozu of opposite colours with a gap between them."""
    gap = some(
        every(first.black, second.white, second.all_above(first)),
        every(first.white, second.black, second.all_below(first)),
    )
    return every(first.marubozu, second.marubozu, gap)


@pattern("CDLKICKING")
def kicking(candles: Candles) -> Expression:
    """Kicking: two marubozu of opposite colours with a gap between; the sign is the second's colour."""
    first, second = candles.last(2)
    return coloured(_kicking(first, second), second)


@pattern("CDLKICKINGBYLENGTH")
def kicking_by_length(candles: Candles) -> Expression:
    """Kicking: two marubozu of opposite colours with a gap between; the sign is the longer one's colour."""
    first, second = candles.last(2)
    longer_is_second = second.body > first.body
    rise = some(every(longer_is_second, second.white), every(first.body >= second.body, first.white))
    kick = _kicking(first, second)
    return either_way(every(kick, rise), every(kick, 1.0 - rise))


@pattern("CDLMATCHINGLOW")
def matching_low(candles: Candles) -> Expression:
    """Matching low: two black candles that close at one price; bullish."""
    first, second = candles.last(2)
    return bullish(every(first.black, second.black, within(second.close, first.close, first.measure(EQUAL))))


@pattern("CDLONNECK")
def on_neck(candles: Candles) -> Expression:
    """On-neck: from below a long black candle's low up to that low; bearish."""
    first, second = candles.last(2)
    return bearish(every(_from_below(first, second), within(second.close, first.low, first.measure(EQUAL))))


@pattern("CDLPIERCING")
def piercing(candles: Candles) -> Expression:
    """Piercing line: from below a long black candle's low up beyond the middle of its body; bullish."""
    first, second = candles.last(2)
    deep = every(second.close < first.open, second.close > first.close + first.body * 0.5)
    return bullish(every(_from_below(first, second), second.long, deep))


@pattern("CDLSEPARATINGLINES", lookback=11)
def separating_lines(candles: Candles) -> Expression:
    """Separating lines: a belt hold from the open of a candle of the other colour; the sign is the second's colour."""
    first, second = candles.last(2)
    met = within(second.open, first.open, first.measure(EQUAL))
    hold = some(every(second.white, second.has_no(second.lower)), every(second.black, second.has_no(second.upper)))
    return coloured(every(opposite(first, second), met, second.long, hold), second)


@pattern("CDLTHRUSTING")
def thrusting(candles: Candles) -> Expression:
    """Thrusting: from below a long black candle's low into its body, to the middle at most; bearish."""
    first, second = candles.last(2)
    part = every(second.close > first.close + first.measure(EQUAL), second.close <= first.close + first.body * 0.5)
    return bearish(every(_from_below(first, second), part))
