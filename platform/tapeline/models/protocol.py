"""What training asks of a model family."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]
"""Shape (rows, features), NaN meaning missing. Models are trained on float32 because they are served on float32: a
threshold learnt between two float64 numbers may not separate them once they are narrowed."""
Scores = NDArray[np.float64]


class ScoreModel(Protocol):
    """A fitted model.

    It does not change once fitted, may be used by several threads, and is equal for equal data, parameters and
    libraries.
    """

    @property
    def family(self) -> str:
        """Name of the family."""
        ...

    def score(self, features: Features) -> Scores:
        """Uncalibrated probability that the label is 1, shape (rows,)."""
        ...

    def importance(self) -> NDArray[np.float64]:
        """The model's own measure of what each feature contributes, shape (features,), summing to 1 or all 0."""
        ...
