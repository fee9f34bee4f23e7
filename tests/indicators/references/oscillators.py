"""References of the oscillators; TA-Lib's are in the battery."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pandas_ta_classic
import wickra
from talipp.indicators import KST

from tests.indicators.references.arithmetic import Array, Columns, Formula, before


def _kst(c: Columns) -> list[Array]:
    values = list(KST(10, 10, 15, 10, 20, 10, 30, 15, 9, c["close"].tolist()))
    lines = [[np.nan if v is None else v.kst for v in values], [np.nan if v is None else v.signal for v in values]]
    return [np.array(line, dtype=np.float64) for line in lines]


def _fisher(c: Columns) -> list[Array]:
    """Pandas-ta begins one row late and from 0: until that has faded, for 90 rows, a plain loop after Ehlers' listing."""
    n, seeded = 10, 100
    middle = (c["high"] + c["low"]) / 2
    listing = np.full(len(middle), np.nan)
    value = transform = 0.0
    for i in range(n - 1, seeded):
        window = middle[i - n + 1 : i + 1]
        value = 0.33 * 2 * ((middle[i] - window.min()) / (window.max() - window.min()) - 0.5) + 0.67 * value
        value = 0.999 if value > 0.99 else -0.999 if value < -0.99 else value
        transform = listing[i] = 0.5 * np.log((1 + value) / (1 - value)) + 0.5 * transform
    library = pandas_ta_classic.fisher(pd.Series(c["high"]), pd.Series(c["low"]), length=n).iloc[:, 0].to_numpy()
    fisher = np.concatenate([listing[:seeded], library[seeded:]])
    return [fisher, before(fisher, 1)]


FORMULAS: dict[str, Formula] = {
    "KST": _kst,
    "FISHER": _fisher,
    "STC": lambda c: [np.asarray(wickra.STC(23, 50, 10, 0.5).batch(c["close"]), dtype=np.float64)],
}

RECURSIVE = {
    "TRIX", "RSI", "CMO", "MACD", "MACDEXT", "MACDFIX", "PPO", "APO", "PVO", "TSI", "SMI", "RVI", "KDJ", "STOCHRSI",
    "FISHER", "STC",
}  # fmt: skip
DISCRETE = {"MFI"}  # asks whether two means of three prices are equal
