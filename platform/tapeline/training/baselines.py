"""What any model has to beat: knowing the base rate, the last outcome, a moving-average cross, or a linear rule."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import UnknownNameError
from tapeline.models.logistic import fit_logistic
from tapeline.models.rates import fit_rates
from tapeline.training.config import TrainingConfig
from tapeline.training.dataset import TrainingData
from tapeline.training.splits import Fold

BASE_RATE = "base_rate"
LAST_DIRECTION = "last_direction"
CROSS = "moving_average_cross"
LOGISTIC = "logistic_regression"

_AVERAGE = re.compile(r"(?:^|__)(sma|ema|wma|dema|tema|kama|trima)_(\d+)$")
_MACD = re.compile(r"(?:^|__)macd_\d+_\d+_\d+$")
# At the same period these follow the price more and more closely.
_QUICKNESS = {"sma": 0, "trima": 0, "wma": 1, "ema": 2, "kama": 3, "dema": 4, "tema": 5}


class Baselines:
    """Fits all baselines on a fold's training rows and scores its test rows.

    Parameters
    ----------
    data, config
        The data set and the choices of the training.

    Raises
    ------
    UnknownNameError
        If a chosen moving average is no feature.
    """

    def __init__(self, data: TrainingData, config: TrainingConfig) -> None:
        self._data = data
        self._states = {BASE_RATE: np.zeros(len(data.label), dtype=np.int64), LAST_DIRECTION: last_known_label(data)}
        cross = cross_state(data, config.moving_averages)
        if cross is not None:
            self._states[CROSS] = cross
        self.names = (*self._states, LOGISTIC)

    def scores(self, fold: Fold) -> dict[str, NDArray[np.float64]]:
        """Probability that the label is 1 for each test row, by baseline."""
        labels = self._data.label[fold.train]
        scores = {
            name: fit_rates(state[fold.train], labels).score(state[fold.test]) for name, state in self._states.items()
        }
        inputs = self._data.inputs
        scores[LOGISTIC] = fit_logistic(inputs[fold.train], labels).score(inputs[fold.test])
        return scores


def last_known_label(data: TrainingData) -> NDArray[np.int64]:
    """The same symbol's newest label that had ended by each row's moment; -1 where none had."""
    state = np.full(len(data.label), -1, dtype=np.int64)
    for code in range(len(data.symbols)):
        mine = np.flatnonzero(data.symbol == code)
        order = np.argsort(data.end_us[mine], kind="stable")
        newest = np.searchsorted(data.end_us[mine][order], data.event_us[mine], side="right") - 1
        known = newest >= 0
        state[mine[known]] = data.label[mine[order[newest[known]]]].astype(np.int64)
    return state


def cross_state(data: TrainingData, chosen: tuple[str, str] | None) -> NDArray[np.int64] | None:
    """1 where the fast average is above the slow one, 0 where it is not, -1 where either is missing.

    Without a choice it is found among the features: two averages of one kind and the most different periods, else the MACD
    line, which is the difference of two exponential averages, else a quicker and a slower kind of the same period.
    """
    if chosen is not None:
        for name in chosen:
            if name not in data.names:
                raise UnknownNameError("feature", name, data.names, where="moving_averages")
        return _above(data, *chosen)
    averages = [(match[1], int(match[2]), name) for name in data.names if (match := _AVERAGE.search(name))]
    kinds = [(a, b) for a, b in combinations(sorted(averages), 2) if a[0] == b[0] and a[1] < b[1]]
    if kinds:
        fast, slow = max(kinds, key=lambda pair: pair[1][1] / pair[0][1])
        return _above(data, fast[2], slow[2])
    for name in data.names:
        if _MACD.search(name):
            return _sign(data.features[:, data.names.index(name)])
    periods = [(a, b) for a in averages for b in averages if a[1] == b[1] and _QUICKNESS[a[0]] > _QUICKNESS[b[0]]]
    if periods:
        fast, slow = max(periods, key=lambda pair: _QUICKNESS[pair[0][0]] - _QUICKNESS[pair[1][0]])
        return _above(data, fast[2], slow[2])
    return None


def _above(data: TrainingData, fast: str, slow: str) -> NDArray[np.int64]:
    columns = [data.features[:, data.names.index(name)] for name in (fast, slow)]
    return _sign(columns[0] - columns[1])


def _sign(values: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.where(np.isfinite(values), (values > 0).astype(np.int64), -1)
