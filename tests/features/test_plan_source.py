"""The plan hash follows meaning: code that computes something else changes it, words and layout do not."""

from __future__ import annotations

import ast

import pytest
from tapeline.features.kernel_source import kernel_sources, normalised
from tapeline.kernels.compensated import add
from tapeline.kernels.moments import moments
from tapeline.kernels.rolling import rolling_sum

BASE = '''
def step(state: int, x: float) -> float:
    """Words."""
    return x + 1.0
'''


@pytest.mark.parametrize(
    "same",
    [
        "def step(state, x):\n    return x + 1.0\n",
        "# a comment\ndef step(state,\n         x):\n    'Other words.'\n    return (x +\n            1.0)\n",
        "@decorated(3)\ndef step(state: float, x):\n    return x + 1.0\n",
    ],
)
def test_words_layout_and_annotations_do_not_count(same: str) -> None:
    assert normalised(ast.parse(same)) == normalised(ast.parse(BASE))


@pytest.mark.parametrize(
    "other",
    [
        "def step(state, x):\n    return x + 2.0\n",
        "def step(state, x):\n    return 1.0 + x\n",
        "def step(state, x):\n    return x - 1.0\n",
        "def step(x, state):\n    return x + 1.0\n",
    ],
)
def test_what_is_computed_counts(other: str) -> None:
    assert normalised(ast.parse(other)) != normalised(ast.parse(BASE))


def test_called_functions_and_constants_belong_to_a_kernel() -> None:
    sources = kernel_sources([rolling_sum, moments])
    assert set(sources) == {
        "tapeline.kernels.rolling.rolling_sum",
        "tapeline.kernels.rolling.past",
        "tapeline.kernels.rolling.window_sum",
        "tapeline.kernels.rolling.RESUM_AT",
        "tapeline.kernels.moments.moments",
        "tapeline.kernels.moments.exact_moments",
        "tapeline.kernels.moments.RESUM_AT",
    }
    assert sources["tapeline.kernels.moments.RESUM_AT"] == "200.0"
    assert set(kernel_sources([add])) == {"tapeline.kernels.compensated.add"}
