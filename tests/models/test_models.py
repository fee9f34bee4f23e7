from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from tapeline.core.errors import ParameterError
from tapeline.models import fit_isotonic, fit_logistic, fit_rates, fit_trees


def make(rows=1_500, seed=0):
    random = np.random.default_rng(seed)
    features = random.normal(size=(rows, 5)).astype(np.float32)
    features[random.random(features.shape) < 0.1] = np.nan
    label = (np.nan_to_num(features[:, 2]) + random.normal(size=rows) > 0).astype(float)
    return features, label


def trees(features, label, **parameters):
    return fit_trees(features, label, parameters={"rounds": 60} | parameters, seed=1, threads=1)


@pytest.mark.parametrize("fit", [trees, fit_logistic])
def test_every_family(fit):
    features, label = make()
    model, again = fit(features, label), fit(features, label)
    score = model.score(features)
    assert score.dtype == np.float64
    assert ((score > 0) & (score < 1)).all()
    assert (score[label == 1].mean() - score[label == 0].mean()) > 0.1
    np.testing.assert_array_equal(score, again.score(features))
    assert model.importance().sum() == pytest.approx(1)
    assert model.importance().argmax() == 2
    # A row's score depends on that row alone.
    np.testing.assert_allclose(model.score(features[5:6]), score[5:6], rtol=1e-12)


@pytest.mark.parametrize("fit", [trees, fit_logistic])
def test_strange_columns(fit):
    features, label = make(300)
    features[:, 0] = np.nan
    features[:, 1] = 3.0
    features[5, 3] = np.inf
    model = fit(features, label)
    assert np.isfinite(model.score(features)).all()
    assert model.importance()[:2].tolist() == [0.0, 0.0]
    alone = fit(features, np.ones(300))
    assert (alone.score(features) > 0.9).all()


def test_parameters_that_are_fixed_or_wrong():
    features, label = make(300)
    with pytest.raises(ParameterError, match="zero_as_missing"):
        trees(features, label, zero_as_missing=True)
    with pytest.raises(ParameterError, match="LightGBM refuses"):
        trees(features, label, num_leaves=-4)


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60),
    asked=st.lists(st.floats(-1, 2), min_size=1, max_size=20),
)
def test_isotonic_is_scikit_learns(rows, asked):
    score, label = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    calibration = fit_isotonic(score, label)
    expected = IsotonicRegression(y_min=0.01, y_max=0.99, out_of_bounds="clip").fit(np.round(score, 6), label)
    np.testing.assert_allclose(calibration(np.array(asked)), expected.predict(np.array(asked)), atol=1e-12)
    assert len(calibration.x) >= 2
    assert (np.diff(calibration.x) > 0).all()
    assert (np.diff(calibration.y) >= 0).all()
    assert 0.01 <= calibration.y.min() <= calibration.y.max() <= 0.99


def test_rates():
    state = np.array([0, 0, 0, 1, 1, -1])
    label = np.array([1.0, 1, 0, 0, 0, 1])
    model = fit_rates(state, label)
    np.testing.assert_allclose(model.score(np.array([0, 1, -1])), [3 / 5, 1 / 4, 4 / 8])
