"""Whole models, calibration included, to ONNX, and through the parity gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import ParameterError
from tapeline.export.forest import compiled_forest
from tapeline.export.graph import Knots, Linear, build_graph
from tapeline.export.parity import ParityReport, check_parity, parity_rows
from tapeline.export.trees import tree_arrays
from tapeline.models.calibration import Calibration
from tapeline.models.logistic import LogisticModel
from tapeline.models.protocol import ScoreModel
from tapeline.models.transformations.preprocessing import PreprocessedModel
from tapeline.models.trees import TreesModel
from tapeline.registry.forest import Forest


@dataclass(frozen=True)
class ExportedModel:
    """A model as ONNX, its trees for compiled code if it has any, and how far both are from the native model."""

    graph: bytes
    forest: Forest | None
    parity: ParityReport


def export_model(
    model: ScoreModel,
    calibration: Calibration,
    features: NDArray[np.float32],
    *,
    metadata: Mapping[str, str] | None = None,
    seed: int = 0,
) -> ExportedModel:
    """Convert a model and compare it with the native one on real, mixed, random, edge and strange rows.

    Parameters
    ----------
    model, calibration
        What to export.
    features
        Real rows, float32 (rows, features).
    metadata
        Text stored with the model.
    seed
        Of the random rows.

    Raises
    ------
    ParityError
        If any output differs by more than 1e-6.
    ParameterError
        If the family has no export.
    """

    def native(rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        score = model.score(rows)
        return calibration(score), score

    knots = Knots(calibration.x, calibration.y)
    count = features.shape[1]
    forest = None
    core, pipeline = (model.inner, model.pipeline) if isinstance(model, PreprocessedModel) else (model, None)
    if isinstance(core, TreesModel):
        trees = tree_arrays(core.booster)
        graph = build_graph(
            feature_count=count, core=trees, calibration=knots, preprocessing=pipeline, metadata=metadata
        )
        # Behind a preprocessing the splits are not of raw features, and compiled trees would see raw ones.
        rows = parity_rows(features, None if pipeline else trees, seed=seed)
        forest = None if pipeline else compiled_forest(trees, knots, count)
    elif isinstance(core, LogisticModel):
        graph = build_graph(
            feature_count=count,
            core=Linear(core.centre, core.scale, core.weight, core.bias),
            calibration=knots,
            fill=core.fill.astype(np.float64),
            preprocessing=pipeline,
            metadata=metadata,
        )
        rows = parity_rows(features, None, seed=seed)
    else:
        raise ParameterError(f"models of family {model.family} cannot be exported", where="ONNX export")
    return ExportedModel(graph, forest, check_parity(graph, native, rows, forest=forest))
