from __future__ import annotations

import lightgbm
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from tapeline.core.errors import ParameterError, ParityError
from tapeline.export import (
    Knots,
    Linear,
    build_graph,
    check_parity,
    float32_below,
    parity_rows,
    tree_arrays,
)
from tapeline.registry.replay import open_session, run_session

IDENTITY = Knots(np.array([0.0, 1.0]), np.array([0.0, 1.0]))


def make_data(rows=3_000, columns=12, seed=0):
    random = np.random.default_rng(seed)
    features = random.normal(size=(rows, columns)).astype(np.float32)
    features[:, 3] *= 1e6
    features[:, 4] *= 1e-6
    features[:, 5] = np.round(features[:, 5])
    features[random.random(features.shape) < 0.08] = np.nan
    features[:, 0] = random.normal(size=rows)  # a column without missing values: LightGBM then reads NaN as 0
    label = (features[:, 0] + np.nan_to_num(features[:, 1]) + random.normal(size=rows) > 0).astype(np.float64)
    return features, label


def make_booster(features, label, rounds=60, **parameters):
    base = {"objective": "binary", "num_leaves": 15, "verbose": -1, "num_threads": 1, "deterministic": True}
    data = lightgbm.Dataset(features.astype(np.float64), label)
    return lightgbm.train(base | {"force_row_wise": True} | parameters, data, rounds)


def native_of(booster, calibrate=lambda score: score):
    def native(rows):
        score = booster.predict(rows.astype(np.float64))
        return calibrate(score), score

    return native


@pytest.fixture(scope="module")
def trained():
    features, label = make_data()
    return features, label, make_booster(features, label)


def test_trees_and_isotonic_are_exact(trained):
    features, label, booster = trained
    score = booster.predict(features.astype(np.float64))
    isotonic = IsotonicRegression(out_of_bounds="clip", y_min=0.01, y_max=0.99).fit(np.round(score, 6), label)
    model = build_graph(
        feature_count=12,
        core=tree_arrays(booster),
        calibration=Knots(isotonic.X_thresholds_, isotonic.y_thresholds_),
    )
    rows = parity_rows(features, tree_arrays(booster))
    report = check_parity(model, native_of(booster, isotonic.predict), rows)
    assert report.rows == len(rows) >= 10_000
    # Half a unit in the last place of a float32 below 1: nothing but the final rounding is lost.
    assert report.probability_difference_max < 6e-8
    assert report.score_difference_max < 6e-8


def test_names_shapes_and_metadata(trained):
    _, _, booster = trained
    model = build_graph(
        feature_count=12, core=tree_arrays(booster), calibration=IDENTITY, metadata={"model": "m", "dataset": "d"}
    )
    session = open_session(model)
    assert [(n.name, n.type, n.shape) for n in session.get_inputs()] == [("features", "tensor(float)", ["rows", 12])]
    assert [(n.name, n.type, n.shape) for n in session.get_outputs()] == [
        ("probability", "tensor(float)", ["rows"]),
        ("score", "tensor(float)", ["rows"]),
    ]
    assert session.get_modelmeta().custom_metadata_map == {"model": "m", "dataset": "d"}
    for rows in (1, 7):
        given = run_session(session, np.zeros((rows, 12), dtype=np.float32))
        assert given["probability"].shape == given["score"].shape == (rows,)


def test_export_is_deterministic(trained):
    features, label, booster = trained
    again = make_booster(features, label)
    models = [
        build_graph(feature_count=12, core=tree_arrays(b), calibration=IDENTITY, metadata={"b": "1", "a": "2"})
        for b in (booster, again)
    ]
    assert models[0] == models[1]


@pytest.mark.parametrize("column", [0, 1])
def test_missing_values_take_lightgbms_branch(trained, column):
    """Column 0 had no missing value in training, column 1 had: LightGBM treats a NaN in the two differently."""
    features, _, booster = trained
    rows = np.nan_to_num(features[:500]).copy()
    rows[:, column] = np.nan
    zeros = rows.copy()
    zeros[:, column] = 0.0
    model = build_graph(feature_count=12, core=tree_arrays(booster), calibration=IDENTITY)
    given = run_session(open_session(model), rows)["score"]
    np.testing.assert_allclose(given, booster.predict(rows.astype(np.float64)), atol=6e-8)
    same_as_zero = np.allclose(given, booster.predict(zeros.astype(np.float64)), atol=6e-8)
    assert same_as_zero == (column == 0)


def test_a_threshold_rounded_to_nearest_is_caught(trained):
    """The gate's edge rows find the defect that float32_below prevents."""
    features, _, booster = trained
    arrays = tree_arrays(booster)
    wrong = tree_arrays(booster)
    below = arrays.thresholds()
    rounded_up = np.nextafter(below.astype(np.float32), np.float32(1e38)).astype(np.float64)
    wrong.threshold = np.where(below < arrays.threshold, rounded_up, below).tolist()
    model = build_graph(feature_count=12, core=wrong, calibration=IDENTITY)
    with pytest.raises(ParityError, match="parity row"):
        check_parity(model, native_of(booster), parity_rows(features, arrays))


