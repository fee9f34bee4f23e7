from __future__ import annotations

import numpy as np
import pytest
from tapeline.stats import sharpe, staggered_returns


def test_costs_are_paid_for_changes_of_each_book():
    position = np.array([[1.0], [1.0], [1.0], [-1.0], [np.nan], [-1.0]])
    outcome = np.zeros((6, 1))
    net = staggered_returns(position, outcome, 2, 0.01)
    # Books trade at times 0, 2, 4 and 1, 3, 5: enter, enter, hold, turn around, nothing, hold.
    np.testing.assert_allclose(net, [-0.01, -0.01, 0.0, -0.02, np.nan, 0.0])


def test_instruments_without_a_decision_do_not_dilute():
    position = np.array([[1.0, np.nan], [1.0, -1.0]])
    outcome = np.array([[0.1, 0.2], [0.1, 0.3]])
    np.testing.assert_allclose(staggered_returns(position, outcome, 1, 0.0), [0.1, -0.1])


def test_annualisation_of_overlapping_outcomes():
    """Daily decisions on five-day outcomes have the Sharpe ratio of the daily strategy that they are."""
    random = np.random.default_rng(0)
    daily = random.normal(0.001, 0.01, size=60_004)
    five = np.convolve(daily, np.ones(5), mode="valid")
    expected = 0.1 * np.sqrt(252)
    assert sharpe(five, None, 252 / 5)[0] == pytest.approx(expected, rel=0.1)


def test_weights_are_repetitions():
    random = np.random.default_rng(1)
    returns = random.normal(size=20)
    counts = random.integers(0, 4, size=(3, 20)).astype(float)
    expected = [
        np.mean(r) / np.std(r, ddof=1) * np.sqrt(50) for r in (np.repeat(returns, row.astype(int)) for row in counts)
    ]
    np.testing.assert_allclose(sharpe(returns, counts, 50), expected)


def test_no_variation_is_no_ratio():
    assert sharpe(np.full(5, 0.01), None, 252)[0] == 0.0
