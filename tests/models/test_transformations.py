from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.stats import norm, skew
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectFromModel, VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from tapeline.core.errors import EmptyDataError, InvalidDataError, ParameterError, UnknownNameError
from tapeline.models.transformations import (
    CheckedImportance,
    CorrelationClusters,
    Imputation,
    Imputer,
    PreparedSelection,
    mutual_information,
    purged_elimination,
    scaler,
    selected,
    selection_stability,
)  # fmt: skip
from tapeline.models.transformations.preprocessing import preprocessing
from tapeline.training.splits import PurgedKFold, walk_forward


def make(rows=1_200, seed=0):
    """Columns 0 and 1 tell of the label, 2 and 3 are near copies of 0, 4 to 9 are noise; labels end 5 rows later."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 10))
    x[:, 2] = x[:, 0] + 0.1 * random.normal(size=rows)
    x[:, 3] = -x[:, 0] + 0.1 * random.normal(size=rows)
    y = (x[:, 0] + x[:, 1] + 0.5 * random.normal(size=rows) > 0).astype(float)
    event = np.arange(rows, dtype=np.int64)
    folds = walk_forward(event, event + 5, train_steps=400, test_steps=200, embargo_steps=1)
    return x, y, [(fold.train, fold.test) for fold in folds]


def test_imputation_against_simple_imputer():
    x = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    x[np.random.default_rng(1).random(x.shape) < 0.2] = np.nan
    x[5, 0] = np.inf
    finite = np.where(np.isinf(x), np.nan, x)
    got = Imputer(Imputation("median")).fit(x)
    expected = SimpleImputer(strategy="median").fit(finite)
    np.testing.assert_allclose(got.fill_, expected.statistics_, rtol=1e-7)
    np.testing.assert_allclose(got.transform(x), expected.transform(finite), rtol=1e-7)
    each = Imputer([Imputation(), Imputation("constant", 2.5), Imputation("median")]).fit(x)
    rows = each.transform(x)
    assert np.isnan(rows[5, 0])
    assert set(rows[np.isnan(x[:, 1]), 1]) == {2.5}
    assert each.manifest() == [
        {"imputation": "none", "fill": None}, {"imputation": "constant", "fill": 2.5},
        {"imputation": "median", "fill": pytest.approx(float(np.nanmedian(x[:, 2])))},
    ]  # fmt: skip


def test_a_feature_without_any_value_keeps_its_place():
    x = np.full((4, 2), np.nan)
    x[:, 1] = [1.0, 2.0, 3.0, 9.0]
    np.testing.assert_array_equal(Imputer(Imputation("median")).fit_transform(x), [[0, 1], [0, 2], [0, 3], [0, 9]])


@pytest.mark.parametrize(
    ("make_one", "match"),
    [
        (lambda: Imputation("constant"), "finite value"),
        (lambda: Imputation("median", 1.0), "finite value"),
        (lambda: Imputation("constant", float("inf")), "finite value"),
        (lambda: Imputation("mode"), "no imputation"),
        (lambda: Imputer([Imputation()]).fit(np.ones((2, 2))), "1 imputations for 2"),
        (lambda: Imputer().fit(np.ones((2, 2))).transform(np.ones((2, 3))), "3 features where 2"),
        (lambda: scaler("standard", colour=1), "colour"),
        (lambda: scaler("standart"), "Did you mean standard"),
        (lambda: CorrelationClusters(1.5).fit(np.eye(3), [0, 1, 0]), "between 0 and 1"),
        (lambda: selection_stability(VarianceThreshold(), np.eye(3), np.ones(3), []), "two folds"),
        (lambda: CheckedImportance(LogisticRegression(), []).fit(np.eye(4), [0, 1, 0, 1]), "two folds"),
    ],
)
def test_what_is_refused(make_one, match):
    with pytest.raises((ParameterError, UnknownNameError), match=match):
        make_one()


def test_scalers_do_what_they_are_called():
    random = np.random.default_rng(0)
    x = np.column_stack(
        [np.exp(random.normal(size=2_000)), 1e6 + random.normal(size=2_000), 1e-9 * random.normal(size=2_000)]
    )
    assert np.allclose(scaler("standard").fit_transform(x).std(axis=0), 1)
    assert np.allclose([scaler("min_max").fit_transform(x).min(), scaler("min_max").fit_transform(x).max()], [0, 1])
    assert np.allclose(np.median(scaler("robust").fit_transform(x), axis=0), 0)
    normal = scaler("quantile").fit_transform(x)
    # Ranks are normal whatever the unit: scikit-learn's own would call all of the third column a bound.
    for column in normal.T:
        np.testing.assert_allclose(np.quantile(column, [0.1, 0.5, 0.9]), norm.ppf([0.1, 0.5, 0.9]), atol=0.01)
    assert abs(skew(scaler("power").fit_transform(x)[:, 0])) < 0.5 < 3 < skew(x[:, 0])
    far = scaler("power").fit(x).transform([[1e38, -1e38, 1e38]])
    assert np.isfinite(far).all()


def test_clusters_keep_the_copy_that_tells_most():
    x, y, _ = make()
    found = CorrelationClusters(0.9).fit(x, y)
    assert len({found.clusters_[c] for c in (0, 2, 3)}) == 1
    assert len(set(found.clusters_)) == 8
    likeness = [abs(np.corrcoef(x[:, c], y)[0, 1]) for c in (0, 2, 3)]
    assert found.get_support()[[0, 2, 3]].tolist() == [one == max(likeness) for one in likeness]
    assert found.get_support()[[1, 4, 5, 6, 7, 8, 9]].all()
    np.testing.assert_array_equal(found.transform(x), x[:, found.get_support()])
    strange = np.column_stack(
        [x[:, 0], np.full(len(x), 3.0), np.full(len(x), np.nan), np.where(x[:, 0] > 2, np.nan, x[:, 0])]
    )
    assert (
        CorrelationClusters(0.5).fit(strange, y).clusters_.tolist()[0]
        == CorrelationClusters(0.5).fit(strange, y).clusters_[3]
    )
    assert CorrelationClusters().fit(x[:, :1], y).get_support().tolist() == [True]


@pytest.mark.parametrize(
    ("estimator", "threshold"),
    [
        (LogisticRegression(l1_ratio=1.0, C=0.5, solver="liblinear"), 1e-9),
        (RandomForestClassifier(30, max_depth=4, random_state=0), 0.0),
    ],
    ids=["l1", "trees"],
)
def test_importance_is_checked_on_unseen_rows(estimator, threshold):
    x, y, cv = make()
    x = x[:, [1, 4, 5, 6, 7]]
    found = CheckedImportance(estimator, cv, threshold=threshold, errors=2.0).fit(x, y)
    first = SelectFromModel(estimator, threshold=threshold).fit(x, y).get_support()
    assert first[0]
    assert found.get_support()[0]
    assert (found.get_support() <= first).all()
    assert found.get_support().sum() < first.sum()  # noise that was important to the model is not to unseen rows
    assert found.harm_.argmax() == 0


def test_mutual_information_and_elimination_find_what_tells():
    x, y, cv = make()
    assert set(np.flatnonzero(mutual_information(4).fit(x, y).get_support())) == {0, 1, 2, 3}
    informed = x[:, [0, 1, 4, 5, 6, 7]]
    found = purged_elimination(LogisticRegression(), cv, scoring="neg_log_loss").fit(informed, y)
    assert found.get_support()[:2].all()
    assert found.ranking_[2:].max() > 1


def test_a_splitter_and_its_folds_give_the_same_choice():
    x, y, _ = make()
    event = np.arange(len(x))
    splitter = PurgedKFold(event, event + 5, 3, embargo_steps=2)
    folds = list(splitter.split(x))
    informed = x[:, [0, 1, 4, 5, 6, 7]]
    for make_one in (
        lambda cv: purged_elimination(LogisticRegression(), cv, scoring="neg_log_loss"),
        lambda cv: CheckedImportance(LogisticRegression(), cv),
    ):
        by_splitter, by_folds = (make_one(cv).fit(informed, y).get_support().tolist() for cv in (splitter, folds))
        assert by_splitter == by_folds
        assert by_splitter[:2] == [True, True]
        assert not all(by_splitter)


def test_where_too_few_features_pass_the_nearest_are_kept():
    x, y, cv = make()
    noise = x[:, 4:]
    assert CheckedImportance(LogisticRegression(), cv, fewest=0, errors=50.0).fit(x, y).get_support().sum() == 0
    for fewest in (1, 3):
        found = CheckedImportance(LogisticRegression(), cv, fewest=fewest, errors=50.0).fit(noise, y)
        beyond = found.harm_ - 50.0 * found.harm_error_
        assert set(np.flatnonzero(found.get_support())) == set(np.argsort(beyond)[-fewest:])


def test_a_prepared_selector_decides_on_complete_features_and_lets_gaps_through():
    x, y, _ = make()
    gaps = x.copy()
    gaps[np.random.default_rng(1).random(x.shape) < 0.1] = np.nan
    found = PreparedSelection(mutual_information(4), Imputer(Imputation("median"))).fit(gaps, y)
    filled = Imputer(Imputation("median")).fit_transform(gaps)
    np.testing.assert_array_equal(found.get_support(), mutual_information(4).fit(filled, y).get_support())
    np.testing.assert_array_equal(found.transform(gaps), gaps[:, found.get_support()])
    through = CorrelationClusters(0.9).fit(gaps, y)
    np.testing.assert_array_equal(through.transform(gaps), gaps[:, through.get_support()])
    with pytest.raises(InvalidDataError, match=r"No feature in X meets .*VarianceThreshold on 50 rows"):
        PreparedSelection(VarianceThreshold()).fit(np.ones((50, 2)), y[:50])
    with pytest.raises(EmptyDataError, match="leaves no feature"):
        PreparedSelection(mutual_information(0)).fit(x, y)


def test_stability_by_its_definition():
    x, y, cv = make()
    found = selection_stability(mutual_information(4), x, y, cv)
    random = selection_stability(mutual_information(3), np.random.default_rng(3).normal(size=(1_200, 30)), y, cv)
    assert random.score < 0.7 < found.score
    chosen, (folds, features) = random.chosen.astype(float), random.chosen.shape
    # The definition: mean corrected pairwise intersection; with equal sizes it is Kuncheva's index.
    k = chosen.sum(axis=1)[0]
    pairs = [(chosen[a] * chosen[b]).sum() for a in range(folds) for b in range(a)]
    expected = np.mean([(both - k * k / features) / (k - k * k / features) for both in pairs])
    assert random.score == pytest.approx(expected)
    assert np.isnan(selection_stability(VarianceThreshold(), x, y, cv).score)


def test_a_selector_in_a_pipeline_names_what_is_left():
    x, y, _ = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline = preprocessing(Imputation("median"), "standard", CorrelationClusters(0.9)).fit(x, y)
    kept = selected(pipeline, 10)
    assert kept.tolist() == np.flatnonzero(pipeline.steps[-1][1].get_support()).tolist()
    assert len(kept) == 8
