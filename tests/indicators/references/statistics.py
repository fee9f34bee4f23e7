"""References of the statistics."""

from __future__ import annotations

from tests.indicators.references.arithmetic import Formula, z

FORMULAS: dict[str, Formula] = {
    "ZSCORE": lambda c: [z(c["close"], 30, 1)],
}

UNDEFINED_ON_CONSTANT_BARS = {"ZSCORE"}
