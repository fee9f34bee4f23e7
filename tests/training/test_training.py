from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from tapeline.core.errors import (
    EmptyDataError,
    IntegrityError,
    InvalidDataError,
    LineageError,
    ParameterError,
    UnknownNameError,
)
from tapeline.core.timestamps import DAY_US
from tapeline.features.request import FeatureRequest
from tapeline.registry import read_sample, replay_bundle, verify_bundle
from tapeline.training import TrainingConfig, evaluate, leakage_test, load_dataset, read_config, train, walk
from tapeline.training.baselines import cross_state, last_known_label
from tapeline.training.walk import MODEL

from tests.datasets.market import sessions_from
from tests.training.folders import random_walks, write_dataset

SMALL = TrainingConfig(
    train_steps=150, test_steps=50, calibration_folds=2, resamples=200, workers=1,
    parameters={"rounds": 30, "min_data_in_leaf": 20, "num_leaves": 7, "learning_rate": 0.1},
)  # fmt: skip


@pytest.fixture(scope="module")
def sessions():
    return sessions_from("2008-01-02", 520)


@pytest.fixture(scope="module")
def telling(sessions, tmp_path_factory):
    """A data set whose first feature tells a good deal of the next five sessions."""
    folder = tmp_path_factory.mktemp("telling") / "d"
    write_dataset(folder, sessions, *random_walks(sessions, signal=1.0))
    return folder


@pytest.fixture(scope="module")
def silent(sessions, tmp_path_factory):
    """A data set without any information, but with a drift."""
    folder = tmp_path_factory.mktemp("silent") / "d"
    write_dataset(folder, sessions, *random_walks(sessions, seed=5, drift=lambda _: 0.001))
    return folder


