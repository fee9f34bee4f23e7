"""References of the scalers: scikit-learn's, fitted anew on every window."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.preprocessing import minmax_scale, robust_scale

from tests.indicators.references.arithmetic import Array, Formula


def _newest(scale, x: Array, n: int) -> list[Array]:
    """The last value of each window, scaled by the whole window: a column of scikit-learn's for each."""
    return [np.concatenate([np.full(n - 1, np.nan), scale(sliding_window_view(x, n).T)[-1]])]


FORMULAS: dict[str, Formula] = {
    "MINMAX_SCALE": lambda c: _newest(minmax_scale, c["close"], 20),
    "ROBUST_SCALE": lambda c: _newest(robust_scale, c["close"], 20),
}

UNDEFINED_ON_CONSTANT_BARS = {"MINMAX_SCALE", "ROBUST_SCALE"}
