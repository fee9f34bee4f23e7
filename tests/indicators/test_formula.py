"""Formulas are written from the very graph that is compiled, and read as a person would write them."""

from __future__ import annotations

import math

import pytest
from tapeline.indicators import Indicator, all_indicators, indicator_named
from tapeline.indicators.expression import column
from tapeline.indicators.formula import formula
from tapeline.indicators.named_constants import Named, named

each = pytest.mark.parametrize("indicator", all_indicators(), ids=lambda indicator: indicator.name)


@each
def test_the_graph_with_names_is_the_graph_of_plans(indicator: Indicator) -> None:
    """Else a formula would show what is not computed."""
    names = {p.name: named(p.default, p.name) for p in indicator.parameters}
    assert [e.key for e in indicator.expressions_of(names)] == [e.key for e in indicator.expressions({})]


@each
def test_every_name_in_a_formula_is_defined(indicator: Indicator) -> None:
    """A column, a parameter, a letter of a line above, or a step explained below."""
    written = formula(indicator)
    known = {*indicator.inputs, *(p.name for p in indicator.parameters), "t", "ln", "max", "min", "or", "_"}
    known |= {step.partition("(")[0] for step in written.steps}
    for line in written.lines:
        made, _, text = line.partition(" = ")
        words = set("".join(c if c.isalnum() or c == "_" else " " for c in text).split())
        assert {word for word in words if not word[0].isdigit()} <= known, line
        known |= set(made.split(", "))
    assert set(indicator.outputs) <= known
    assert all(meaning and "Slot" not in meaning for meaning in written.steps.values())


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("SMA", ["sma = rolling_sum(close, timeperiod) / timeperiod"]),
        ("MOM", ["mom = close − close[t−timeperiod]"]),
        ("ROC", ["roc = 100 · (close / close[t−timeperiod] − 1)"]),
        ("GAP", ["gap = open / close[t−1] − 1"]),
        ("ZSCORE", ["a, b = moments(close, timeperiod)", "zscore = (close − a) / √(b / (timeperiod − 1))"]),
        (
            "RSI",
            ["a, b = gain_and_loss(close)", "c = wilder_mean(a, timeperiod)", "rsi = 100 · c / (c + wilder_mean(b, timeperiod))"],
        ),
        (
            "AROON",
            [
                "_, a = lowest(low, timeperiod + 1)",
                "_, b = highest(high, timeperiod + 1)",
                "aroon_down = 7.14286 · (timeperiod − a)",
                "aroon_up = 7.14286 · (timeperiod − b)",
            ],
        ),
    ],
)  # fmt: skip
def test_formulas_read_as_written_by_hand(name: str, lines: list[str]) -> None:
    assert list(formula(indicator_named(name)).lines) == lines


def test_conventions_on_zero_are_told() -> None:
    assert "A quotient by zero counts as 0." in formula(indicator_named("RSI")).notes
    assert "A quotient by zero has no value." in formula(indicator_named("ZSCORE")).notes
    mixed = formula(indicator_named("CMF"))
    assert any(", or 0)" in line for line in mixed.lines)
    assert "“(a / b, or c)” is c where b is 0." in mixed.notes


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (lambda n: n + 1, "n + 1"),
        (lambda n: 2 * n - 1, "2 · n − 1"),
        (lambda n: 2 * (n - 1), "2 · (n − 1)"),
        (lambda n: 1 - (n - 2), "1 − (n − 2)"),
        (lambda n: 100 / (n + 1), "100/(n + 1)"),
        (lambda n: n // 2, "⌊n/2⌋"),
        (lambda n: n**2, "n^2"),
        (lambda n: -n, "−n"),
        (lambda n: n * 1.0, "n"),
        (lambda n: (n + 1) * 1.0, "n + 1"),
    ],
)
def test_named_numbers_equal_plain_ones_and_keep_their_names(value, text: str) -> None:
    made, plain = value(named(14, "n")), value(14)
    assert isinstance(made, Named)
    assert (made.text, made, type(plain)) == (text, plain, float if isinstance(made, float) else int)
    assert (repr(made), hash(made), f"{made}") == (repr(plain), hash(plain), f"{plain}")


def test_numbers_derived_otherwise_are_plain() -> None:
    """A float before a whole number computes without asking it."""
    assert not isinstance(math.sqrt(named(16, "n")), Named)
    assert not isinstance(100.0 / named(16, "n"), Named)
    assert (named(2.0, "f") * column("close")).key == (2.0 * column("close")).key
