"""Selectors of features, beside scikit-learn's ``VarianceThreshold`` and ``SelectFromModel``.

``cv`` is a splitter that purges, such as :class:`tapeline.training.PurgedKFold`, or a list of (training rows, test rows):
``[(fold.train, fold.test) for fold in walk_forward(…)]``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import RFECV, SelectFromModel, SelectKBest, SelectorMixin, mutual_info_classif
from sklearn.inspection import permutation_importance
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils.validation import check_is_fitted, check_X_y

from tapeline.core.errors import EmptyDataError, InvalidDataError, ParameterError

Splits = Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]
Scoring = str | Callable[[Any, Any, Any], float]


class _Selector(SelectorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """A selector that lets missing values through."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class CorrelationClusters(_Selector):
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


class CheckedImportance(_Selector):
    """Features that a model finds important and whose shuffling harms it on rows that it has not seen.

    Parameters
    ----------
    estimator
        With ``coef_`` (an L1 penalty) or ``feature_importances_`` (trees).
    cv
        Purged folds over the rows given to :meth:`fit`.
    fewest
        So many are kept in any case: where too few pass, those that come nearest to it.
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
        cv: Splits | BaseCrossValidator,
        *,
        fewest: int = 1,
        threshold: float | str | None = None,
        repeats: int = 5,
        errors: float = 1.0,
        scoring: Scoring | None = None,
        seed: int = 0,
    ) -> None:
        self.estimator = estimator
        self.cv = cv
        self.fewest = fewest
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
        folds = list(self.cv.split(rows, labels)) if hasattr(self.cv, "split") else list(self.cv)
        if len(folds) < 2:
            raise ParameterError(f"{len(folds)} folds have no standard error", remedy="Give at least two folds")
        self.n_features_in_ = rows.shape[1]
        first = SelectFromModel(clone(self.estimator), threshold=self.threshold).fit(rows, labels)
        harm = []
        for train, test in folds:
            fitted = clone(self.estimator).fit(rows[train], labels[train])
            found = permutation_importance(
                fitted, rows[test], labels[test],
                n_repeats=self.repeats, scoring=self.scoring, random_state=self.seed,
            )  # fmt: skip
            harm.append(found.importances_mean)
        self.harm_ = np.mean(harm, axis=0)
        self.harm_error_ = np.std(harm, axis=0, ddof=1) / np.sqrt(len(harm))
        beyond_error = self.harm_ - self.errors * self.harm_error_
        self.support_ = first.get_support() & (beyond_error > 0)
        lacking = max(self.fewest - int(self.support_.sum()), 0)
        nearest = np.argsort(np.where(self.support_, -np.inf, beyond_error), kind="stable")[::-1]
        self.support_[nearest[:lacking]] = True
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
    estimator: BaseEstimator,
    cv: Splits | BaseCrossValidator,
    *,
    step: float = 1,
    fewest: int = 1,
    scoring: Scoring | None = None,
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
    folds = cv if hasattr(cv, "split") else list(cv)
    return RFECV(clone(estimator), step=step, min_features_to_select=fewest, cv=folds, scoring=scoring)


class PreparedSelection(_Selector):
    """A selector that decides on what a preparation makes of the features; those that it lets through stay as they are.

    So one that needs complete features on one scale can stand before a model that makes use of missing values.

    Parameters
    ----------
    selector
        Decides; not fitted yet.
    preparation
        A transformer that keeps the number and order of the features; None: the selector sees them as they are.

    Attributes
    ----------
    selector_
        The fitted selector.
    """

    def __init__(self, selector: SelectorMixin, preparation: BaseEstimator | None = None) -> None:
        self.selector = selector
        self.preparation = preparation

    def fit(self, X: ArrayLike, y: ArrayLike) -> PreparedSelection:  # noqa: N803
        """Fit preparation and selector on the training rows.

        Raises
        ------
        InvalidDataError
            If the selector cannot be fitted on these rows, as where they are all of one class.
        EmptyDataError
            If it leaves no feature.
        """
        rows, labels = check_X_y(X, y, dtype=np.float64, ensure_all_finite="allow-nan")
        self.n_features_in_ = rows.shape[1]
        name = type(self.selector).__name__
        with warnings.catch_warnings():
            # Far from convergence a choice is still a valid one, and the same one every time.
            warnings.simplefilter("ignore", ConvergenceWarning)
            try:
                seen = rows if self.preparation is None else clone(self.preparation).fit_transform(rows, labels)
                self.selector_ = clone(self.selector).fit(seen, labels)
            except ValueError as error:
                raise InvalidDataError(
                    f"no features can be selected: {error}",
                    where=f"{name} on {len(rows)} rows",
                    remedy="Choose a longer training window, another way to select, or a lower threshold",
                ) from None
        if not self.selector_.get_support().any():
            raise EmptyDataError("the selection leaves no feature", where=f"{name} on {len(rows)} rows")
        return self

    def _get_support_mask(self) -> NDArray[np.bool_]:
        check_is_fitted(self)
        return np.asarray(self.selector_.get_support(), dtype=bool)
