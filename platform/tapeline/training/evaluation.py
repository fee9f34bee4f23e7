"""How good out-of-fold predictions are, how sure that is, and how they compare with the baselines.

All predictors are judged on the same rows. Intervals come from a circular block bootstrap over times: rows of one time are
drawn together, and a block is at least twice as long as outcomes overlap. Every predictor sees the same resamples, so
differences are paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapeline.stats import (
    Estimate,
    RankOrder,
    block_counts,
    brier_losses,
    difference,
    group_means,
    hits,
    interval,
    log_losses,
    reliability,
    sharpe,
    staggered_returns,
)
from tapeline.training.config import TrainingConfig
from tapeline.training.dataset import TrainingData
from tapeline.training.walk import MODEL, UNCALIBRATED, Walk

Array = NDArray[np.float64]

METRICS = ("log_loss", "brier", "roc_auc", "accuracy", "sharpe")
SMALLER_IS_BETTER = frozenset({"log_loss", "brier"})
_CHUNK = 100


@dataclass(frozen=True)
class Comparison:
    """The model against the best baseline in one metric; the difference is positive where the model is better."""

    metric: str
    baseline: str
    difference: Estimate

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"metric": self.metric, "baseline": self.baseline} | self.difference.to_dict()


@dataclass(frozen=True)
class Evaluation:
    """The judgement.

    Attributes
    ----------
    scores
        Predictor → metric → estimate.
    comparisons
        One for each metric.
    details
        Sizes and how the numbers were made, JSON-ready.
    calibration_curve
        Of the model, ten bins.
    """

    scores: dict[str, dict[str, Estimate]]
    comparisons: dict[str, Comparison]
    details: dict[str, Any]
    calibration_curve: list[dict[str, float]]


def evaluate(data: TrainingData, walked: Walk, config: TrainingConfig) -> Evaluation:
    """Judge all predictors of a walk.

    Accuracy is directional accuracy: the share of rows whose more probable side came true. ROC-AUC compares rows of one
    fold only. The Sharpe ratio is that of
    going long where the probability is above one half and short where it is below, as staggered books (see
    :mod:`tapeline.stats.sharpe`), equally weighted over symbols, after costs.
    """
    rows = walked.rows
    steps, group = np.unique(data.step[rows], return_inverse=True)
    outcome = data.label[rows]
    block = max(2 * data.overlap, round(len(steps) ** (1 / 3)))
    counts = block_counts(len(steps), block, config.resamples, config.seed)
    per_year = data.steps_per_year / data.overlap
    values: dict[str, dict[str, float]] = {}
    resampled: dict[str, dict[str, Array]] = {}
    for name, probability in walked.probability.items():
        losses = {
            "log_loss": log_losses(probability, outcome),
            "brier": brier_losses(probability, outcome),
            "accuracy": hits(probability, outcome),
        }
        ranks = RankOrder(probability, outcome, walked.fold)
        net = _net_returns(data, rows, group, len(steps), probability, config.cost_bps * 1e-4)
        values[name] = {metric: float(loss.mean()) for metric, loss in losses.items()}
        values[name] |= {"roc_auc": float(ranks.auc()[0]), "sharpe": float(sharpe(net, None, per_year)[0])}
        resampled[name] = {metric: group_means(loss, group, counts) for metric, loss in losses.items()}
        resampled[name] |= {
            "roc_auc": np.concatenate(
                [ranks.auc(counts[start : start + _CHUNK, group]) for start in range(0, len(counts), _CHUNK)]
            ),
            "sharpe": sharpe(net, counts, per_year),
        }
    return Evaluation(
        scores={
            name: {metric: interval(values[name][metric], resampled[name][metric]) for metric in METRICS}
            for name in values
        },
        comparisons={metric: _compare(metric, values, resampled) for metric in METRICS},
        details={
            "rows": len(rows),
            "times": len(steps),
            "first_us": int(data.event_us[rows].min()),
            "last_us": int(data.event_us[rows].max()),
            "base_rate": float(outcome.mean()),
            "overlap_steps": data.overlap,
            "block_steps": block,
            "resamples": config.resamples,
            "cost_bps": config.cost_bps,
            "decisions_per_year": per_year,
        },
        calibration_curve=reliability(walked.probability[MODEL], outcome),
    )


def _compare(metric: str, values: dict[str, dict[str, float]], resampled: dict[str, dict[str, Array]]) -> Comparison:
    sign = -1.0 if metric in SMALLER_IS_BETTER else 1.0
    rivals = [name for name in values if name not in {MODEL, UNCALIBRATED}]
    best = max(rivals, key=lambda name: sign * values[name][metric])
    estimate = difference(
        sign * (values[MODEL][metric] - values[best][metric]),
        sign * (resampled[MODEL][metric] - resampled[best][metric]),
    )
    return Comparison(metric, best, estimate)


def _net_returns(
    data: TrainingData, rows: NDArray[np.int64], group: NDArray[np.int64], times: int, probability: Array, cost: float
) -> Array:
    shape = (times, len(data.symbols))
    position, outcome = np.full(shape, np.nan), np.full(shape, np.nan)
    position[group, data.symbol[rows]] = np.sign(probability - 0.5)
    outcome[group, data.symbol[rows]] = data.forward_return[rows]
    return staggered_returns(position, outcome, data.overlap, cost)
