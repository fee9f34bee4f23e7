"""Unevaluated sums keep what ordinary ones lose."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.kernels.compensated import add

_numbers = st.floats(-1e15, 1e15, allow_subnormal=False)


@settings(deadline=None)
@given(st.lists(_numbers, min_size=1, max_size=50))
def test_a_sum_of_many_equals_the_exact_one(numbers: list[float]) -> None:
    high, low = 0.0, 0.0
    for number in numbers:
        high, low = add(high, low, number)
    exact = sum(Fraction(number) for number in numbers)
    size = float(sum(abs(Fraction(number)) for number in numbers))
    assert abs(Fraction(high) + Fraction(low) - exact) <= size * 1e-30


def test_what_enters_and_leaves_is_gone() -> None:
    high, low = add(0.0, 0.0, 1e-6)
    for x in (1e20, 3.0, -1e20, -3.0):
        high, low = add(high, low, x)
    assert high == pytest.approx(1e-6, rel=1e-6)
    assert math.fsum([1e-6, 1e20, 3.0, -1e20, -3.0]) == 1e-6
