"""Scalers: scikit-learn's, chosen by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, PowerTransformer, QuantileTransformer, RobustScaler, StandardScaler
from sklearn.utils.validation import check_array, check_is_fitted

from tapeline.core.errors import ParameterError, UnknownNameError

ScalerName = Literal["standard", "min_max", "robust", "quantile", "power"]


class RangeLimit(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """Keep each feature within the training rows' range and one such range beyond it on either side; NaN stays NaN.

    Attributes
    ----------
    low_, high_
        float64 (features,); 0 for a feature without any value.
    """

    def fit(self, X: ArrayLike, y: object = None) -> RangeLimit:  # noqa: N803, ARG002
        """Learn the ranges of the training rows, shape (rows, features)."""
        rows = check_array(X, dtype=np.float64, ensure_all_finite="allow-nan")
        self.n_features_in_ = rows.shape[1]
        least = np.fmin.reduce(rows, axis=0)
        most = np.fmax.reduce(rows, axis=0)
        self.low_ = np.nan_to_num(least - (most - least))
        self.high_ = np.nan_to_num(most + (most - least))
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """Rows within the limits, float64 (rows, features)."""
        check_is_fitted(self)
        rows = check_array(X, dtype=np.float64, ensure_all_finite="allow-nan")
        return np.asarray(np.clip(rows, self.low_, self.high_))


def _quantile(**parameters: Any) -> BaseEstimator:
    """To a normal distribution. scikit-learn maps everything within 1e-7 of the extremes to a bound, whatever the unit of
    the feature: standardised first, that is the same for a price of 1e-6 and of 1e6. 256 quantiles, where scikit-learn
    takes 1,000, because the graph carries them for every feature.
    """
    return make_pipeline(
        StandardScaler(), QuantileTransformer(**{"output_distribution": "normal", "n_quantiles": 256} | parameters)
    )


def _power(**parameters: Any) -> BaseEstimator:
    """Yeo–Johnson bends around 0 at the scale of 1, so the feature is brought to that scale first; and a power of what lies
    far outside the training rows' range could overflow, which scikit-learn refuses, so that range is kept.
    """
    return make_pipeline(StandardScaler(), RangeLimit(), PowerTransformer(**{"method": "yeo-johnson"} | parameters))


SCALERS: dict[ScalerName, Callable[..., BaseEstimator]] = {
    "standard": StandardScaler,
    "min_max": MinMaxScaler,
    "robust": RobustScaler,
    "quantile": _quantile,
    "power": _power,
}


def scaler(name: str, **parameters: Any) -> BaseEstimator:
    """A scaler that is not fitted yet.

    Parameters
    ----------
    name
        ``standard``, ``min_max``, ``robust``, ``quantile`` (to normal) or ``power`` (Yeo–Johnson).
    parameters
        scikit-learn's own of ``StandardScaler``, ``MinMaxScaler``, ``RobustScaler``, ``QuantileTransformer`` or
        ``PowerTransformer``.

    Raises
    ------
    UnknownNameError
        If there is no such scaler; the message names the nearest.
    ParameterError
        If the scaler has no such parameter.
    """
    known: dict[str, Callable[..., BaseEstimator]] = dict(SCALERS.items())
    if name not in known:
        raise UnknownNameError("scaler", name, SCALERS)
    try:
        return known[name](**parameters)
    except TypeError as error:
        raise ParameterError(f"scaler {name}: {error}", remedy="See scikit-learn's documentation of it") from None
