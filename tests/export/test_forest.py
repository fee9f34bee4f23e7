"""Trees as compiled code: the same bits as ONNX Runtime, whatever the rows, and nothing that could lead out of an array."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from tapeline.core.errors import IntegrityError, ParityError
from tapeline.export import Knots, build_graph, check_parity, compiled_forest, parity_rows, tree_arrays
from tapeline.export.trees import TreeArrays
from tapeline.registry.forest import FOREST_NAME, Forest, check_forest, read_forest
from tapeline.registry.replay import Sample, open_session, run_session

from tests.export.test_export_onnx import IDENTITY, make_booster, make_data, native_of


@pytest.fixture(scope="module")
def exported():
    features, label = make_data()
    booster = make_booster(features, label, rounds=61)  # no multiple of a block
    score = np.round(booster.predict(features.astype(np.float64)), 6)
    isotonic = IsotonicRegression(out_of_bounds="clip", y_min=0.01, y_max=0.99).fit(score, label)
    knots = Knots(isotonic.X_thresholds_, isotonic.y_thresholds_)
    trees = tree_arrays(booster)
    graph = build_graph(feature_count=12, core=trees, calibration=knots)
    return booster, isotonic, trees, graph, compiled_forest(trees, knots, 12), parity_rows(features, trees)


def test_equals_onnx_runtime_bit_for_bit(exported) -> None:
    """On real, random, edge and strange rows: missing, infinite, exactly on a split and beside it."""
    _, _, _, graph, forest, rows = exported
    expected, given = run_session(open_session(graph), rows), forest.run(rows.astype(np.float64))
    for name in ("probability", "score"):
        assert given[name].tobytes() == expected[name].tobytes()


def test_a_row_does_not_depend_on_its_company(exported) -> None:
    forest, rows = exported[4], exported[5].astype(np.float64)
    whole = forest.run(rows[:500])["probability"]
    assert [forest.run(rows[i : i + 1])["probability"][0] for i in range(500)] == whole.tolist()
    assert forest.run(np.asfortranarray(rows[:500]))["probability"].tolist() == whole.tolist()


def test_features_are_rounded_to_float32_first(exported) -> None:
    """As the exported graph's input is: a value that float32 cannot hold may stand beyond a split that its rounding is on."""
    _, _, trees, graph, forest, rows = exported
    node = int(np.argmax(np.isfinite(trees.thresholds())))
    split = float(trees.thresholds()[node])
    beside = rows[:1].astype(np.float64).repeat(2, axis=0)
    beside[:, trees.feature[node]] = split, np.nextafter(split, np.inf)
    given = forest.run(beside)["score"]
    assert given[0] == given[1] == run_session(open_session(graph), beside.astype(np.float32))["score"][0]


@pytest.mark.parametrize("bias", [0.0, -1.5])
def test_without_a_split_every_row_gets_the_constant(bias: float) -> None:
    forest = compiled_forest(TreeArrays(bias=bias), IDENTITY, 3)
    given = forest.run(np.random.default_rng(1).normal(size=(4, 3)))
    assert given["score"].tolist() == [np.float32(1 / (1 + np.exp(-bias)))] * 4


def test_the_parity_gate_sees_a_wrong_forest(exported) -> None:
    booster, isotonic, _, graph, forest, rows = exported
    native = native_of(booster, isotonic.predict)
    assert check_parity(graph, native, rows, forest=forest).probability_difference_max < 6e-8
    wrong = dataclasses.replace(forest, value=forest.value + 1e-4)
    with pytest.raises(ParityError, match="of the compiled trees is"):
        check_parity(graph, native, rows, forest=wrong)


def test_round_trip(exported, tmp_path) -> None:
    forest, rows = exported[4], exported[5].astype(np.float64)
    (tmp_path / FOREST_NAME).write_bytes(forest.to_bytes())
    read = read_forest(tmp_path / FOREST_NAME, 12)
    assert read.run(rows)["probability"].tobytes() == forest.run(rows)["probability"].tobytes()
    assert read.to_bytes() == forest.to_bytes()


WRONG = {
    "feature": lambda f: dataclasses.replace(f, feature=f.feature + 12),
    "children": lambda f: dataclasses.replace(f, children=f.children + 1),
    "roots": lambda f: dataclasses.replace(f, roots=f.roots + len(f.feature)),
    "place": lambda f: dataclasses.replace(f, place=f.place + 8),
    "same place": lambda f: dataclasses.replace(f, place=np.minimum(f.place, 3)),
    "trees": lambda f: dataclasses.replace(f, trees=f.trees + 2),
    "walks": lambda f: dataclasses.replace(f, roots=f.roots[:-1], place=f.place[:-1]),
    "value": lambda f: dataclasses.replace(f, value=f.value[:-1]),
    "knots": lambda f: dataclasses.replace(f, knots=f.knots[::-1]),
    "levels": lambda f: dataclasses.replace(f, levels=f.levels[:-1]),
    "count": lambda f: dataclasses.replace(f, feature_count=13),
    "depth": lambda f: dataclasses.replace(f, depth=f.depth * 10**9),
    "dtype": lambda f: dataclasses.replace(f, threshold=f.threshold.astype(np.float32)),
    "shape": lambda f: dataclasses.replace(f, value=f.value[:, None]),
}


@pytest.mark.parametrize("fault", WRONG)
def test_numbers_that_lead_out_of_an_array_are_refused(exported, tmp_path, fault: str) -> None:
    (tmp_path / FOREST_NAME).write_bytes(WRONG[fault](exported[4]).to_bytes())
    with pytest.raises(IntegrityError, match="compiled trees"):
        read_forest(tmp_path / FOREST_NAME, 12)


def test_files_that_are_no_forest_are_refused(tmp_path) -> None:
    for content in (b"", b"rubbish", Sample(np.zeros((1, 2)), np.zeros(1), np.zeros(1)).to_bytes()):
        (tmp_path / FOREST_NAME).write_bytes(content)
        with pytest.raises(IntegrityError, match="cannot be read"):
            read_forest(tmp_path / FOREST_NAME, 12)


def test_rows_of_another_width_are_refused(exported) -> None:
    forest: Forest = exported[4]
    for features in (np.zeros((1, 11)), np.zeros(12)):
        with pytest.raises(ValueError, match="the forest takes 12"):
            forest.run(features)


def test_a_sample_that_it_does_not_give_is_refused(exported) -> None:
    _, _, _, graph, forest, rows = exported
    given = run_session(open_session(graph), rows[:9])
    sample = Sample(rows[:9].astype(np.float64), given["probability"], given["score"])
    check_forest(forest, sample, where="sample")
    wrong = dataclasses.replace(sample, score=np.where(np.arange(9) == 7, sample.score + 2e-6, sample.score))
    with pytest.raises(ParityError, match="sample, row 7"):
        check_forest(forest, wrong, where="sample")
