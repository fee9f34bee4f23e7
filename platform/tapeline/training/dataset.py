"""An exported data set as arrays, ready for training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tapeline.core.errors import EmptyDataError, InvalidDataError
from tapeline.datasets.entities import TIME_COLUMN
from tapeline.datasets.manifest import DatasetManifest, read_manifest
from tapeline.datasets.reading import read_data
from tapeline.datasets.slices import LABEL_COLUMNS


@dataclass(frozen=True)
class TrainingData:
    """Rows in the order of time, then symbol; arrays of shape (rows,) unless said otherwise.

    Attributes
    ----------
    names
        Features, in the model's order.
    features
        float64 (rows, features), NaN where missing or not warmed up, as the feature store holds them.
    label
        0 or 1.
    forward_return
        What holding one unit until the label's end gave.
    event_us, end_us
        The row's moment, and when its label was known.
    symbol
        Number of the row's symbol.
    symbols
        Their names.
    """

    names: tuple[str, ...]
    features: NDArray[np.float64]
    label: NDArray[np.float64]
    forward_return: NDArray[np.float64]
    event_us: NDArray[np.int64]
    end_us: NDArray[np.int64]
    symbol: NDArray[np.int64]
    symbols: tuple[str, ...]

    @cached_property
    def inputs(self) -> NDArray[np.float32]:
        """The features as the model sees them, float32 (rows, features)."""
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(self.features, dtype=np.float32)

    @cached_property
    def times(self) -> NDArray[np.int64]:
        """Distinct moments, ascending; shape (steps,)."""
        return np.unique(self.event_us)

    @cached_property
    def step(self) -> NDArray[np.int64]:
        """Number of each row's moment among `times`."""
        return np.searchsorted(self.times, self.event_us)

    @cached_property
    def overlap(self) -> int:
        """Steps from a row to its label's end, in the median; at least 1."""
        ends = np.searchsorted(self.times, self.end_us, side="right") - 1
        inside = self.end_us <= self.times[-1]
        spans = (ends - self.step)[inside]
        # A label ends at a close, and the row of that close comes a lag later: so the row's step is not yet reached.
        return max(int(np.median(spans)) + 1, 1) if len(spans) else 1

    @property
    def steps_per_year(self) -> float:
        """Distinct moments in a year of 365.25 days."""
        span = (self.times[-1] - self.times[0]) / (365.25 * 86_400e6)
        return float((len(self.times) - 1) / span) if span > 0 else 0.0

    def with_outcomes(self, label: NDArray[Any], forward_return: NDArray[Any]) -> TrainingData:
        """The same rows with other outcomes."""
        return replace(self, label=label, forward_return=forward_return)


def load_dataset(folder: Path) -> tuple[TrainingData, DatasetManifest]:
    """Read an exported folder and check it against its fingerprint.

    Rows without a label are left out.

    Raises
    ------
    IntegrityError
        If a file is missing, or its content is not what the manifest says.
    InvalidDataError
        If the data set has no labels, or ones that are not 0 and 1.
    EmptyDataError
        If no row has a label.
    """
    manifest = read_manifest(folder)
    spec = manifest.label_spec
    if spec is None or not spec.is_binary:
        raise InvalidDataError(
            f"the data set has {'no labels' if spec is None else f'labels {spec}'}, which are not 0 and 1",
            where=str(folder),
            remedy="Export with labels such as direction:5d",
        )
    table = read_data(folder, manifest)
    table = table.filter(table.column(LABEL_COLUMNS[0]).is_valid())
    if table.num_rows == 0:
        raise EmptyDataError("no row has a label", where=str(folder))
    table = table.sort_by([(name, "ascending") for name in (TIME_COLUMN, "symbol")])
    symbols, codes = np.unique(np.asarray(table.column("symbol").to_pylist()), return_inverse=True)
    names = manifest.features
    return (
        TrainingData(
            names=names,
            features=np.column_stack([_floats(table.column(name)) for name in names]),
            label=_floats(table.column(LABEL_COLUMNS[0])),
            forward_return=_floats(table.column(LABEL_COLUMNS[1])),
            event_us=_moments(table.column(TIME_COLUMN)),
            end_us=_moments(table.column(LABEL_COLUMNS[2])),
            symbol=codes.astype(np.int64),
            symbols=tuple(symbols.tolist()),
        ),
        manifest,
    )


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)


def _moments(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.asarray(column.cast(pa.int64()).to_numpy(), dtype=np.int64)
