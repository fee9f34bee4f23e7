"""Candles of a row and the rows before it, and what counts as long, short, near, far or equal among them.

The settings are TA-Lib's defaults: a multiple of the mean range of the rows *before* the candle in question, where a
range is the real body, the whole bar or both shadows. One sum for each kind and length serves all patterns and ages.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from tapeline.indicators.expression import Expression, apply, every, some
from tapeline.indicators.specification import Indicator, indicator
from tapeline.kernels.arithmetic import absolute, larger, smaller
from tapeline.kernels.rolling import lag, rolling_sum
from tapeline.kernels.sequence import withheld

PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True)
class Setting:
    """What a length is measured by: ``factor`` times the mean of so many ranges before it; of its own range if 0."""

    range: Literal["body", "whole", "shadows"]
    period: int
    factor: float


BODY_LONG = Setting("body", 10, 1.0)
BODY_SHORT = Setting("body", 10, 1.0)
BODY_DOJI = Setting("whole", 10, 0.1)
SHADOW_LONG = Setting("body", 0, 1.0)
SHADOW_VERY_LONG = Setting("body", 0, 2.0)
SHADOW_SHORT = Setting("shadows", 10, 1.0)
SHADOW_VERY_SHORT = Setting("whole", 10, 0.1)
NEAR = Setting("whole", 5, 0.2)
FAR = Setting("whole", 5, 0.6)
EQUAL = Setting("whole", 5, 0.05)


@dataclass(frozen=True)
class Candle:
    """The candle ``age`` rows ago. Conditions are 1 or 0."""

    candles: Candles
    age: int

    def _past(self, x: Expression) -> Expression:
        return apply(lag, x, self.age) if self.age else x

    @cached_property
    def open(self) -> Expression:
        """Open."""
        return self._past(self.candles.open)

    @cached_property
    def high(self) -> Expression:
        """High."""
        return self._past(self.candles.high)

    @cached_property
    def low(self) -> Expression:
        """Low."""
        return self._past(self.candles.low)

    @cached_property
    def close(self) -> Expression:
        """Close."""
        return self._past(self.candles.close)

    @cached_property
    def top(self) -> Expression:
        """Upper end of the real body."""
        return apply(larger, self.open, self.close)

    @cached_property
    def bottom(self) -> Expression:
        """Lower end of the real body."""
        return apply(smaller, self.open, self.close)

    @cached_property
    def body(self) -> Expression:
        """Length of the real body."""
        return apply(absolute, self.close - self.open)

    @cached_property
    def whole(self) -> Expression:
        """Length from low to high."""
        return self.high - self.low

    @cached_property
    def upper(self) -> Expression:
        """Length of the upper shadow."""
        return self.high - self.top

    @cached_property
    def lower(self) -> Expression:
        """Length of the lower shadow."""
        return self.bottom - self.low

    @cached_property
    def shadows(self) -> Expression:
        """Length of both shadows."""
        return self.upper + self.lower

    @cached_property
    def white(self) -> Expression:
        """It closed at its open or above."""
        return self.close >= self.open

    @cached_property
    def black(self) -> Expression:
        """It closed below its open."""
        return self.open > self.close

    def measure(self, setting: Setting) -> Expression:
        """The length that a setting means for this candle, in the order of TA-Lib's own operations."""
        if setting.period == 0:
            mean: Expression = getattr(self, setting.range)
        else:
            total = apply(rolling_sum, getattr(self.candles[0], setting.range), setting.period)
            mean = apply(lag, total, self.age + 1) / setting.period
        scaled = setting.factor * mean if setting.factor != 1.0 else mean
        return scaled / 2.0 if setting.range == "shadows" else scaled

    @cached_property
    def long(self) -> Expression:
        """Its body is longer than usual."""
        return self.body > self.measure(BODY_LONG)

    @cached_property
    def short(self) -> Expression:
        """Its body is shorter than usual."""
        return self.body < self.measure(BODY_SHORT)

    @cached_property
    def not_long(self) -> Expression:
        """Its body is shorter than usual, or just as long."""
        return self.body <= self.measure(BODY_SHORT)

    @cached_property
    def not_short(self) -> Expression:
        """Its body is longer than usual by the measure of short ones."""
        return self.body > self.measure(BODY_SHORT)

    @cached_property
    def doji(self) -> Expression:
        """Its body is next to nothing."""
        return self.body <= self.measure(BODY_DOJI)

    def has_no(self, shadow: Expression) -> Expression:
        """One of its shadows is very short."""
        return shadow < self.measure(SHADOW_VERY_SHORT)

    @cached_property
    def marubozu(self) -> Expression:
        """A long body with hardly any shadow."""
        return every(self.long, self.has_no(self.upper), self.has_no(self.lower))

    def body_above(self, other: Candle) -> Expression:
        """Its body lies above the other's: a gap up between bodies."""
        return self.bottom > other.top

    def body_below(self, other: Candle) -> Expression:
        """Its body lies below the other's: a gap down between bodies."""
        return self.top < other.bottom

    def all_above(self, other: Candle) -> Expression:
        """It lies above the other, shadows included."""
        return self.low > other.high

    def all_below(self, other: Candle) -> Expression:
        """It lies below the other, shadows included."""
        return self.high < other.low

    def inside(self, other: Candle) -> Expression:
        """Its body lies inside the other's, touching neither end."""
        return every(self.top < other.top, self.bottom > other.bottom)


