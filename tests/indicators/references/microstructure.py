"""References of the microstructure features over bars."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import orderflow_metrics as om
from bidask import edge
from orderflow_metrics.psliquidity import pastor_stambaugh_gamma
from orderflow_metrics.spreadest import Ohlc, abdi_ranaldo, corwin_schultz

from tests.indicators.references.arithmetic import Array, Columns, Formula

WINDOW = 21


def _over_bars(n: int, of: Callable[[slice], float], rows: int) -> list[Array]:
    """A function of the last n bars, NaN before there are so many."""
    return [np.array([np.nan] * (n - 1) + [of(slice(end - n, end)) for end in range(n, rows + 1)])]


def _of_ohlc(estimate: Callable[[list[Ohlc]], float]) -> Formula:
    def reference(c: Columns) -> list[Array]:
        bars = [Ohlc(*bar) for bar in zip(c["high"].tolist(), c["low"].tolist(), c["close"].tolist(), strict=True)]
        return _over_bars(WINDOW, lambda rows: estimate(bars[rows]), len(bars))

    return reference


def _edge(c: Columns) -> list[Array]:
    names = ("open", "high", "low", "close")
    return _over_bars(WINDOW, lambda rows: edge(*(c[name][rows] for name in names)), len(c["close"]))


def _amihud(c: Columns) -> list[Array]:
    changes = c["close"][1:] / c["close"][:-1] - 1
    days = [
        om.ReturnVolume(*day) for day in zip(changes.tolist(), (c["close"] * c["volume"])[1:].tolist(), strict=True)
    ]
    values = _over_bars(WINDOW, lambda rows: om.amihud_illiquidity(days[rows]), len(days))[0]
    return [np.concatenate([[np.nan], values])]


def _pastor_stambaugh(c: Columns) -> list[Array]:
    """Money in millions as the paper has it, which keeps the oracle's normal equations well-conditioned."""
    changes = (c["close"][1:] / c["close"][:-1] - 1).tolist()
    money = (c["close"] * c["volume"] / 1e6)[1:].tolist()
    gammas = _over_bars(
        WINDOW + 1,
        lambda rows: pastor_stambaugh_gamma(changes[rows], changes[rows], money[rows]).gamma / 1e6,
        len(changes),
    )[0]
    return [np.concatenate([[np.nan], gammas])]


FORMULAS: dict[str, Formula] = {
    "CORWIN_SCHULTZ": _of_ohlc(corwin_schultz),
    "ABDI_RANALDO": _of_ohlc(abdi_ranaldo),
    "EDGE": _edge,
    "AMIHUD": _amihud,
    "PASTOR_STAMBAUGH": _pastor_stambaugh,
}
UNDEFINED_ON_CONSTANT_BARS = {"EDGE", "PASTOR_STAMBAUGH"}
UNDEFINED_WITHOUT_VOLUME = {"AMIHUD", "PASTOR_STAMBAUGH"}
DISCRETE = {"PASTOR_STAMBAUGH"}  # takes the sign of a return, which is 0 where two closes are equal
