"""Selectors of features, beside scikit-learn's ``VarianceThreshold`` and ``SelectFromModel``, and how stable a choice is.

``cv`` is a list of (training rows, test rows), as purged folds give: ``[(fold.train, fold.test) for fold in walk_forward(…)]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.base import BaseEstimator, clone
from sklearn.feature_selection import RFECV, SelectFromModel, SelectKBest, SelectorMixin, mutual_info_classif
from sklearn.inspection import permutation_importance
from sklearn.utils.validation import check_is_fitted, check_X_y

from tapeline.core.errors import ParameterError

Splits = Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]


class CorrelationClusters(SelectorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Of each cluster of features that move together, the one that moves most with the label.

    Average-linkage clustering by 1 − abs(Pearson's correlation). A missing value counts as the mean.

    Parameters
    ----------
    correlation_max
        Clusters are cut where their mean absolute correlation falls to this, 0 to 1.

    Attributes
    ----------
    clusters_
        int64 (features,): number of each feature's cluster. A constant feature is a cluster of its own.
    """

    def __init__(self, correlation_max: float = 0.9) -> None:
        self.correlation_max = correlation_max

    def fit(self, X: ArrayLike, y: ArrayLike) -> CorrelationClusters:  # noqa: N803
        """Cluster the features of the training rows, and choose from each cluster.

        Raises
        ------
        ParameterError
            If the limit is not between 0 and 1.
        """
        if not 0.0 < self.correlation_max < 1.0:
            raise ParameterError(
                f"correlation_max is {self.correlation_max}", remedy="Give a number between 0 and 1, such as 0.9"
            )
        rows, labels = check_X_y(X, y, dtype=np.float64, ensure_all_finite="allow-nan")
        self.n_features_in_ = rows.shape[1]
        with_label = np.column_stack([rows, labels])
        centre = np.array([np.mean(c[~np.isnan(c)]) if not np.isnan(c).all() else 0.0 for c in with_label.T])
        centred = np.where(np.isnan(with_label), 0.0, with_label - centre)
        length = np.sqrt((centred**2).sum(axis=0))
        unit = centred / np.where(length > 0, length, 1.0)
        likeness = np.clip(np.abs(unit.T @ unit), 0.0, 1.0)
        among, relevance = likeness[:-1, :-1], likeness[:-1, -1]
        if self.n_features_in_ == 1:
            self.clusters_ = np.zeros(1, dtype=np.int64)
        else:
            distance = 1.0 - (among + among.T) / 2
            np.fill_diagonal(distance, 0.0)
            tree = linkage(squareform(distance, checks=False), method="average")
            self.clusters_ = fcluster(tree, 1.0 - self.correlation_max, criterion="distance").astype(np.int64) - 1
        self.support_ = np.zeros(self.n_features_in_, dtype=bool)
        for cluster in range(self.clusters_.max() + 1):
            members = np.flatnonzero(self.clusters_ == cluster)
            self.support_[members[np.argmax(relevance[members])]] = True
        return self

    def _get_support_mask(self) -> NDArray[np.bool_]:
        check_is_fitted(self)
        return self.support_


