"""A model behind its preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.pipeline import Pipeline

from tapeline.models.protocol import Features, ScoreModel, Scores
from tapeline.models.transformations.imputation import Imputation, Imputer
from tapeline.models.transformations.scaling import scaler


def preprocessing(
    imputation: Imputation | Sequence[Imputation] = Imputation(),
    scaling: str | None = None,
    selection: SelectorMixin | None = None,
) -> Pipeline:
    """Imputation, then scaling, then selection, not fitted yet.

    Raises
    ------
    UnknownNameError
        If there is no such scaler.
    """
    steps: list[tuple[str, BaseEstimator]] = [("imputation", Imputer(imputation))]
    if scaling is not None:
        steps.append(("scaling", scaler(scaling)))
    if selection is not None:
        steps.append(("selection", selection))
    return Pipeline(steps)


def selected(pipeline: Pipeline, count: int) -> NDArray[np.int64]:
    """Which of `count` features come out of a fitted pipeline, in order."""
    kept = np.arange(count, dtype=np.int64)
    for _, step in pipeline.steps:
        if isinstance(step, Pipeline):
            kept = kept[selected(step, len(kept))]
        elif isinstance(step, SelectorMixin):
            kept = kept[step.get_support()]
    return kept


@dataclass(frozen=True)
class PreprocessedModel:
    """A model that sees what a fitted pipeline makes of the features, narrowed to float32 as every model's input is."""

    pipeline: Pipeline
    inner: ScoreModel
    feature_count: int

    @property
    def family(self) -> str:
        """Name of the inner model's family."""
        return self.inner.family

    def score(self, features: Features) -> Scores:
        """Uncalibrated probability that the label is 1, shape (rows,)."""
        return self.inner.score(transformed(self.pipeline, features))

    def importance(self) -> NDArray[np.float64]:
        """The inner model's, 0 for features that were not selected; shape (features,)."""
        share = np.zeros(self.feature_count)
        share[selected(self.pipeline, self.feature_count)] = self.inner.importance()
        return share


def transformed(pipeline: Pipeline, features: Features) -> Features:
    """What a model behind a fitted pipeline sees, float32 (rows, features that come out)."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(pipeline.transform(features), dtype=np.float32)


def fit_preprocessed(
    pipeline: Pipeline,
    features: Features,
    labels: NDArray[np.float64],
    fit: Callable[[Features, NDArray[np.float64]], ScoreModel],
) -> PreprocessedModel:
    """Fit a pipeline, which is changed, and a model behind it, both on the same training rows."""
    pipeline.fit(features, labels)
    return PreprocessedModel(pipeline, fit(transformed(pipeline, features), labels), features.shape[1])
