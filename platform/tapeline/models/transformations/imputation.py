"""What takes the place of a missing value, feature by feature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted

from tapeline.core.errors import ParameterError

ImputationKind = Literal["none", "constant", "median"]


@dataclass(frozen=True)
class Imputation:
    """``none``: a missing value stays missing; ``constant``: `value`; ``median``: that of the training rows' values."""

    kind: ImputationKind = "none"
    value: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in {"none", "constant", "median"}:
            raise ParameterError(f"{self.kind!r} is no imputation", remedy="Use none, constant or median")
        if (self.kind == "constant") != (self.value is not None) or not math.isfinite(self.value or 0.0):
            raise ParameterError(
                f"imputation {self.kind} with value {self.value}",
                remedy="Give a constant, and only that, a finite value",
            )


class Imputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Replace NaN and infinities, each feature in its own way.

    Unlike scikit-learn's ``SimpleImputer`` it keeps a feature without any value (its median counts as 0), lets a feature
    go without imputation, and treats infinities as missing, which every scaler would refuse.

    Parameters
    ----------
    imputations
        One for all features, or a sequence with one for each.

    Attributes
    ----------
    fill_
        float64 (features,): what replaces a missing value, rounded to float32 as the served model's input is; NaN where
        it stays missing.
    """

    def __init__(self, imputations: Imputation | Sequence[Imputation] = Imputation()) -> None:
        self.imputations = imputations

    def fit(self, X: ArrayLike, y: object = None) -> Imputer:  # noqa: N803, ARG002
        """Learn the medians from the training rows, shape (rows, features).

        Raises
        ------
        ParameterError
            If there is not one imputation for each feature.
        """
        rows = _missing_as_nan(X)
        self.n_features_in_ = rows.shape[1]
        chosen = self._chosen()
        self.fill_ = np.full(len(chosen), np.nan)
        for column, one in enumerate(chosen):
            if one.kind == "median":
                values = rows[:, column]
                known = values[~np.isnan(values)]
                self.fill_[column] = np.median(known) if len(known) else 0.0
            elif one.value is not None:
                self.fill_[column] = one.value
        self.fill_ = self.fill_.astype(np.float32).astype(np.float64)
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """Rows with what was missing replaced, float64 (rows, features)."""
        check_is_fitted(self)
        rows = _missing_as_nan(X)
        if rows.shape[1] != self.n_features_in_:
            raise ParameterError(
                f"{rows.shape[1]} features where {self.n_features_in_} were fitted", where="imputation"
            )
        return np.where(np.isnan(rows), self.fill_, rows)

    def manifest(self) -> list[dict[str, Any]]:
        """For each feature, what a bundle's manifest records: ``imputation`` and ``fill``."""
        check_is_fitted(self)
        return [
            {"imputation": one.kind, "fill": None if math.isnan(fill) else float(fill)}
            for one, fill in zip(self._chosen(), self.fill_, strict=True)
        ]

    def _chosen(self) -> list[Imputation]:
        count = self.n_features_in_
        chosen = [self.imputations] * count if isinstance(self.imputations, Imputation) else list(self.imputations)
        if len(chosen) != count:
            raise ParameterError(f"{len(chosen)} imputations for {count} features", remedy="Give one for each, or one")
        return chosen


def _missing_as_nan(values: ArrayLike) -> NDArray[np.float64]:
    rows = check_array(values, dtype=np.float64, ensure_all_finite=False)
    return np.where(np.isfinite(rows), rows, np.nan)