class CheckedImportance(SelectorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Features that a model finds important and whose shuffling harms it on rows that it has not seen.

    Parameters
    ----------
    estimator
        With ``coef_`` (an L1 penalty) or ``feature_importances_`` (trees).
    cv
        Purged folds over the rows given to :meth:`fit`.
    threshold
        As in scikit-learn's ``SelectFromModel``, which takes the first choice; None: its default for the estimator.
    repeats, errors, scoring, seed
        Shuffles per fold; standard errors over the folds by which a mean harm must exceed 0; scikit-learn's scorer
        (None: the estimator's own score); seed of the shuffles.

    Attributes
    ----------
    harm_, harm_error_
        Mean over folds of the score's loss when a feature is shuffled, and its standard error; (features,).
    """

    def __init__(
        self,
        estimator: BaseEstimator,
        cv: Splits,
        *,
        threshold: float | str | None = None,
        repeats: int = 5,
        errors: float = 1.0,
        scoring: str | None = None,
        seed: int = 0,
    ) -> None:
        self.estimator = estimator
        self.cv = cv
        self.threshold = threshold
        self.repeats = repeats
        self.errors = errors
        self.scoring = scoring
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike) -> CheckedImportance:  # noqa: N803
        """Fit on all given rows for the first choice, and fold by fold for the check.

        Raises
        ------
        ParameterError
            If there are fewer than two folds.
        """
        rows, labels = check_X_y(X, y, ensure_all_finite="allow-nan")
        if len(self.cv) < 2:
            raise ParameterError(f"{len(self.cv)} folds have no standard error", remedy="Give at least two folds")
        self.n_features_in_ = rows.shape[1]
        first = SelectFromModel(clone(self.estimator), threshold=self.threshold).fit(rows, labels)
        harm = []
        for train, test in self.cv:
            fitted = clone(self.estimator).fit(rows[train], labels[train])
            found = permutation_importance(
                fitted, rows[test], labels[test],
                n_repeats=self.repeats, scoring=self.scoring, random_state=self.seed,
            )  # fmt: skip
            harm.append(found.importances_mean)
        self.harm_ = np.mean(harm, axis=0)
        self.harm_error_ = np.std(harm, axis=0, ddof=1) / np.sqrt(len(harm))
        self.support_ = first.get_support() & (self.harm_ > self.errors * self.harm_error_)
        return self

    def _get_support_mask(self) -> NDArray[np.bool_]:
        check_is_fitted(self)
        return np.asarray(self.support_)


def mutual_information(k: int | str, *, neighbors: int = 3, seed: int = 0) -> SelectKBest:
    """The k features with the most mutual information with a binary label, by scikit-learn's estimate from neighbours.

    Source: Ross 2014, "Mutual Information between Discrete and Continuous Data Sets".
    """
    return SelectKBest(partial(mutual_info_classif, n_neighbors=neighbors, random_state=seed), k=k)


def purged_elimination(
    estimator: BaseEstimator, cv: Splits, *, step: float = 1, fewest: int = 1, scoring: str | None = None
) -> RFECV:
    """Recursive elimination: the number of features that scores best over purged folds, by scikit-learn's ``RFECV``.

    Parameters
    ----------
    estimator, scoring
        As in scikit-learn.
    cv
        Purged folds over the rows that it is fitted on.
    step, fewest
        Features dropped at a time (a number, or a share below 1), and the fewest to keep.
    """
    return RFECV(clone(estimator), step=step, min_features_to_select=fewest, cv=list(cv), scoring=scoring)


@dataclass(frozen=True)
class Stability:
    """How far a selector makes the same choice on different training rows.

    Attributes
    ----------
    chosen
        bool (folds, features).
    frequency
        Share of the folds that chose each feature, (features,).
    score
        1: the same choice in every fold; 0: no more alike than random choices of the same sizes; NaN where every fold
        chose all features, or none.
    """

    chosen: NDArray[np.bool_]
    frequency: NDArray[np.float64]
    score: float


def selection_stability(selector: BaseEstimator, X: ArrayLike, y: ArrayLike, cv: Splits) -> Stability:  # noqa: N803
    """Fit a selector on the training rows of each fold and compare its choices.

    Raises
    ------
    ParameterError
        If there are fewer than two folds.

    Notes
    -----
    Source: Nogueira, Sechidis, Brown 2018, "On the Stability of Feature Selection Algorithms", JMLR 18, definition 4.
    """
    if len(cv) < 2:
        raise ParameterError(f"{len(cv)} folds cannot be compared", remedy="Give at least two folds")
    rows, labels = np.asarray(X), np.asarray(y)
    chosen = np.array([_support(clone(selector).fit(rows[train], labels[train])) for train, _ in cv])
    frequency = chosen.mean(axis=0)
    folds, mean_size = len(chosen), frequency.mean()
    by_chance = mean_size * (1.0 - mean_size)
    spread = folds / (folds - 1) * (frequency * (1.0 - frequency)).mean()
    return Stability(chosen, frequency, float(1.0 - spread / by_chance) if by_chance > 0 else float("nan"))


def _support(fitted: Any) -> NDArray[np.bool_]:
    return np.asarray(fitted.get_support(), dtype=bool)
