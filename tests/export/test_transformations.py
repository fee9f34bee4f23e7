from __future__ import annotations

import warnings

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.feature_selection import VarianceThreshold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    Normalizer,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)  # fmt: skip
from tapeline.core.errors import ParameterError
from tapeline.export import export_model, parity_rows, transformation_graph
from tapeline.models import Calibration, fit_logistic, fit_trees
from tapeline.models.transformations import (
    SCALERS,
    Imputation,
    Imputer,
    fit_preprocessed,
    preprocessing,
    scaler,
    selected,
)

COLUMNS = 9


def make(rows=3_000, seed=0):
    """Real-life columns: small, large, skewed, with few distinct values, constant, missing, infinite."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, COLUMNS))
    x[:, 1] = 1e6 + 50 * x[:, 1]
    x[:, 2] *= 1e-6
    x[:, 3] = np.exp(3 * x[:, 3])
    x[:, 4] = np.round(x[:, 4])
    x[:, 5] = 7.0
    x[:, 6] = -np.exp(x[:, 6])
    x[random.random(x.shape) < 0.05] = np.nan
    x[:, 5] = 7.0
    x[random.random(x.shape) < 0.002] = np.inf
    label = (np.nan_to_num(x[:, 0], posinf=0.0) + random.normal(size=rows) > 0).astype(float)
    return x.astype(np.float32), label


def run(model, rows):
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"features": rows})[0]


def pair(step, rows, fitted_on=None):
    """What ONNX Runtime and scikit-learn give."""
    pipeline = make_pipeline(Imputer(), step)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # overflow far outside what was fitted on
        pipeline.fit(rows if fitted_on is None else fitted_on)
        return run(transformation_graph(pipeline, rows.shape[1]), rows), pipeline.transform(rows)


@pytest.mark.parametrize(
    "step",
    [
        StandardScaler(), StandardScaler(with_mean=False), StandardScaler(with_std=False), MinMaxScaler(),
        MinMaxScaler((-2, 3), clip=True), RobustScaler(), RobustScaler(with_centering=False, quantile_range=(5, 95)),
        RobustScaler(with_scaling=False), VarianceThreshold(),
    ],
    ids=str,
)  # fmt: skip
def test_linear_scalers_are_the_same_to_the_last_bit(step):
    features, _ = make()
    got, expected = pair(step, parity_rows(features, None), features)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    "step",
    [
        scaler("quantile"), scaler("quantile", n_quantiles=7), QuantileTransformer(output_distribution="uniform"),
        QuantileTransformer(output_distribution="normal", n_quantiles=1), scaler("power"),
        scaler("power", standardize=False), PowerTransformer(),
    ],
    ids=lambda step: str(step).replace("\n", ""),
)  # fmt: skip
def test_curved_scalers_are_the_same_to_1e_9(step):
    features, _ = make()
    got, expected = pair(step, features)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)
    if isinstance(step, PowerTransformer):
        return  # overflows far outside the training rows; scaler("power") does not
    far, native = pair(step, parity_rows(features, None), features)
    np.testing.assert_array_equal(np.isnan(far), np.isnan(native))
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(far.astype(np.float32), native.astype(np.float32), rtol=1e-6, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(powers=st.lists(st.floats(-4, 6) | st.sampled_from([0.0, 2.0, 1e-9, 2 - 1e-9, 1e-17, 1.0]), min_size=3, max_size=3),
       size=st.sampled_from([1e-12, 1e-6, 1.0, 30.0]))  # fmt: skip
def test_every_power_at_every_size(powers, size):
    rows = (np.random.default_rng(1).normal(size=(200, 3)) * size).astype(np.float32)
    step = PowerTransformer(standardize=False).fit(np.random.default_rng(0).normal(size=(50, 3)))
    step.lambdas_ = np.array(powers)
    got = run(transformation_graph(step, 3), rows)
    np.testing.assert_allclose(got, step.transform(rows.astype(np.float64)), rtol=1e-12)


def test_the_normal_quantile_is_scipys():
    """A quantile scaler of the identity, so that p is the input itself."""
    p = np.concatenate([np.linspace(1e-6, 1 - 1e-6, 20_001), 10.0 ** np.arange(-6, 0)]).astype(np.float32)[:, None]
    step = QuantileTransformer(output_distribution="normal", n_quantiles=2).fit(np.array([[0.0], [1.0]]))
    np.testing.assert_allclose(
        run(transformation_graph(step, 1), p)[:, 0], norm.ppf(p[:, 0].astype(float)), rtol=1e-12, atol=1e-15
    )


def test_selection_and_imputation_in_one_pipeline():
    features, label = make()
    choice = make_pipeline(VarianceThreshold(), VarianceThreshold(0.6))
    chosen = [Imputation("median"), Imputation("constant", 0.1), Imputation()] * 3
    pipeline = Pipeline([("a", Imputer(chosen)), ("b", RobustScaler()), ("c", choice), ("d", "passthrough")]).fit(
        features, label
    )
    rows = parity_rows(features, None)
    got = run(transformation_graph(pipeline, COLUMNS), rows)
    assert 2 < got.shape[1] == len(selected(pipeline, COLUMNS)) < COLUMNS
    np.testing.assert_array_equal(got, pipeline.transform(rows))


@pytest.mark.parametrize("scaling", [None, *SCALERS])
@pytest.mark.parametrize("family", ["trees", "logistic"])
def test_whole_models_pass_the_gate(family, scaling):
    features, label = make()
    pipeline = preprocessing(Imputation("median"), scaling, VarianceThreshold())

    def fit(x, y):
        return (
            fit_logistic(x, y)
            if family == "logistic"
            else fit_trees(x, y, parameters={"rounds": 20}, seed=1, threads=1)
        )

    model = fit_preprocessed(pipeline, features, label, fit)
    assert model.importance().shape == (COLUMNS,)
    assert model.importance()[5] == 0.0  # the constant one
    assert model.importance().argmax() == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        exported = export_model(model, Calibration(np.array([0.0, 1.0]), np.array([0.0, 1.0])), features)
    assert exported.forest is None
    assert exported.parity.score_difference_max < 1e-6


def test_fitted_on_training_rows_only():
    features, label = make()
    pipelines = [preprocessing(Imputation("median"), "robust") for _ in range(2)]
    other = features.copy()
    other[2_000:] *= 100
    models = [
        fit_preprocessed(pipeline, x[:2_000], label[:2_000], fit_logistic)
        for pipeline, x in zip(pipelines, (features, other), strict=True)
    ]
    np.testing.assert_array_equal(models[0].score(features[:2_000]), models[1].score(features[:2_000]))


def test_what_has_no_export():
    for step, match in ((Normalizer(), "Normalizer cannot"), (StandardScaler(), "not fitted"),
                        (PowerTransformer(method="box-cox").fit([[1.0], [2.0]]), "yeo-johnson")):  # fmt: skip
        with pytest.raises(ParameterError, match=match):
            transformation_graph(step, 1)
