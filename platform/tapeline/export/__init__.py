"""From trained models to ONNX: the whole graph with preprocessing and calibration inside, behind a parity gate."""

from __future__ import annotations

from tapeline.export.convert import ExportedModel, export_model
from tapeline.export.forest import compiled_forest
from tapeline.export.graph import Knots, Linear, build_graph
from tapeline.export.parity import ParityReport, check_parity, parity_rows
from tapeline.export.transformations import add_transformation, transformation_graph
from tapeline.export.trees import TreeArrays, float32_below, tree_arrays

__all__ = [
    "ExportedModel",
    "Knots",
    "Linear",
    "ParityReport",
    "TreeArrays",
    "add_transformation",
    "build_graph",
    "check_parity",
    "compiled_forest",
    "export_model",
    "float32_below",
    "parity_rows",
    "transformation_graph",
    "tree_arrays",
]
