"""Which features a model gets to see: the choices of a training, and the selector that each stands for.

A selector is fitted on a training window alone. Those that look at unseen rows take them from purged folds inside it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectorMixin, VarianceThreshold
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tapeline.core.errors import ParameterError
from tapeline.models.transformations import (
    CheckedImportance,
    CorrelationClusters,
    Imputation,
    Imputer,
    PreparedSelection,
    mutual_information,
    purged_elimination,
)
from tapeline.stats import log_losses
from tapeline.training.splits import PurgedKFold


class _Choice(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def fewest_features(self) -> int:
        """How many features there must be to choose from."""
        return 1


class _OnUnseenRows(_Choice):
    folds: int = Field(default=3, ge=2, le=20, description="purged folds inside a training window")
    fewest: int = Field(default=1, ge=1, description="features that are kept in any case")

    @property
    def fewest_features(self) -> int:
        return self.fewest


class _Important(_OnUnseenRows):
    repeats: int = Field(default=5, ge=1, le=100, description="shuffles of a feature in each fold")
    errors: float = Field(default=1.0, ge=0, description="standard errors by which shuffling must harm")


class VarianceSelection(_Choice):
    """Features whose values, scaled as configured, vary more than a threshold."""

    method: Literal["variance"]
    threshold: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class CorrelationSelection(_Choice):
    """One feature of each cluster of features that move together."""

    method: Literal["correlation"]
    correlation_max: float = Field(default=0.9, gt=0, lt=1)


class InformationSelection(_Choice):
    """So many features as tell most of the label, each by itself."""

    method: Literal["mutual_information"]
    features: int = Field(ge=1)
    neighbors: int = Field(default=3, ge=1, le=100)

    @property
    def fewest_features(self) -> int:
        return self.features


class L1Selection(_Important):
    """Features with a weight under an L1 penalty whose shuffling harms on unseen rows."""

    method: Literal["l1"]
    strength: float = Field(default=0.1, gt=0, allow_inf_nan=False, description="inverse of the penalty")


class TreesSelection(_Important):
    """Features that matter to a random forest more than the mean feature and whose shuffling harms on unseen rows."""

    method: Literal["trees"]
    trees: int = Field(default=100, ge=1, le=2_000)
    depth: int = Field(default=5, ge=1, le=30)


class EliminationSelection(_OnUnseenRows):
    """The least important features dropped again and again, down to the number that predicts best on unseen rows."""

    method: Literal["elimination"]
    estimator: Literal["logistic", "trees"] = "logistic"
    step: int = Field(default=1, ge=1, description="features dropped at a time")
    trees: int = Field(default=50, ge=1, le=2_000)
    depth: int = Field(default=5, ge=1, le=30)


def _named(value: Any) -> Any:
    return {"method": value} if isinstance(value, str) else value


Selection = Annotated[
    VarianceSelection
    | CorrelationSelection
    | InformationSelection
    | L1Selection
    | TreesSelection
    | EliminationSelection,
    Field(discriminator="method"),
]
AnySelection = Annotated[Selection, BeforeValidator(_named)]
"""A selection with its parameters, or only the name of its method."""


def selector_of(
    selection: Selection,
    event_us: NDArray[np.int64],
    end_us: NDArray[np.int64],
    feature_count: int,
    *,
    embargo_steps: int,
    seed: int,
) -> SelectorMixin:
    """The selector for a training window, not fitted yet.

    Parameters
    ----------
    selection
        What was chosen.
    event_us, end_us
        Moment and label's end of each of the window's rows, in the order in which it will be fitted on them.
    feature_count
        Features to choose from.
    embargo_steps, seed
        Of the training.

    Raises
    ------
    ParameterError
        If more features are to be kept than there are.
    """
    if selection.fewest_features > feature_count:
        raise ParameterError(
            f"{selection.fewest_features} features are to be kept of {feature_count}",
            where=f"selection by {selection.method}",
            remedy="Ask for fewer",
        )
    if isinstance(selection, VarianceSelection):
        return PreparedSelection(VarianceThreshold(selection.threshold))
    if isinstance(selection, CorrelationSelection):
        return PreparedSelection(CorrelationClusters(selection.correlation_max))
    if isinstance(selection, InformationSelection):
        chosen = mutual_information(selection.features, neighbors=selection.neighbors, seed=seed)
        return PreparedSelection(chosen, Imputer(Imputation("median")))
    folds = PurgedKFold(event_us, end_us, selection.folds, embargo_steps=embargo_steps)
    prepared = make_pipeline(Imputer(Imputation("median")), StandardScaler())
    if isinstance(selection, EliminationSelection):
        estimator: BaseEstimator = LogisticRegression(solver="newton-cholesky")
        if selection.estimator == "trees":
            estimator = _forest(selection.trees, selection.depth, seed)
        eliminated = purged_elimination(
            estimator, folds, step=selection.step, fewest=selection.fewest, scoring=_log_likelihood
        )
        return PreparedSelection(eliminated, prepared)
    if isinstance(selection, L1Selection):
        estimator = LogisticRegression(l1_ratio=1.0, C=selection.strength, solver="liblinear", random_state=seed)
    else:
        estimator = _forest(selection.trees, selection.depth, seed)
    checked = CheckedImportance(
        estimator,
        folds,
        fewest=selection.fewest,
        repeats=selection.repeats,
        errors=selection.errors,
        scoring=_log_likelihood,
        seed=seed,
    )
    return PreparedSelection(checked, prepared)


def _forest(trees: int, depth: int, seed: int) -> RandomForestClassifier:
    return RandomForestClassifier(trees, max_depth=depth, min_samples_leaf=10, random_state=seed)


def _log_likelihood(estimator: Any, features: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    """Mean log-likelihood; defined, too, where all rows of a fold are of one class."""
    probability = estimator.predict_proba(features) @ (estimator.classes_ == 1.0)
    return -float(log_losses(probability, labels).mean())
