"""Selection of features inside a training: on each window alone, exported, and reported with its stability."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from tapeline.core.errors import InvalidDataError, ParameterError
from tapeline.registry import replay_bundle
from tapeline.training import TrainingConfig, load_dataset, read_config, train, walk
from tapeline.training.walk import fit_model, selected_by

from tests.datasets.market import sessions_from
from tests.training.folders import random_walks, write_dataset

SMALL = {
    "train_steps": 150, "test_steps": 50, "calibration_folds": 2, "resamples": 200, "workers": 1, "permutations": 0,
    "parameters": {"rounds": 20, "min_data_in_leaf": 20, "num_leaves": 7, "learning_rate": 0.1},
}  # fmt: skip
METHODS = [
    "variance",
    "correlation",
    {"method": "mutual_information", "features": 2},
    {"method": "l1", "strength": 0.05},
    {"method": "trees", "trees": 20},
    {"method": "elimination", "step": 2},
    {"method": "elimination", "estimator": "trees", "trees": 10, "step": 3},
]


@pytest.fixture(scope="module")
def sessions():
    return sessions_from("2008-01-02", 420)


@pytest.fixture(scope="module")
def telling(sessions, tmp_path_factory):
    """Six features, of which the first tells something; the seventh nearly copies it, the eighth never changes."""
    closes, features, names = random_walks(sessions, signal=1.0)
    random = np.random.default_rng(9)
    for symbol, values in features.items():
        copied = values[:, :1] + 0.1 * random.normal(size=(len(values), 1))
        features[symbol] = np.column_stack([values, copied, np.full(len(values), 3.0)])
    folder = tmp_path_factory.mktemp("selecting") / "d"
    write_dataset(folder, sessions, closes, features, (*names, "copied", "constant"))
    return folder


def config_of(selection, **changes) -> TrainingConfig:
    return read_config(None, **SMALL, selection=selection, **changes)


@pytest.mark.parametrize(
    "selection", METHODS, ids=lambda one: "_".join(map(str, one.values())) if isinstance(one, dict) else one
)
def test_a_selection_is_exported_and_reported(telling, tmp_path, selection):
    family = "logistic" if selection in METHODS[1:4] else "lightgbm"
    trained = train(telling, "chosen", tmp_path / "b", config=config_of(selection, family=family))
    replay_bundle(tmp_path / "b", trained.manifest)
    assert trained.parity.probability_difference_max < 1e-6
    found = trained.manifest.metrics["selection"]
    json.dumps(found, allow_nan=False)
    assert found["method"] == (selection if isinstance(selection, str) else selection["method"])
    names = [feature.name for feature in trained.manifest.features]
    assert list(found["frequency"]) == names
    assert 0 < len(found["features"]) < len(names)
    assert "constant" not in found["features"] or found["method"] == "correlation"
    assert {"f0", "copied"} & set(found["features"])
    folds = trained.manifest.training["folds"]
    share = np.array(list(found["frequency"].values()))
    apart = len(folds) / (len(folds) - 1) * (share * (1 - share)).mean()
    assert found["stability"] == pytest.approx(1 - apart / (share.mean() * (1 - share.mean())))
    assert sum(fold["selected"] for fold in folds) == pytest.approx(len(folds) * sum(found["frequency"].values()))
    # What was not selected has no part in the graph: its value cannot matter.
    gathered = [
        onnx.numpy_helper.to_array(constant).tolist()
        for constant in onnx.load(tmp_path / "b" / "model.onnx").graph.initializer
    ]
    assert [names.index(name) for name in found["features"]] in gathered
    assert {row["feature"] for row in trained.importance if row["gain"] > 0} <= set(found["features"])


@pytest.mark.parametrize("scaling", [None, "robust"])
def test_what_a_logistic_model_fills_in_is_recorded_behind_a_selection(telling, tmp_path, scaling):
    config = config_of("correlation", family="logistic", scaling=scaling, imputations={"f1": 0.5})
    trained = train(telling, "filled", tmp_path / "b", config=config)
    data, _ = load_dataset(telling)
    fills = dict(zip(data.names, trained.manifest.training["imputation_fill"], strict=True))
    for feature, values in zip(trained.manifest.features, data.inputs.T, strict=True):
        if feature.name == "f1":
            assert (feature.imputation, fills["f1"]) == ("constant", 0.5)
        elif feature.name in trained.manifest.metrics["selection"]["features"]:
            assert feature.imputation == "median"
            assert fills[feature.name] == (None if scaling else float(np.nanmedian(values)))
        else:
            assert (feature.imputation, fills[feature.name]) == ("none", None)


def test_a_window_of_one_class_inside_the_folds_is_no_obstacle_to_trees(telling):
    data, _ = load_dataset(telling)
    rows = np.flatnonzero(data.step < 120)
    rising = data.with_outcomes((data.step >= 80).astype(float), data.forward_return)
    seen = selected_by(fit_model(rising, rows, config_of({"method": "trees", "trees": 5, "folds": 3})), 8)
    assert 1 <= seen.sum() < 8


def test_without_a_selection_nothing_is_said(telling, tmp_path):
    trained = train(telling, "all_of_them", tmp_path / "b", config=config_of(None))
    assert "selection" not in trained.manifest.metrics
    assert "selected" not in trained.manifest.training["folds"][0]


@pytest.mark.parametrize("selection", [METHODS[2], METHODS[3], METHODS[5]], ids=["information", "l1", "elimination"])
def test_a_choice_sees_its_training_window_alone(telling, selection):
    """Altering every later row and outcome changes no earlier choice; altering its own rows does."""
    data, _ = load_dataset(telling)
    config = config_of(selection, family="logistic")
    full = walk(data, config, baselines=False)
    cut = full.folds[2]["first_test_us"]
    swapped = data.features.copy()
    later = data.event_us >= cut
    swapped[later] = np.roll(swapped[later], 3, axis=1)
    other_data = replace(data, features=swapped).with_outcomes(
        np.where(data.end_us > cut, 1.0 - data.label, data.label), data.forward_return
    )
    other = walk(other_data, config, baselines=False)
    assert full.selected.shape == (len(full.folds), len(data.names))
    np.testing.assert_array_equal(other.selected[:3], full.selected[:3])
    moved = walk(replace(data, features=np.roll(data.features, 3, axis=1)), config, baselines=False)
    assert (moved.selected != full.selected).any()


def test_the_same_rows_make_the_same_choice(telling):
    data, _ = load_dataset(telling)
    rows = np.flatnonzero(data.step < 200)
    config = config_of(METHODS[4])
    first, again = (selected_by(fit_model(data, rows, config), len(data.names)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not selected_by(fit_model(data, rows, config_of("variance")), 8)[7]
    assert selected_by(fit_model(data, rows, config_of(None)), 8).all()


@pytest.mark.parametrize(
    ("selection", "match"),
    [
        ("magic", "'magic' found using 'method' does not match"),
        ({"correlation_max": 0.5}, "Unable to extract tag using discriminator 'method'"),
        ("mutual_information", "mutual_information.features: Field required"),
        ({"method": "correlation", "correlation_max": 1.0}, "correlation_max: Input should be less than 1"),
        ({"method": "l1", "strenght": 1.0}, "strenght: Extra inputs are not permitted"),
        ({"method": "elimination", "folds": 1}, "folds: Input should be greater than or equal to 2"),
        ({"method": "variance", "threshold": float("nan")}, "threshold"),
    ],
)
def test_bad_selections_are_named(selection, match):
    with pytest.raises(ParameterError, match=match):
        config_of(selection)


def test_what_only_the_data_can_refuse(telling, tmp_path):
    with pytest.raises(ParameterError, match="9 features are to be kept of 8"):
        train(telling, "m", tmp_path / "b", config=config_of({"method": "mutual_information", "features": 9}))
    with pytest.raises(InvalidDataError, match="VarianceThreshold on"):
        train(telling, "m", tmp_path / "b", config=config_of({"method": "variance", "threshold": 1e9}))
    data, _ = load_dataset(telling)
    bullish = data.with_outcomes(np.ones(len(data.label)), data.forward_return)
    with pytest.raises(InvalidDataError, match="no features can be selected"):
        walk(bullish, config_of("l1"), baselines=False)
    assert not (tmp_path / "b").exists()


def test_a_last_value_is_referred_to_the_view(tmp_path):
    for values in ({"imputation": "last"}, {"imputations": {"rsi_14": "last_5d"}}):
        with pytest.raises(ParameterError, match="give the feature last_within there"):
            read_config(None, **values)
    (tmp_path / "c.toml").write_text('[selection]\nmethod = "trees"\ntrees = 10\n')
    assert read_config(tmp_path / "c.toml").selection.trees == 10
    (tmp_path / "d.toml").write_text('selection = "correlation"\n')
    assert read_config(tmp_path / "d.toml").selection.correlation_max == 0.9
