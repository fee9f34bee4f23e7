"""References of the volume."""

from __future__ import annotations

import numpy as np

from tests.indicators.references.arithmetic import Array, Columns, Formula, total, typical


def _flow(c: Columns) -> Array:
    return ((c["close"] - c["low"]) - (c["high"] - c["close"])) / (c["high"] - c["low"]) * c["volume"]


def _session_vwap(c: Columns) -> list[Array]:
    out = np.empty(len(c["close"]))
    for session in np.unique(c["session"]):
        rows = c["session"] == session
        out[rows] = np.cumsum((typical(c) * c["volume"])[rows]) / np.cumsum(c["volume"][rows])
    return [out]


FORMULAS: dict[str, Formula] = {
    "CMF": lambda c: [total(_flow(c), 20) / total(c["volume"], 20)],
    "VWAP": lambda c: [total(typical(c) * c["volume"], 20) / total(c["volume"], 20)],
    "VWAP_SESSION": _session_vwap,
}

ENDLESS = {"OBV", "AD", "ADOSC"}
UNDEFINED_WITHOUT_VOLUME = {"CMF", "VWAP", "VWAP_SESSION"}
