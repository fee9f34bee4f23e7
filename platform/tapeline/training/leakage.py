"""The leakage self-test: with labels that have nothing to do with the features, nothing may be earned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapeline.stats import sharpe, staggered_returns
from tapeline.training.config import TrainingConfig
from tapeline.training.dataset import TrainingData
from tapeline.training.walk import MODEL, walk


@dataclass(frozen=True)
class LeakageReport:
    """Annualised Sharpe ratios over label shuffles, shape (shuffles,)."""

    sharpes: NDArray[np.float64]

    @property
    def mean(self) -> float:
        """Their mean: near 0 without leakage."""
        return float(self.sharpes.mean())

    @property
    def standard_error(self) -> float:
        """Of the mean."""
        return float(self.sharpes.std(ddof=1) / np.sqrt(len(self.sharpes)))

    @property
    def passed(self) -> bool:
        """Whether the mean lies within three standard errors of 0."""
        return abs(self.mean) <= 3 * self.standard_error


def leakage_test(
    data: TrainingData,
    config: TrainingConfig,
    *,
    shuffles: int = 200,
    advance: Callable[[], object] = lambda: None,
) -> LeakageReport:
    """Shuffle the outcomes, walk the folds as in training, and trade on the predictions without costs.

    The outcomes of whole times are shuffled, so that symbols keep their common days. Returns are centred first, and
    directions taken from what remains: otherwise being always long would earn the market's drift, which is no leak.

    Parameters
    ----------
    data, config
        As for a training.
    shuffles
        How many.
    advance
        Called after each.
    """
    random = np.random.default_rng(config.seed)
    centred = data.forward_return - data.forward_return.mean()
    sharpes = np.empty(shuffles)
    for number in range(shuffles):
        shuffled = centred[_shuffled_rows(data, random)]
        fake = data.with_outcomes((shuffled > 0).astype(np.float64), shuffled)
        sharpes[number] = _sharpe_of(fake, config)
        advance()
    return LeakageReport(sharpes)


def _shuffled_rows(data: TrainingData, random: np.random.Generator) -> NDArray[np.int64]:
    """For each row, the row whose outcome it gets: one of the same symbol, moved together with its whole day where the
    symbols have the same history.
    """
    rows = np.arange(len(data.label))
    keys = random.permutation(len(data.times)).astype(np.int64)
    for code in range(len(data.symbols)):
        mine = np.flatnonzero(data.symbol == code)
        rows[mine] = mine[np.argsort(keys[data.step[mine]], kind="stable")]
    return rows


def _sharpe_of(data: TrainingData, config: TrainingConfig) -> float:
    walked = walk(data, config, baselines=False)
    rows = walked.rows
    steps, group = np.unique(data.step[rows], return_inverse=True)
    shape = (len(steps), len(data.symbols))
    position, outcome = np.full(shape, np.nan), np.full(shape, np.nan)
    position[group, data.symbol[rows]] = np.sign(walked.probability[MODEL] - 0.5)
    outcome[group, data.symbol[rows]] = data.forward_return[rows]
    net = staggered_returns(position, outcome, data.overlap, 0.0)
    return float(sharpe(net, None, data.steps_per_year / data.overlap)[0])
