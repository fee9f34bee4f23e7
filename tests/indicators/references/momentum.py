"""References of the momentum."""

from __future__ import annotations

import numpy as np

from tests.indicators.references.arithmetic import Formula, before, mean, windows, z

FORMULAS: dict[str, Formula] = {
    "RETURN": lambda c: [c["close"] / before(c["close"], 1) - 1],
    "LOG_RETURN": lambda c: [np.log(c["close"] / before(c["close"], 1))],
    "PRICE_Z": lambda c: [z(c["close"], 20, 0)],
    "VOLUME_Z": lambda c: [z(c["volume"], 20, 0)],
    "DIST_SMA": lambda c: [c["close"] / mean(c["close"], 50) - 1],
    "HIGH_52W": lambda c: [c["close"] / windows(c["high"], 252, lambda w: w.max(axis=-1))],
    "LOW_52W": lambda c: [c["close"] / windows(c["low"], 252, lambda w: w.min(axis=-1))],
    "GAP": lambda c: [c["open"] / before(c["close"], 1) - 1],
}

UNDEFINED_ON_CONSTANT_BARS = {"PRICE_Z", "VOLUME_Z"}
UNDEFINED_WITHOUT_VOLUME = {"VOLUME_Z"}
