"""Runs one windowed step over a series, with its ring behind its slots."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from tapeline.kernels.primitive import count_of, primitive_of
from tapeline.kernels.rolling import RING_HEADER, push

_RING = 16


@cache
def _loop(step: Any, outputs: int) -> Any:
    @njit(error_model="numpy")
    def single(x, n, state, out):
        for i in range(len(x)):
            newest = push(state, _RING, n + 1, x[i])
            out[i, 0] = step(state, 0, _RING, n + 1, newest, x[i], n)

    @njit(error_model="numpy")
    def pair(x, n, state, out):
        for i in range(len(x)):
            newest = push(state, _RING, n + 1, x[i])
            out[i, 0], out[i, 1] = step(state, 0, _RING, n + 1, newest, x[i], n)

    return single if outputs == 1 else pair


def run(step: Any, x: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """All results of the step, shape (len(x), outputs)."""
    known = primitive_of(step)
    assert count_of(known.slots, (n,)) <= _RING
    out = np.empty((len(x), known.outputs))
    _loop(step, known.outputs)(np.ascontiguousarray(x, dtype=np.float64), n, np.zeros(_RING + RING_HEADER + n + 1), out)
    return out
