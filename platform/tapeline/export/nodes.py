"""Nodes and constants of an ONNX graph that is being written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
OPSET_ML = 5
IR_VERSION = 10
"""What ONNX Runtime 1.23, the oldest that the server accepts, reads."""
INPUT_NAME = "features"


class Graph:
    """Collects nodes and constants, naming each by its role."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Add a constant; returns its name."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=f"{output}:{operator}", **attributes))
        return output

    def serialised(
        self,
        feature_count: int,
        outputs: Sequence[tuple[str, int, Sequence[str]]],
        metadata: Mapping[str, str] | None = None,
    ) -> bytes:
        """The checked model, whose input is ``features``, float32 (rows, feature_count); equal bytes for equal graphs.

        Parameters
        ----------
        feature_count
            Columns of the input.
        outputs
            Name, element type and names of the dimensions of each.
        metadata
            Text stored with the model.
        """
        model = helper.make_model(
            helper.make_graph(
                self.nodes,
                "tapeline",
                [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["rows", feature_count])],
                [helper.make_tensor_value_info(name, kind, list(shape)) for name, kind, shape in outputs],
                self.constants,
            ),
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", OPSET_ML)],
            ir_version=IR_VERSION,
            producer_name="tapeline",
        )
        helper.set_model_props(model, dict(sorted((metadata or {}).items())))
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))