@dataclass(frozen=True)
class Candles:
    """The candles up to this row: ``candles[0]`` is this row's, ``candles[1]`` the one before."""

    open: Expression
    high: Expression
    low: Expression
    close: Expression

    def __getitem__(self, age: int) -> Candle:
        return Candle(self, age)

    def last(self, count: int) -> tuple[Candle, ...]:
        """The last candles, oldest first."""
        return tuple(self[age] for age in reversed(range(count)))


def within(x: Expression, centre: Expression, reach: Expression) -> Expression:
    """A value lies no farther from another than ``reach``."""
    return every(x <= centre + reach, x >= centre - reach)


def falling(*values: Expression) -> Expression:
    """Each value is lower than the one before."""
    return every(*(later < earlier for earlier, later in itertools.pairwise(values)))


def rising(*values: Expression) -> Expression:
    """Each value is higher than the one before."""
    return every(*(later > earlier for earlier, later in itertools.pairwise(values)))


def white(*candles: Candle) -> Expression:
    """All are white."""
    return every(*(candle.white for candle in candles))


def black(*candles: Candle) -> Expression:
    """All are black."""
    return every(*(candle.black for candle in candles))


def opposite(one: Candle, other: Candle) -> Expression:
    """One is white and the other black."""
    return some(every(one.white, other.black), every(one.black, other.white))


def bullish(condition: Expression) -> Expression:
    """100 where it holds, else 0."""
    return 100.0 * condition


def bearish(condition: Expression) -> Expression:
    """−100 where it holds, else 0."""
    return 100.0 * (0.0 - condition)


def either_way(rise: Expression, fall: Expression) -> Expression:
    """100 where one condition holds, −100 where the other does, else 0."""
    return 100.0 * (rise - fall)


def coloured(condition: Expression, candle: Candle) -> Expression:
    """Where it holds, 100 if the candle is white and −100 if it is black; else 0."""
    return either_way(every(condition, candle.white), every(condition, candle.black))


def pattern(name: str, *, lookback: int = 0) -> Callable[[Callable[..., Expression]], Indicator]:
    """Register a pattern: a function from candles, and a penetration if it has one, to −200 … 200.

    Parameters
    ----------
    name
        TA-Lib's name.
    lookback
        Rows that TA-Lib waits for before its first value, where these are more than the pattern reads.
    """

    def register(define: Callable[..., Expression]) -> Indicator:
        def build(open: Expression, high: Expression, low: Expression, close: Expression, **given: Any) -> Expression:  # noqa: A002
            value = define(Candles(open, high, low, close), **given)
            late = lookback + 1 - value.operation.warm_up
            return apply(withheld, value, late) if late > 0 else value

        _, *parameters = inspect.signature(define).parameters.values()
        prices = [inspect.Parameter(price, inspect.Parameter.POSITIONAL_OR_KEYWORD) for price in PRICES]
        build.__signature__ = inspect.Signature([*prices, *parameters])  # type: ignore[attr-defined]
        build.__doc__ = define.__doc__
        return indicator(
            name,
            group="candles",
            outputs={name.lower(): "flag"},
            source=f"TA-Lib TA_{name}",
            bounds={"penetration": (0.0, 100.0)},
        )(build)

    return register
