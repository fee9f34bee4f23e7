"""Pure statistics over numpy arrays: scores of probabilities, block bootstrap, Sharpe ratios."""

from __future__ import annotations

from tapeline.stats.bootstrap import Estimate, block_counts, difference, group_means, interval
from tapeline.stats.classification import RankOrder, brier_losses, hits, log_losses, reliability
from tapeline.stats.sharpe import sharpe, staggered_returns

__all__ = [
    "Estimate",
    "RankOrder",
    "block_counts",
    "brier_losses",
    "difference",
    "group_means",
    "hits",
    "interval",
    "log_losses",
    "reliability",
    "sharpe",
    "staggered_returns",
]
