"""Training: purged walk-forward, baselines, calibration, evaluation with its uncertainty, and the bundle.

>>> from tapeline.training import train                                    # doctest: +SKIP
>>> print(train(Path("data"), "daily_direction", Path("bundle")).verdict)   # doctest: +SKIP
"""

from __future__ import annotations

from tapeline.training.config import TrainingConfig, read_config
from tapeline.training.dataset import TrainingData, load_dataset
from tapeline.training.evaluation import Evaluation, evaluate
from tapeline.training.job import Trained, train
from tapeline.training.leakage import LeakageReport, leakage_test
from tapeline.training.splits import Fold, PurgedKFold, walk_forward
from tapeline.training.walk import Walk, walk

__all__ = [
    "Evaluation",
    "Fold",
    "LeakageReport",
    "PurgedKFold",
    "Trained",
    "TrainingConfig",
    "TrainingData",
    "Walk",
    "evaluate",
    "leakage_test",
    "load_dataset",
    "read_config",
    "train",
    "walk",
    "walk_forward",
]
