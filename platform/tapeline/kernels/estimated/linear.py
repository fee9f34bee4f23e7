"""Linear equations in state slots: small, dense, in place."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

State = NDArray[np.float64]

SINGULAR = 1e-13
"""A pivot below this part of the largest number of its column, before elimination, counts as none."""


@njit(error_model="numpy", cache=True)
def solve(state: State, at: int, n: int, columns: int) -> bool:
    """Solve for the right-hand columns of an n × (n + columns) system, kept row by row; they become the solutions.

    Gauss–Jordan with partial pivoting (Golub & Van Loan 2013, 3.4). Returns False, and leaves no solution, if the matrix
    is singular to working precision.
    """
    width = n + columns
    for j in range(n):
        best, size = j, abs(state[at + j * width + j])
        for i in range(j + 1, n):
            if abs(state[at + i * width + j]) > size:
                best, size = i, abs(state[at + i * width + j])
        if not size > 0.0:
            return False
        if best != j:
            for c in range(j, width):
                x = state[at + j * width + c]
                state[at + j * width + c] = state[at + best * width + c]
                state[at + best * width + c] = x
        pivot = state[at + j * width + j]
        for i in range(n):
            factor = state[at + i * width + j] / pivot
            if i == j or factor == 0.0:
                continue
            for c in range(j, width):
                x = state[at + i * width + c]
                y = x - factor * state[at + j * width + c]
                # What is left of a difference of nearly equal numbers is rounding: a singular matrix shows as zeros.
                state[at + i * width + c] = 0.0 if c < n and abs(y) < SINGULAR * abs(x) else y
    for i in range(n):
        pivot = state[at + i * width + i]
        for c in range(n, width):
            state[at + i * width + c] /= pivot
    return True
