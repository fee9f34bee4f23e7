"""Running a bundle's model on ONNX Runtime, and replaying its sample before it takes traffic."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tapeline.core.errors import IntegrityError, ParityError
from tapeline.registry.manifest import MODEL_NAME, SAMPLE_NAME, BundleManifest

TOLERANCE = 1e-6
UNREADABLE = (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError, NotImplementedError, zipfile.BadZipFile,
              zlib.error)  # fmt: skip
"""What NumPy raises over a damaged ``npz`` file."""
_FATAL_ONLY = 4


@dataclass(frozen=True)
class Sample:
    """Inputs with the outputs that the model gave when it was exported.

    ``features`` is float64 (rows, features), as the feature store holds them; the outputs are float32 (rows,).
    """

    features: NDArray[np.float64]
    probability: NDArray[np.float32]
    score: NDArray[np.float32]

    def to_bytes(self) -> bytes:
        """As an ``npz`` file, equal for equal arrays."""
        buffer = io.BytesIO()
        np.savez(buffer, features=self.features, probability=self.probability, score=self.score)
        return buffer.getvalue()


def read_sample(path: Path) -> Sample:
    """Read ``sample.npz``; nothing in it is ever unpickled.

    Raises
    ------
    IntegrityError
        If it is not three arrays of the right shapes.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            sample = Sample(
                np.asarray(arrays["features"], dtype=np.float64),
                np.asarray(arrays["probability"], dtype=np.float32),
                np.asarray(arrays["score"], dtype=np.float32),
            )
    except UNREADABLE as error:
        raise IntegrityError(f"the bundle's sample cannot be read: {error}", where=str(path)) from None
    rows = (len(sample.features),)
    if sample.features.ndim != 2 or sample.probability.shape != rows or sample.score.shape != rows:
        raise IntegrityError("the bundle's sample has arrays that do not fit together", where=str(path))
    return sample


def open_session(model: bytes | Path) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session with one thread: batches are small, and one server process runs per core.

    Raises
    ------
    IntegrityError
        If ONNX Runtime cannot load the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = _FATAL_ONLY
    source: Any = str(model) if isinstance(model, Path) else model
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  ONNX Runtime raises classes of its own without a public base
        place = str(model) if isinstance(model, Path) else None
        raise IntegrityError(f"ONNX Runtime cannot load the model: {error}", where=place) from None


def run_session(
    session: onnxruntime.InferenceSession,
    features: NDArray[np.float32],
    outputs: Sequence[str] = ("probability", "score"),
) -> dict[str, NDArray[np.float32]]:
    """Outputs by name, each float32 (rows,), for features float32 (rows, features)."""
    given = session.run(list(outputs), {session.get_inputs()[0].name: features})
    return dict(zip(outputs, given, strict=True))


def replay_bundle(folder: Path, manifest: BundleManifest) -> onnxruntime.InferenceSession:
    """Load a verified bundle's model, give it the sample's inputs, and compare what comes out.

    Returns
    -------
    onnxruntime.InferenceSession
        The loaded model, warmed up by the replay.

    Raises
    ------
    IntegrityError
        If the model's input or outputs are not those of the manifest, or a file cannot be read.
    ParityError
        If an output differs from the sample's by more than 1e-6.
    """
    sample = read_sample(folder / SAMPLE_NAME)
    session = open_session(folder / MODEL_NAME)
    inputs = [(node.name, node.type, node.shape[1:]) for node in session.get_inputs()]
    wanted = [(manifest.input_name, "tensor(float)", [len(manifest.features)])]
    names = [node.name for node in session.get_outputs()]
    if inputs != wanted or set(names) != set(manifest.outputs):
        raise IntegrityError(
            f"the model takes {inputs} and gives {names}; its manifest says {wanted} and {list(manifest.outputs)}",
            where=str(folder / MODEL_NAME),
            remedy="Train and register the model again",
        )
    if sample.features.shape[1] != len(manifest.features):
        raise IntegrityError(
            f"the sample has {sample.features.shape[1]} features, the manifest {len(manifest.features)}",
            where=str(folder / SAMPLE_NAME),
        )
    with np.errstate(over="ignore"):
        narrow = sample.features.astype(np.float32)
    expect_sample(run_session(session, narrow), sample, "model", where=str(folder / SAMPLE_NAME))
    return session


def expect_sample(given: Mapping[str, NDArray[np.float32]], sample: Sample, form: str, *, where: str) -> None:
    """Compare what one form of the model (``model``, ``compiled trees``) gives for a sample with what it says.

    Raises
    ------
    ParityError
        If an output differs by more than 1e-6.
    """
    for name, values in given.items():
        expected = getattr(sample, name)
        # `not <=` so that a NaN counts as a difference.
        wrong = np.flatnonzero(~(np.abs(values.astype(np.float64) - expected) <= TOLERANCE))
        if wrong.size:
            row = int(wrong[0])
            raise ParityError(
                f"{name} of the {form} is {values[row]!r} where its sample says {expected[row]!r}",
                where=f"{where}, row {row}",
                remedy="Do not serve this bundle on this machine; train and register the model again",
            )