@pytest.fixture(scope="module")
def trained(telling, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundle") / "b"
    return out, train(telling, "synthetic_direction", out, config=SMALL)


def test_a_bundle_comes_out(trained, telling):
    out, result = trained
    manifest = verify_bundle(out, address=result.manifest.address)
    replay_bundle(out, manifest)
    sample = read_sample(out / "sample.npz")
    assert sample.features.shape == (65, 6)
    assert np.isnan(sample.features[-1]).all()
    assert [str(feature) for feature in manifest.features] == [f"synthetic@v1:f{i}" for i in range(6)]
    data, dataset = load_dataset(telling)
    assert manifest.dataset_sha256 == dataset.content_sha256
    close = np.array(manifest.views[0].sessions.close_us)
    assert (close < data.event_us.max()).sum() > 240
    assert (close > data.event_us.max()).sum() > 480
    assert result.parity.rows > 5_000
    assert result.parity.probability_difference_max < 1e-7
    json.dumps(manifest.metrics, allow_nan=False)
    assert manifest.training["folds"][0]["evaluated"] == 0


def test_a_model_that_knows_something_is_seen_to(trained):
    _, result = trained
    scores, loss = result.evaluation.scores, result.evaluation.comparisons["log_loss"]
    assert scores[MODEL]["roc_auc"].low > 0.55
    # The data set is linear, so logistic regression is a fair rival; the others know nothing.
    assert scores[MODEL]["log_loss"].value < scores["base_rate"]["log_loss"].value - 0.02
    assert loss.baseline == "logistic_regression"
    assert "ranks outcomes better than chance" in result.verdict
    assert result.importance[0]["feature"] == "f0"
    assert result.importance[0]["permutation"] > 3 * result.importance[0]["permutation_error"]
    assert result.evaluation.details["overlap_steps"] == 5


def test_a_model_that_knows_nothing_is_said_to(silent):
    data, _ = load_dataset(silent)
    evaluation = evaluate(data, walk(data, SMALL), SMALL)
    assert evaluation.scores[MODEL]["roc_auc"].low < 0.5 < evaluation.scores[MODEL]["roc_auc"].high
    from tapeline.training.verdict import beats_baselines, verdict

    assert not beats_baselines(evaluation)
    assert "no evidence" in verdict(evaluation) or "worse than" in verdict(evaluation)
    assert "cannot be told from chance" in verdict(evaluation)


def test_the_same_data_gives_the_same_bundle(trained, telling, tmp_path):
    _, result = trained
    again = train(telling, "synthetic_direction", tmp_path / "b", config=SMALL.model_copy(update={"workers": 3}))
    assert again.manifest.files == result.manifest.files
    mine, theirs = (m.model_dump() for m in (again.manifest, result.manifest))
    mine["training"]["config"].pop("workers")
    theirs["training"]["config"].pop("workers")
    assert mine == theirs


@pytest.mark.parametrize("step", [300, 330])
def test_later_rows_never_change_an_earlier_prediction(telling, step):
    """Everything evaluated in a fold, calibration included, comes from what was known at the fold's start: at 300, where a
    test window begins, the labels of the window before it have not all ended.
    """
    data, _ = load_dataset(telling)
    full = walk(data, SMALL)
    cut = data.times[step]
    poisoned = data.with_outcomes(
        np.where(data.end_us > cut, 1.0 - data.label, data.label),
        np.where(data.end_us > cut, -data.forward_return, data.forward_return),
    )
    other = walk(poisoned, SMALL)
    window = [f for f in full.folds if f["first_test_us"] <= cut][-1]
    before = data.event_us[full.rows] <= window["last_test_us"]
    assert 0 < before.sum() < len(before)
    for name, probability in full.probability.items():
        # Within a window only the last direction learns on: it reads each row's own past.
        same = data.event_us[full.rows] <= cut if name == "last_direction" else before
        np.testing.assert_array_equal(probability[same], other.probability[name][same])
    assert (full.probability[MODEL] != other.probability[MODEL])[~before].any()


def test_shuffled_outcomes_earn_nothing(silent):
    """Twelve shuffles in the tests; `leakage_test` makes 200 where it is asked to."""
    data, _ = load_dataset(silent)
    config = SMALL.model_copy(update={"parameters": SMALL.parameters | {"rounds": 10}})
    report = leakage_test(data, config, shuffles=12)
    assert report.passed
    assert report.standard_error < 0.5


def test_a_leaking_feature_is_caught_by_its_sharpe(silent):
    """The same test with a feature that looks ahead: the folds cannot help, and the Sharpe ratio tells."""
    data, _ = load_dataset(silent)
    leaking = data.features.copy()
    leaking[:, 1] = data.forward_return
    from dataclasses import replace

    walked = walk(replace(data, features=leaking), SMALL)
    assert evaluate(data, walked, SMALL).scores[MODEL]["sharpe"].low > 3


def test_logistic_models_train_and_export(telling, tmp_path):
    result = train(telling, "synthetic_linear", tmp_path / "b", config=SMALL.model_copy(update={"family": "logistic"}))
    assert result.parity.probability_difference_max < 1e-6
    assert result.evaluation.scores[MODEL]["roc_auc"].low > 0.55
    replay_bundle(tmp_path / "b", result.manifest)


@pytest.mark.parametrize(("family", "scaling"), [("logistic", "power"), ("lightgbm", "quantile"), ("lightgbm", None)])
def test_preprocessing_is_exported_and_recorded(telling, tmp_path, family, scaling):
    first, *others = load_dataset(telling)[0].names
    config = SMALL.model_copy(
        update={"family": family, "scaling": scaling, "imputation": "median", "imputations": {first: 0.5}}
    )
    done = train(telling, "prepared", tmp_path / "bundle", config=config)
    assert done.parity.probability_difference_max < 1e-6
    assert [one.imputation for one in done.manifest.features] == ["constant"] + ["median"] * len(others)
    fill = done.manifest.training["imputation_fill"]
    assert fill[0] == 0.5
    assert all(isinstance(one, float) for one in fill)
    replay_bundle(tmp_path / "bundle", done.manifest)
    with pytest.raises(UnknownNameError, match=first):
        train(telling, "wrong", tmp_path / "w", config=SMALL.model_copy(update={"imputations": {first + "x": 0.5}}))


def test_the_limit_of_a_last_value_is_recorded(sessions, tmp_path):
    """Beside what the graph does with what is still missing."""
    request = FeatureRequest.of("BBANDS", last_within="3d")
    closes, features, _ = random_walks(sessions, symbols=1)
    write_dataset(tmp_path / "d", sessions, closes, features, request.columns, requests=(request,))
    imputations = {request.columns[0]: 0.5, request.columns[1]: "median"}
    config = SMALL.model_copy(update={"imputations": imputations, "permutations": 0})
    done = train(tmp_path / "d", "held", tmp_path / "b", config=config)
    assert [(f.last_within_us, f.imputation) for f in done.manifest.features] == [
        (3 * DAY_US, "constant"), (3 * DAY_US, "median"), (3 * DAY_US, "none"), *[(None, "none")] * 3,
    ]  # fmt: skip
    assert verify_bundle(tmp_path / "b", address=done.manifest.address) == done.manifest


def test_last_known_label_is_known(telling):
    data, _ = load_dataset(telling)
    state = last_known_label(data)
    for row in np.random.default_rng(0).choice(len(state), 60, replace=False):
        mine = (data.symbol == data.symbol[row]) & (data.end_us <= data.event_us[row])
        newest = data.label[mine][data.end_us[mine].argmax()] if mine.any() else -1
        assert state[row] == newest


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("rsi_14", "sma_50", "sma_10", "ema_20"), (2, 1)),
        (("ema_20", "view__sma_20"), (0, 1)),
        (("x", "macd_12_26_9"), (1, None)),
        (("x", "rsi_14"), None),
    ],
)
def test_the_cross_finds_its_averages(telling, names, expected):
    from dataclasses import replace

    data, _ = load_dataset(telling)
    data = replace(data, names=names, features=data.features[:, : len(names)])
    state = cross_state(data, None)
    if expected is None:
        assert state is None
        return
    fast, slow = expected
    difference = data.features[:, fast] - (data.features[:, slow] if slow is not None else 0)
    np.testing.assert_array_equal(state, np.where(np.isnan(difference), -1, difference > 0))
    with pytest.raises(UnknownNameError, match="moving_averages"):
        cross_state(data, ("nothing", names[0]))


