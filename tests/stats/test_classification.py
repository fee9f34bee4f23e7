from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from tapeline.stats import RankOrder, brier_losses, hits, log_losses, reliability

ROWS = st.lists(st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.5000001, 0.9]), st.booleans(), st.integers(0, 4)), min_size=4, max_size=40)  # fmt: skip


def arrays(rows):
    score, outcome, weight = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    return score, outcome, weight


@settings(max_examples=50, deadline=None)
@given(rows=ROWS)
def test_losses_against_scikit_learn(rows):
    score, outcome, _ = arrays(rows)
    assert log_losses(score, outcome).mean() == pytest.approx(metrics.log_loss(outcome, score, labels=[0, 1]))
    assert brier_losses(score, outcome).mean() == pytest.approx(metrics.brier_score_loss(outcome, score, pos_label=1))


@settings(max_examples=50, deadline=None)
@given(rows=ROWS.filter(lambda rows: 0 < sum(row[1] for row in rows) < len(rows)))
def test_weighted_auc_against_scikit_learn(rows):
    score, outcome, weight = arrays(rows)
    ranks = RankOrder(score, outcome)
    assert ranks.auc()[0] == pytest.approx(metrics.roc_auc_score(outcome, score))
    given_weights = ranks.auc(np.stack([weight, weight + 1]))
    assert given_weights[1] == pytest.approx(metrics.roc_auc_score(outcome, score, sample_weight=weight + 1))
    kept = weight > 0
    if 0 < outcome[kept].sum() < kept.sum():
        expected = metrics.roc_auc_score(outcome[kept], score[kept], sample_weight=weight[kept])
        assert given_weights[0] == pytest.approx(expected)
    else:
        assert np.isnan(given_weights[0])


def test_strata_are_ranked_apart():
    """Each stratum is ranked perfectly; together their levels would spoil it."""
    score = np.array([0.1, 0.2, 0.8, 0.9])
    outcome = np.array([0.0, 1.0, 0.0, 1.0])
    strata = np.array([1, 1, 0, 0])
    assert RankOrder(score, outcome, strata).auc()[0] == 1.0
    assert RankOrder(score, outcome).auc()[0] == 0.75
    level = np.array([0.3, 0.3, 0.7, 0.7])
    assert RankOrder(level, outcome, strata).auc()[0] == 0.5


def test_one_kind_of_outcome_has_no_area():
    assert np.isnan(RankOrder(np.array([0.1, 0.2]), np.ones(2)).auc()[0])
    assert np.isnan(RankOrder(np.empty(0), np.empty(0)).auc()[0])


def test_certainty_costs_much_but_not_everything():
    assert np.isfinite(log_losses(np.array([0.0, 1.0]), np.array([1.0, 0.0]))).all()
    assert (log_losses(np.array([0.0, 1.0]), np.array([0.0, 1.0])) < 1e-6).all()


def test_no_opinion_is_half_a_hit():
    assert hits(np.array([0.5, 0.6, 0.4]), np.array([1.0, 1.0, 1.0])).tolist() == [0.5, 1.0, 0.0]


def test_reliability_of_a_calibrated_forecast():
    random = np.random.default_rng(0)
    probability = random.uniform(size=50_000)
    curve = reliability(probability, (random.uniform(size=50_000) < probability).astype(float))
    assert [point["rows"] for point in curve] == [5_000] * 10
    assert all(abs(point["probability"] - point["frequency"]) < 0.025 for point in curve)
