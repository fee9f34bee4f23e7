"""Gradient-boosted trees by LightGBM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import ParameterError
from tapeline.models.protocol import Features, Scores

# What makes two trainings give the same bytes, and what the export relies on.
_FIXED: dict[str, Any] = {
    "objective": "binary",
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
    "zero_as_missing": False,
    "linear_tree": False,
    "use_missing": True,
}
DEFAULTS: dict[str, Any] = {
    "rounds": 100,
    "learning_rate": 0.03,
    "num_leaves": 15,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "max_bin": 63,
}


@dataclass(frozen=True)
class TreesModel:
    """A fitted booster."""

    booster: lightgbm.Booster

    @property
    def family(self) -> str:
        """Name of the family."""
        return "lightgbm"

    def score(self, features: Features) -> Scores:
        """Uncalibrated probability that the label is 1, shape (rows,)."""
        return np.asarray(self.booster.predict(features, num_threads=1), dtype=np.float64)

    def importance(self) -> NDArray[np.float64]:
        """Share of the total gain, shape (features,)."""
        gain = np.asarray(self.booster.feature_importance("gain"), dtype=np.float64)
        return np.asarray(gain / gain.sum()) if gain.sum() > 0 else gain


def fit_trees(
    features: Features, labels: NDArray[np.float64], *, parameters: Mapping[str, Any], seed: int, threads: int
) -> TreesModel:
    """Fit trees.

    Parameters
    ----------
    features, labels
        Shapes (rows, features) and (rows,); labels are 0 or 1.
    parameters
        LightGBM's own names over :data:`DEFAULTS`, and ``rounds``.
    seed, threads
        Fixed, so that the same data gives the same model.

    Raises
    ------
    ParameterError
        If a parameter is one that Tapeline fixes, or LightGBM refuses a value.
    """
    taken = sorted(set(parameters) & _FIXED.keys())
    if taken:
        raise ParameterError(
            f"parameters {', '.join(taken)} are fixed", where="lightgbm", remedy="Remove them: the export needs them so"
        )
    chosen = DEFAULTS | dict(parameters)
    rounds = int(chosen.pop("rounds"))
    settings = chosen | _FIXED | {"seed": seed, "num_threads": threads}
    try:
        data = lightgbm.Dataset(features, labels, params=settings, free_raw_data=True)
        return TreesModel(lightgbm.train(settings, data, num_boost_round=rounds))
    except lightgbm.basic.LightGBMError as error:
        raise ParameterError(f"LightGBM refuses the parameters: {error}", where="lightgbm") from None
