"""Volume steps against exact rational arithmetic and plain loops."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.kernels.volume import rolling_sum_of_any_scale

from tests.kernels.driver import run

_series = st.lists(
    st.builds(lambda power, x: x * 10.0**power, st.integers(-30, 30), st.floats(-2.0, 2.0)), min_size=1, max_size=60
)


@settings(max_examples=300, deadline=None)
@given(_series, st.integers(2, 12))
def test_a_sum_over_sixty_powers_of_ten_is_right_to_the_last_place(series: list[float], n: int) -> None:
    results = run(rolling_sum_of_any_scale, np.array(series), n)[:, 0]
    assert np.isnan(results[: n - 1]).all()
    for i in range(n - 1, len(series)):
        window = [Fraction(x) for x in series[i - n + 1 : i + 1]]
        largest = float(max(abs(x) for x in window))
        assert results[i] == pytest.approx(float(sum(window)), rel=1e-15, abs=1e-28 * largest)
