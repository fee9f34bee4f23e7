"""Purged walk-forward: train on what was known, test on what came next; and purged K-fold, for choices inside a window.

A training row's label may end after the test window begins; then the row has seen part of the outcome that is tested, and
is purged. Purging goes by the label's own end time, not by a count of rows, because holidays, half days and barriers make
labels of one horizon end at different distances.

Source: López de Prado, *Advances in Financial Machine Learning* (2018), chapter 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import BaseCrossValidator

from tapeline.core.errors import EmptyDataError, ParameterError


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


class PurgedKFold(BaseCrossValidator):  # type: ignore[misc]  # scikit-learn is untyped
    """K blocks of consecutive moments, each tested once by a model of the rows before and after it.

    A row is left out of the training if its label's time, from its moment to its label's end, overlaps that of a row of
    the block; and after the block, until so many more moments have passed since the last of the block's labels ended: what
    follows a test window still remembers it. It is a splitter of scikit-learn's, for rows whose times it is given.

    Parameters
    ----------
    event_us, end_us
        Each row's moment and its label's end, microseconds; shape (rows,), in any order.
    n_splits
        How many blocks, of about equally many distinct moments.
    embargo_steps
        Distinct moments after the end of a block's labels that are not trained on.

    Raises
    ------
    ParameterError
        If a number is impossible, the times are not of equally many rows, or a label ends before its row.

    Notes
    -----
    Source: López de Prado, *Advances in Financial Machine Learning* (2018), section 7.4.
    """

    def __init__(
        self, event_us: NDArray[np.int64], end_us: NDArray[np.int64], n_splits: int = 5, *, embargo_steps: int = 0
    ) -> None:
        self.event_us = np.asarray(event_us)
        self.end_us = np.asarray(end_us)
        self.n_splits = n_splits
        self.embargo_steps = embargo_steps
        if n_splits < 2 or embargo_steps < 0:
            raise ParameterError(
                f"{n_splits} folds with an embargo of {embargo_steps} steps",
                remedy="Give two folds or more, and 0 or more",
            )
        if self.event_us.ndim != 1 or self.event_us.shape != self.end_us.shape or (self.end_us < self.event_us).any():
            raise ParameterError(
                "event_us and end_us differ in shape, or a label ends before its row",
                where="PurgedKFold",
                remedy="Give each row's moment and its label's end",
            )

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:  # noqa: N803, ARG002
        """How many splits there are; what is given does not matter."""
        return self.n_splits

    def split(
        self,
        X: Any,  # noqa: N803
        y: Any = None,  # noqa: ARG002
        groups: Any = None,  # noqa: ARG002
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Row numbers to train on and to test on, ascending, blocks in the order of time.

        Raises
        ------
        ParameterError
            If `X` has another number of rows than there are times.
        EmptyDataError
            If there are fewer moments than folds, or the purge leaves a fold no training row.
        """
        if len(X) != len(self.event_us):
            raise ParameterError(f"{len(X)} rows where the times are of {len(self.event_us)}", where="PurgedKFold")
        times = np.unique(self.event_us)
        if len(times) < self.n_splits:
            raise EmptyDataError(
                f"{len(times)} distinct moments are too few for {self.n_splits} folds", remedy="Choose fewer folds"
            )
        for number, block in enumerate(np.array_split(times, self.n_splits)):
            tested = (self.event_us >= block[0]) & (self.event_us <= block[-1])
            over = np.searchsorted(times, self.end_us[tested].max()) + self.embargo_steps
            allowed = self.end_us <= block[0]
            if over < len(times):
                allowed |= self.event_us >= times[over]
            train = np.flatnonzero(allowed & ~tested)
            if not len(train):
                raise EmptyDataError(
                    f"the purge leaves fold {number} of {self.n_splits} no training row",
                    remedy="Choose a longer training window, fewer folds or a shorter label horizon",
                )
            yield train, np.flatnonzero(tested)
