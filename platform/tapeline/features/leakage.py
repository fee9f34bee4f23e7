"""The gate against look-ahead: a value must not change when the future is cut off or altered.

Computing on a history that ends at row c must give, bit for bit, what the whole history gives for the rows before c, and
so must a history whose rows from c on are different ones. Whatever fails this has seen the future.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import EmptyDataError, ParameterError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class BatchComputation(Protocol):
    """What can be tested: anything with a plan's outputs and batch."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Output names."""
        ...

    def batch(
        self,
        event_us: Integers,
        sequence: Integers,
        available_us: Integers,
        rows: Floats,
        offsets: Integers,
    ) -> tuple[Floats, Floats]:
        """Features of all rows, and final states; see :meth:`tapeline.features.FeaturePlan.batch`."""
        ...


@dataclass(frozen=True)
class Leak:
    """A value that changed with the future.

    Parameters
    ----------
    output
        The output's name.
    row
        The first row whose value changed.
    cut
        The first row that was cut off or altered.
    whole, other
        The value with the whole history, and with the other future.
    """

    output: str
    row: int
    cut: int
    whole: float
    other: float

    def __str__(self) -> str:
        return f"{self.output}: row {self.row} is {self.whole!r}, but {self.other!r} if rows from {self.cut} on differ"


def find_leaks(
    computation: BatchComputation,
    event_us: Integers,
    available_us: Integers,
    rows: Floats,
    cuts: Sequence[int],
) -> tuple[Leak, ...]:
    """Values that depend on rows after their own; none if the computation does not look ahead.

    Parameters
    ----------
    computation
        A feature plan, or anything that computes like one.
    event_us, available_us
        int64 (N,): times of one entity's rows.
    rows
        float64 (N, inputs).
    cuts
        Row numbers between 1 and N−1 at which the history ends.

    Returns
    -------
    tuple of Leak
        At most one for each output and cut.

    Raises
    ------
    EmptyDataError, ParameterError
        If there is no cut, or one lies outside the rows: then nothing would be tested.
    """
    if not cuts:
        raise EmptyDataError("a look-ahead test needs at least one cut")
    if min(cuts) < 1 or max(cuts) >= len(rows):
        raise ParameterError(f"cuts must lie between 1 and {len(rows) - 1}", where=f"cuts {min(cuts)} to {max(cuts)}")

    def run(end: int, content: Floats) -> Floats:
        features, _ = computation.batch(
            event_us[:end],
            np.arange(end, dtype=np.int64),
            available_us[:end],
            np.ascontiguousarray(content[:end]),
            np.array([0, end], dtype=np.int64),
        )
        return np.array(features)

    whole = run(len(rows), rows)
    leaks: list[Leak] = []
    for cut in cuts:
        altered = rows.copy()
        altered[cut:] = rows[cut:][::-1] * 1.25
        altered[cut:, -1] = 1.0
        for other in (run(cut, rows), run(len(rows), altered)):
            leaks += _differences(computation.outputs, whole[:cut], other[:cut], cut)
    return tuple({(leak.output, leak.cut): leak for leak in reversed(leaks)}.values())


def _differences(outputs: Sequence[str], whole: Floats, other: Floats, cut: int) -> list[Leak]:
    """For each output the first row whose bits differ; any NaN equals any other."""
    same = (whole.view(np.int64) == other.copy().view(np.int64)) | (np.isnan(whole) & np.isnan(other))
    return [
        Leak(outputs[column], row, cut, float(whole[row, column]), float(other[row, column]))
        for column in np.flatnonzero(~same.all(axis=0)).tolist()
        for row in [int(np.argmin(same[:, column]))]
    ]
