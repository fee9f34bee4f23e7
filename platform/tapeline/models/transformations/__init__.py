"""What is done to features before a model: imputation, scaling, selection, all with scikit-learn's interface.

Fit them on training rows only; everything but the choice of rows is inside the pipeline, and the fitted pipeline goes into
the ONNX graph (:mod:`tapeline.export.transformations`), so what is served is what was fitted.
"""

from __future__ import annotations

from tapeline.models.transformations.imputation import Imputation, Imputer
from tapeline.models.transformations.preprocessing import PreprocessedModel, fit_preprocessed, preprocessing, selected
from tapeline.models.transformations.scaling import SCALERS, ScalerName, scaler
from tapeline.models.transformations.selection import (
    CheckedImportance,
    CorrelationClusters,
    PreparedSelection,
    mutual_information,
    purged_elimination,
)
from tapeline.models.transformations.stability import Stability, selection_stability, stability_of

__all__ = [
    "SCALERS",
    "CheckedImportance",
    "CorrelationClusters",
    "Imputation",
    "Imputer",
    "PreparedSelection",
    "PreprocessedModel",
    "ScalerName",
    "Stability",
    "fit_preprocessed",
    "mutual_information",
    "preprocessing",
    "purged_elimination",
    "scaler",
    "selected",
    "selection_stability",
    "stability_of",
]