def test_altered_data_is_refused(sessions, tmp_path):
    folder = tmp_path / "d"
    write_dataset(folder, sessions, *random_walks(sessions, symbols=1))
    table = pq.read_table(folder / "data" / "part-00000.parquet")
    pq.write_table(table.slice(1), folder / "data" / "part-00000.parquet")
    with pytest.raises(IntegrityError, match="SHA-256"):
        load_dataset(folder)
    (folder / "data" / "part-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(IntegrityError, match="cannot be read"):
        load_dataset(folder)
    with pytest.raises(IntegrityError, match="no data set manifest"):
        load_dataset(tmp_path)


def test_labels_that_are_no_classes(sessions, tmp_path):
    write_dataset(tmp_path / "d", sessions, *random_walks(sessions, symbols=1), label="forward_return:5d")
    with pytest.raises(InvalidDataError, match="forward_return:5d"):
        load_dataset(tmp_path / "d")


def test_too_little_data_leaves_nothing(telling, tmp_path):
    with pytest.raises(EmptyDataError, match="too few"):
        train(telling, "m", tmp_path / "b", config=TrainingConfig())
    with pytest.raises(EmptyDataError, match="folds are too few"):
        train(telling, "m", tmp_path / "b", config=SMALL.model_copy(update={"calibration_folds": 20}))
    assert list(tmp_path.iterdir()) == []


def test_a_view_that_nobody_can_serve(telling, tmp_path):
    import shutil

    folder = shutil.copytree(telling, tmp_path / "d")
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    content["views"][0]["lineage_hash"] = None
    path.write_text(json.dumps(content))
    with pytest.raises(LineageError, match="not registered"):
        train(folder, "m", tmp_path / "b", config=SMALL)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("train_steps = 3", "train_steps"),
        ("unheard_of = 3", "unheard_of"),
        ("family = 'forest'", "family"),
        ("= 3", "cannot be read"),
    ],
)
def test_bad_configurations(tmp_path, text, match):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ParameterError, match=match):
        read_config(tmp_path / "c.toml")


def test_configurations(tmp_path):
    (tmp_path / "c.toml").write_text("seed = 3\n[parameters]\nrounds = 5\n")
    config = read_config(tmp_path / "c.toml", seed=4, window=None)
    assert (config.seed, config.parameters, config.window) == (4, {"rounds": 5}, "expanding")
    with pytest.raises(ParameterError, match="cannot be read"):
        read_config(tmp_path / "absent.toml")
