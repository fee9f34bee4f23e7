"""The look-ahead gate passes every feature and catches features that leak on purpose."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from tapeline.core.errors import EmptyDataError, ParameterError
from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.features.leakage import find_leaks

from tests.indicators.market import everything, goog, rows_of, times

CUTS = (1, 2, 31, 255, 600, 1_000, 2_147)


def test_no_feature_looks_ahead() -> None:
    rows = rows_of(everything(), goog())
    at = times(len(rows))
    assert find_leaks(everything(), at, at, rows, CUTS) == ()


class Leaking:
    """A plan one of whose outputs is replaced by something that sees the future."""

    def __init__(self, leak: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> None:
        self._plan = FeaturePlan.of([FeatureRequest.of("SMA", timeperiod=3), FeatureRequest("RETURN")])
        self._leak = leak
        self.outputs = self._plan.outputs
        self.inputs = self._plan.inputs

    def batch(
        self,
        event_us: NDArray[np.int64],
        sequence: NDArray[np.int64],
        available_us: NDArray[np.int64],
        rows: NDArray[np.float64],
        offsets: NDArray[np.int64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        features, states = self._plan.batch(event_us, sequence, available_us, rows, offsets)
        features[:, 1] = self._leak(rows[:, 0])
        return features, states


LEAKS = {
    "the next row's close": lambda close: np.append(close[1:], np.nan),
    "a centred mean, as DPO has it": lambda close: np.convolve(close, np.full(5, 0.2), mode="same"),
    "standardised with the whole sample": lambda close: (close - close.mean()) / close.std(),
    "the lagging span, as Ichimoku has it": lambda close: np.append(close[26:], np.full(min(26, len(close)), np.nan)),
    "the length of the history": lambda close: np.full(len(close), float(len(close))),
    "the last row only": lambda close: np.where(close == close.max(), 1.0, 0.0),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_feature_that_leaks_on_purpose_is_caught(name: str) -> None:
    leaking = Leaking(LEAKS[name])
    rows = np.ascontiguousarray(np.column_stack([goog()["close"], np.ones(len(goog()["close"]))]))
    at = times(len(rows))
    leaks = find_leaks(leaking, at, at, rows, [40, 100, 500])
    assert leaks
    assert {leak.output for leak in leaks} == {"return_1"}
    assert all(leak.row < leak.cut for leak in leaks)
    assert "return_1" in str(leaks[0])


def test_a_gate_that_would_test_nothing_is_an_error() -> None:
    rows = rows_of(everything(), goog())[:10]
    with pytest.raises(EmptyDataError):
        find_leaks(everything(), times(10), times(10), rows, [])
    for cut in (0, 10):
        with pytest.raises(ParameterError):
            find_leaks(everything(), times(10), times(10), rows, [cut])
