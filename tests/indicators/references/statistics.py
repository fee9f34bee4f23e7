"""References of the statistics."""

from __future__ import annotations

from tests.indicators.references.arithmetic import Formula, z

TALIB_NAMES = {"HEIKIN_ASHI": "HA"}

FORMULAS: dict[str, Formula] = {
    "ZSCORE": lambda c: [z(c["close"], 30, 1)],
}

RECURSIVE = {"HEIKIN_ASHI"}
UNDEFINED_ON_CONSTANT_BARS = {"ZSCORE"}
DEPENDS_ON_THE_UNIT_OF_PRICES = {"LINEARREG_ANGLE"}
