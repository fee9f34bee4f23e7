"""References of the volume."""

from __future__ import annotations

import numpy as np
import talib
from talipp.indicators import EMV, KVO
from talipp.ohlcv import OHLCV

from tests.indicators.references.arithmetic import Array, Columns, Formula, total, typical


def _flow(c: Columns) -> Array:
    return ((c["close"] - c["low"]) - (c["high"] - c["close"])) / (c["high"] - c["low"]) * c["volume"]


def _session_vwap(c: Columns) -> list[Array]:
    out = np.empty(len(c["close"]))
    for session in np.unique(c["session"]):
        rows = c["session"] == session
        out[rows] = np.cumsum((typical(c) * c["volume"])[rows]) / np.cumsum(c["volume"][rows])
    return [out]


def _bars(c: Columns) -> list[OHLCV]:
    names = ("open", "high", "low", "close", "volume")
    return [OHLCV(*bar) for bar in zip(*(c[name].tolist() for name in names), strict=True)]


def _emv(c: Columns) -> list[Array]:
    return [np.array(list(EMV(14, 100_000_000, _bars(c))), dtype=np.float64)]


def _klinger(c: Columns) -> list[Array]:
    """The library has no signal line."""
    line = np.array(list(KVO(34, 55, _bars(c))), dtype=np.float64)
    return [line, talib.EMA(line, 13)]


FORMULAS: dict[str, Formula] = {
    "CMF": lambda c: [total(_flow(c), 20) / total(c["volume"], 20)],
    "VWAP": lambda c: [total(typical(c) * c["volume"], 20) / total(c["volume"], 20)],
    "VWAP_SESSION": _session_vwap,
    "EMV": _emv,
    "KLINGER": _klinger,
}

RECURSIVE = {"EFI", "ERI", "KLINGER"}
ENDLESS = {"OBV", "AD", "ADOSC", "NVI", "PVI", "PVT", "WAD"}
UNDEFINED_WITHOUT_VOLUME = {"CMF", "VWAP", "VWAP_SESSION", "EMV", "RVOL"}
DISCRETE = {"KLINGER"}  # asks whether the sum of high, low and close rose
