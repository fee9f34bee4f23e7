"""Steps without state."""

from __future__ import annotations

import math

from tapeline.kernels.primitive import primitive


@primitive()
def ratio(numerator: float, denominator: float, otherwise: float) -> float:
    """Quotient, or ``otherwise`` where the denominator is 0 and the numerator a number."""
    return otherwise if denominator == 0.0 and numerator == numerator else numerator / denominator


@primitive()
def logarithm(x: float) -> float:
    """Natural logarithm; NaN for what is not positive."""
    return math.log(x) if x > 0.0 else math.nan


@primitive()
def square_root(x: float) -> float:
    """Square root; NaN below 0."""
    return math.sqrt(x) if x >= 0.0 else math.nan


@primitive()
def arc_tangent(x: float) -> float:
    """Angle in radians whose tangent is the value."""
    return math.atan(x)


@primitive()
def absolute(x: float) -> float:
    """Absolute value."""
    return abs(x)


@primitive()
def sign(x: float) -> float:
    """−1, 0 or 1."""
    if x != x:
        return math.nan
    return 1.0 if x > 0.0 else (-1.0 if x < 0.0 else 0.0)


@primitive()
def larger(a: float, b: float) -> float:
    """The larger of two."""
    if a != a or b != b:
        return math.nan
    return max(b, a)


@primitive()
def smaller(a: float, b: float) -> float:
    """The smaller of two."""
    if a != a or b != b:
        return math.nan
    return min(b, a)


@primitive()
def positive(x: float) -> float:
    """1 where the value is positive, else 0."""
    if x != x:
        return math.nan
    return 1.0 if x > 0.0 else 0.0


@primitive()
def exceeds(a: float, b: float) -> float:
    """1 where the first is larger than the second, else 0."""
    if a != a or b != b:
        return math.nan
    return 1.0 if a > b else 0.0


@primitive()
def at_least(a: float, b: float) -> float:
    """1 where the first is not smaller than the second, else 0."""
    if a != a or b != b:
        return math.nan
    return 1.0 if a >= b else 0.0
