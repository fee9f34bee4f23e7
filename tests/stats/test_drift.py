"""Histograms without chosen buckets, and distances between them, against numpy and scipy on the samples themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats as scipy_stats
from scipy.spatial.distance import jensenshannon
from tapeline.core.errors import EmptyDataError, ParameterError
from tapeline.stats import drift, sketch

NUMBERS = st.floats(-1e9, 1e9, allow_nan=False)


def histogram(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.unique(sketch.buckets(values), return_counts=True)


@settings(deadline=None)
@given(hnp.arrays(np.float64, st.integers(1, 60), elements=NUMBERS))
def test_every_number_lies_in_its_bucket_and_buckets_rise_with_numbers(values: np.ndarray) -> None:
    found = sketch.buckets(values)
    low, high = sketch.edges(found)
    inside = np.abs(values) >= 2.0**-40
    assert (low <= values)[inside].all()
    assert (values <= high)[inside].all()
    assert ((high - low)[inside] <= np.maximum(np.abs(low), np.abs(high))[inside] / 128 * 1.0001).all()
    assert (found[~inside] == 0).all()
    assert (np.diff(found[np.argsort(values, kind="stable")].astype(int)) >= 0).all()


@pytest.mark.parametrize("value", [math.ldexp(1, 60), -math.ldexp(1, 60), 1e308])
def test_numbers_past_the_last_bucket_go_into_it(value: float) -> None:
    assert sketch.buckets(np.array([value]))[0] == math.copysign(sketch.BUCKET_MAX, value)


@settings(deadline=None)
@given(hnp.arrays(np.float64, st.integers(1, 200), elements=NUMBERS), st.floats(0, 1))
def test_quantiles_are_within_a_bucket_of_the_nearest_rank(values: np.ndarray, at: float) -> None:
    exact = np.sort(values)[max(math.ceil(at * len(values)), 1) - 1]
    found = sketch.quantiles(*histogram(values), np.array([at]))[0]
    assert found == pytest.approx(exact, rel=1 / 250, abs=2.0**-39)


def test_no_values_have_no_quantiles() -> None:
    assert np.isnan(sketch.quantiles(np.array([], np.int16), np.array([], np.int64), np.array([0.5]))).all()


def aligned(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return sketch.aligned(histogram(first), histogram(second))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(-3, 3), size=st.integers(5, 400))
def test_distances_agree_with_scipy_on_the_samples(seed: int, shift: float, size: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = 50 + 5 * rng.normal(size=size), 50 + 5 * (rng.normal(size=size + 7) + shift)
    bucket, p, q = aligned(first, second)
    low, high = sketch.edges(bucket)
    width = (high - low).max()
    exact = scipy_stats.wasserstein_distance(first, second)
    assert drift.wasserstein(p, q, (low + high) / 2) == pytest.approx(exact, abs=width)
    exact = scipy_stats.ks_2samp(first, second).statistic
    assert drift.kolmogorov_smirnov(p, q) <= exact + 1e-12
    assert drift.jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2), abs=1e-7)


def test_psi_is_the_textbook_sum_over_deciles() -> None:
    reference, current = np.full(10, 100), np.array([50, 60, 80, 100, 100, 100, 120, 120, 130, 140])
    p, q = (reference + 0.5) / 1005, (current + 0.5) / 1005
    assert drift.psi(reference, current) == pytest.approx(float(((q - p) * np.log(q / p)).sum()))
    assert drift.psi(reference, reference) == 0.0
    fine = np.repeat(reference // 10, 10)  # of a hundred bins, ten make a decile
    assert drift.psi(fine, np.repeat(current // 10, 10)) == pytest.approx(
        drift.psi(reference, current // 10 * 10), rel=1e-12
    )


@settings(deadline=None)
@given(hnp.arrays(np.int64, 12, elements=st.integers(0, 50)), hnp.arrays(np.int64, 12, elements=st.integers(0, 50)))
def test_distances_are_zero_of_equals_never_negative_and_bounded(p: np.ndarray, q: np.ndarray) -> None:
    if not p.sum() or not q.sum():
        with pytest.raises(EmptyDataError):
            drift.psi(p, q)
        return
    positions = np.arange(12.0)
    for distance in (drift.psi(p, q), drift.kolmogorov_smirnov(p, q), drift.wasserstein(p, q, positions)):
        assert distance >= 0
    assert drift.kolmogorov_smirnov(p, q) <= 1
    assert drift.jensen_shannon(p, q) <= 1 + 1e-12
    assert drift.jensen_shannon(p, q) == pytest.approx(drift.jensen_shannon(q, p))
    assert drift.psi(p, p) == drift.kolmogorov_smirnov(p, p) == drift.jensen_shannon(p, p) == 0


def test_what_cannot_be_compared_is_refused() -> None:
    one = np.array([1, 2])
    with pytest.raises(ParameterError, match="same bins"):
        drift.psi(one, np.array([1, 2, 3]))
    with pytest.raises(ParameterError, match="negative"):
        drift.kolmogorov_smirnov(one, np.array([1, -1]))
    with pytest.raises(ParameterError, match="positions"):
        drift.wasserstein(one, one, np.array([1.0]))
    with pytest.raises(ParameterError, match="2 bins"):
        drift.psi(one, one, bins=1)