def test_wrong_missing_branches_are_caught(trained):
    features, _, booster = trained
    wrong = tree_arrays(booster)
    wrong.missing_goes_left = [1 - side for side in wrong.missing_goes_left]
    model = build_graph(feature_count=12, core=wrong, calibration=IDENTITY)
    with pytest.raises(ParityError):
        check_parity(model, native_of(booster), parity_rows(features, wrong))


@settings(max_examples=300, deadline=None)
@given(
    threshold=st.floats(allow_nan=False, allow_infinity=False),
    x=st.floats(width=32, allow_nan=False),
    near=st.integers(-2, 2),
)
def test_rounding_down_keeps_every_comparison(threshold, x, near):
    below = float32_below(np.array([threshold]))[0]
    beside = np.float32(below)
    with np.errstate(over="ignore"):
        for _ in range(abs(near)):
            beside = np.nextafter(beside, np.float32(np.inf) if near > 0 else np.float32(-np.inf))
    for value in (np.float32(x), beside):
        assert (float(value) <= threshold) == (value <= below)


def test_a_model_without_a_split(trained):
    features, label, _ = trained
    booster = make_booster(features, label, rounds=3, min_data_in_leaf=100_000)
    model = build_graph(feature_count=12, core=tree_arrays(booster), calibration=IDENTITY)
    report = check_parity(model, native_of(booster), features[:100])
    assert report.score_difference_max < 6e-8
    assert len(set(run_session(open_session(model), features[:5])["score"])) == 1


def test_linear_with_imputation(trained):
    features, _, _ = trained
    random = np.random.default_rng(2)
    fill, centre, weight = (random.normal(size=12) for _ in range(3))
    scale = random.uniform(0.5, 2, size=12)
    model = build_graph(feature_count=12, core=Linear(centre, scale, weight, 0.3), calibration=IDENTITY, fill=fill)

    def native(rows):
        filled = np.where(np.isnan(rows), fill.astype(np.float32), rows).astype(np.float64)
        score = 1 / (1 + np.exp(-(((filled - centre) / scale) @ weight + 0.3)))
        return score, score

    finite = features.copy()
    finite[:, 3] /= 1e6
    assert check_parity(model, native, finite).probability_difference_max < 6e-8


@pytest.mark.parametrize(
    "knots",
    [
        Knots(np.array([0.5, 0.5]), np.array([0.1, 0.2])),
        Knots(np.array([0.5]), np.array([0.1])),
        Knots(np.array([0.5, 0.6]), np.array([0.1])),
    ],
)
def test_knots_that_are_no_function(knots):
    core = Linear(np.zeros(1), np.ones(1), np.ones(1), 0.0)
    with pytest.raises(ParameterError, match="knots"):
        build_graph(feature_count=1, core=core, calibration=knots)


def test_arrays_of_a_wrong_length():
    core = Linear(np.zeros(2), np.ones(1), np.ones(1), 0.0)
    with pytest.raises(ParameterError, match="centre"):
        build_graph(feature_count=1, core=core, calibration=IDENTITY)


@pytest.mark.parametrize(
    ("parameters", "reason"), [({"zero_as_missing": True}, "zero"), ({"linear_tree": True}, "linear")]
)
def test_forms_that_training_never_makes(trained, parameters, reason):
    features, label, _ = trained
    with pytest.raises(ParameterError, match=reason):
        tree_arrays(make_booster(features, label, rounds=5, **parameters))


def test_categorical_splits_are_refused(trained):
    features, label, _ = trained
    data = lightgbm.Dataset(np.abs(np.nan_to_num(np.round(features))), label, categorical_feature=[0])
    booster = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 5)
    with pytest.raises(ParameterError, match="numeric"):
        tree_arrays(booster)


def test_the_written_opsets_are_old_enough_for_the_oldest_runtime(trained):
    model = onnx.load_from_string(build_graph(feature_count=12, core=tree_arrays(trained[2]), calibration=IDENTITY))
    assert {o.domain: o.version for o in model.opset_import} == {"": 18, "ai.onnx.ml": 5}


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_linear_model_is_exact_however_few_its_features(count):
    """Where the calibration is steep, a weight that was rounded to float32 on the way would show."""
    random = np.random.default_rng(count)
    centre, scale, weight = random.normal(size=count), random.uniform(0.3, 3.0, count), random.normal(size=count)
    knots = Knots(np.array([0.2, 0.5, 0.5005, 0.8]), np.array([0.1, 0.1, 0.9, 0.9]))
    core = Linear(centre, scale, weight, float(-5.0 * weight.sum()))
    fill = np.zeros(count)

    def native(rows):
        filled = np.where(np.isfinite(rows), rows, 0.0).astype(np.float64)
        with np.errstate(over="ignore"):
            score = 1.0 / (1.0 + np.exp(-((filled - centre) / scale @ weight + core.bias)))
        return np.interp(score, knots.x, knots.y), score

    rows = (centre + scale * (5.0 + 0.001 * random.normal(size=(3_000, count)))).astype(np.float32)
    model = build_graph(feature_count=count, core=core, calibration=knots, fill=fill)
    report = check_parity(model, native, np.concatenate([rows, parity_rows(rows, None)]), tolerance=1e-7)
    assert report.probability_difference_max < 6e-8
