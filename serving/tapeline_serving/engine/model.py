"""The model of a bundle, and the batches that form by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tapeline.core.errors import ModelNotReadyError
from tapeline.registry.forest import Forest


class Model:
    """An ONNX Runtime session that takes vectors as the store holds them.

    Parameters
    ----------
    session
        With one float32 input of shape (rows, features) and float32 outputs of shape (rows,).
    outputs
        Which outputs to ask for; others are not computed further than they must be.
    """

    def __init__(self, session: Any, outputs: Sequence[str]) -> None:
        self.outputs = tuple(outputs)
        self._names = list(outputs)
        self._input = session.get_inputs()[0].name
        self._run = session.run

    def run(self, values: NDArray[np.float64]) -> list[NDArray[np.float32]]:
        """One array of shape (rows,) for each output.

        Parameters
        ----------
        values
            Shape (rows, features), float64; beyond float32's range becomes infinite, as in training.

        Raises
        ------
        ModelNotReadyError
            If ONNX Runtime fails.
        """
        with np.errstate(over="ignore"):
            narrow = values.astype(np.float32)
        try:
            outputs = self._run(self._names, {self._input: narrow})
        except Exception as error:
            raise ModelNotReadyError(f"ONNX Runtime fails: {error}") from error
        return [output.reshape(-1) for output in outputs]


class ForestModel(Model):
    """The same model's trees as compiled code: the answer of a single row costs a tenth of what a graph of small steps does.

    Parameters
    ----------
    forest
        Checked against the ONNX model.
    outputs
        Which outputs to give, in order.
    """

    def __init__(self, forest: Forest, outputs: Sequence[str]) -> None:
        self.outputs = tuple(outputs)
        self._forest = forest

    def run(self, values: NDArray[np.float64]) -> list[NDArray[np.float32]]:
        """As `Model.run`."""
        given = self._forest.run(values)
        return [given[name] for name in self.outputs]


class Batcher:
    """Runs the model once for all requests of one loop tick.

    Redis' replies to concurrent requests arrive together, so their vectors are ready in the same tick, and one run of the
    model over all of them costs a fraction of a run each. Nothing ever waits for a batch to fill.

    Belongs to one event loop.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._waiting: list[tuple[NDArray[np.float64], asyncio.Future[list[NDArray[np.float32]]]]] = []

    def run_alone(self, values: NDArray[np.float64]) -> list[NDArray[np.float32]]:
        """As `Model.run`, at once: for a request that has no company to wait for."""
        return self._model.run(values)

    def run(self, values: NDArray[np.float64]) -> asyncio.Future[list[NDArray[np.float32]]]:
        """As `Model.run`, with the other requests of this tick."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[NDArray[np.float32]]] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append((values, future))
        return future

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            if len(waiting) == 1:
                results = [self._model.run(waiting[0][0])]
            else:
                merged = self._model.run(np.concatenate([values for values, _ in waiting]))
                ends = np.cumsum([len(values) for values, _ in waiting])[:-1]
                results = [list(parts) for parts in zip(*(np.split(output, ends) for output in merged), strict=True)]
        except ModelNotReadyError as error:
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(waiting, results, strict=True):
            if not future.done():
                future.set_result(result)
