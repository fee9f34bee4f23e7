"""Model families behind one protocol, the baselines they have to beat, and calibration."""

from __future__ import annotations

from tapeline.models.calibration import IDENTITY, Calibration, fit_isotonic
from tapeline.models.logistic import LogisticModel, fit_logistic
from tapeline.models.protocol import Features, ScoreModel, Scores
from tapeline.models.rates import RateModel, fit_rates
from tapeline.models.trees import TreesModel, fit_trees

__all__ = [
    "IDENTITY",
    "Calibration",
    "Features",
    "LogisticModel",
    "RateModel",
    "ScoreModel",
    "Scores",
    "TreesModel",
    "fit_isotonic",
    "fit_logistic",
    "fit_rates",
    "fit_trees",
]
