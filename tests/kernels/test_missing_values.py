"""The rule for every step of trend, cycle and adaptive averages: a NaN gives NaN and leaves the state as it was."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import numpy as np
import pytest
from tapeline.kernels import adaptive, hilbert, trend
from tapeline.kernels.primitive import count_of, primitive_of

CONSTANTS: dict[str, tuple[float, ...]] = {
    "dynamic_mean": (5,),
    "fractal_mean": (4,),
    "parabolic_stop": (0.0, 0.1, 0.02, 0.02, 0.2, 0.02, 0.02, 0.2),
    "phase_adaptive_means": (0.5, 0.05),
    "wilder_movement": (5,),
}

KEEPS_WITHOUT = {"cycle_trend": 1}
"""Inputs of which a missing one may still change the state: the trendline keeps prices before there is a period."""


def _steps() -> list[Any]:
    """Every primitive of the modules that looks back only through its state."""
    members = (value for module in (adaptive, hilbert, trend) for value in vars(module).values())
    options = {"no_cpython_wrapper", "forceinline"}  # of steps; helpers have but one of these
    found = [m for m in members if hasattr(m, "py_func") and all(m.targetoptions.get(o) for o in options)]
    return [step for step in dict.fromkeys(found) if primitive_of(step).history is None]


@pytest.mark.parametrize("step", _steps(), ids=lambda step: step.py_func.__name__)
def test_a_missing_input_gives_nan_and_changes_nothing(step: Any) -> None:
    known = primitive_of(step)
    constants = CONSTANTS.get(known.name, ())
    slots = count_of(known.slots, constants)
    state = np.zeros(max(slots, 1))
    before = (state, 0) if slots else ()
    inputs = len(inspect.signature(step.py_func).parameters) - len(before) - len(constants)
    rng = np.random.default_rng(7)
    for _ in range(60):
        step.py_func(*before, *rng.uniform(6.0, 12.0, inputs), *constants)
    assert state.any() or not slots
    for missing in itertools.product([True, False], repeat=inputs):
        if any(missing):
            kept = state.copy()
            row = np.where(missing, np.nan, rng.uniform(6.0, 12.0, inputs))
            results = step.py_func(*before, *row, *constants)
            assert np.isnan(results).all()
            place = KEEPS_WITHOUT.get(known.name)
            if place is not None and sum(missing) == 1 and missing[place]:
                continue
            np.testing.assert_array_equal(state, kept)


def test_steps_were_found() -> None:
    assert len(_steps()) >= 12
