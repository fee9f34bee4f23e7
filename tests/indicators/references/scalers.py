"""References of the scalers: scikit-learn's, fitted anew on every window."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.preprocessing import minmax_scale, robust_scale

from tests.indicators.references.arithmetic import Array, Formula


def _newest(scale: Callable[[Array], Array], x: Array, n: int, low: float, high: float) -> list[Array]:
    """The last value of each window, scaled by the whole window: a column of scikit-learn's for each.

    Where the window has no width between the two quantiles, scikit-learn takes 1 for it; ours is undefined.
    """
    windows = sliding_window_view(x, n)
    width = np.ptp(np.quantile(windows, [low, high], axis=1), axis=0)
    return [np.concatenate([np.full(n - 1, np.nan), np.where(width > 0.0, scale(windows.T)[-1], np.nan)])]


FORMULAS: dict[str, Formula] = {
    "MINMAX_SCALE": lambda c: _newest(minmax_scale, c["close"], 20, 0.0, 1.0),
    "ROBUST_SCALE": lambda c: _newest(robust_scale, c["close"], 20, 0.25, 0.75),
}

UNDEFINED_ON_CONSTANT_BARS = {"MINMAX_SCALE", "ROBUST_SCALE"}
