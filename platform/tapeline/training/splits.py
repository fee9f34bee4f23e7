"""Purged walk-forward: train on what was known, test on what came next.

A training row's label may end after the test window begins; then the row has seen part of the outcome that is tested, and
is purged. Purging goes by the label's own end time, not by a count of rows, because holidays, half days and barriers make
labels of one horizon end at different distances.

Source: López de Prado, *Advances in Financial Machine Learning* (2018), chapter 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import EmptyDataError


@dataclass(frozen=True)
class Fold:
    """Row numbers of one split, ascending.

    Attributes
    ----------
    number
        From 0, in the order of time.
    train, test
        Every training label ends, and is past the embargo, before the first test row's moment.
    known_by_us
        Labels that end by this moment may be used to prepare this fold: for training, and for calibration.
    """

    number: int
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    known_by_us: int


def walk_forward(
    event_us: NDArray[np.int64],
    end_us: NDArray[np.int64],
    *,
    train_steps: int,
    test_steps: int,
    embargo_steps: int = 0,
    window: Literal["expanding", "rolling"] = "expanding",
) -> Iterator[Fold]:
    """Consecutive test windows after a growing or sliding training window.

    Parameters
    ----------
    event_us, end_us
        Each row's moment and its label's end, microseconds; shape (rows,), in any order.
    train_steps
        Distinct moments before the first test window, and with a rolling window before each.
    test_steps
        Distinct moments in a test window; the last one may have fewer, but not fewer than half.
    embargo_steps
        Labels must end at least so many distinct moments before the test window.
    window
        ``expanding`` keeps all earlier rows, ``rolling`` the last `train_steps`.

    Raises
    ------
    EmptyDataError
        If there are too few moments for one fold, or the purge leaves a fold no training row.
    """
    times = np.unique(event_us)
    if len(times) < train_steps + max(test_steps // 2, 1):
        raise EmptyDataError(
            f"{len(times)} distinct moments are too few for {train_steps} to train on and {test_steps} to test on",
            remedy="Export a longer span, or choose smaller windows (train_steps, test_steps)",
        )
    for number, start in enumerate(range(train_steps, len(times) - max(test_steps // 2, 1) + 1, test_steps)):
        after = times[min(start + test_steps, len(times)) - 1]
        test = np.flatnonzero((event_us >= times[start]) & (event_us <= after))
        known_by_us = int(times[max(start - embargo_steps, 0)])
        known = (event_us < times[start]) & (end_us <= known_by_us)
        if window == "rolling":
            known &= event_us >= times[start - train_steps]
        train = np.flatnonzero(known)
        if not len(train):
            raise EmptyDataError(
                f"the purge leaves fold {number} no training row",
                remedy="Choose a longer training window or a shorter label horizon",
            )
        yield Fold(number, train, test, known_by_us)
