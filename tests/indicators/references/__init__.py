"""What the battery compares every indicator with, and which general rule an indicator is known to leave.

One module for each group. A module may define:

* ``FORMULAS``: name → direct formula at default parameters, for indicators whose oracle is not TA-Lib;
* ``RECURSIVE``, ``ENDLESS``: names whose values depend, fading or for ever, on all rows since the first;
* ``UNDEFINED_ON_CONSTANT_BARS``, ``UNDEFINED_WITHOUT_VOLUME``: names that have no value there, by their definition;
* ``DISCRETE``: names that compare computed numbers for equality or order, so that rounding prices may change an answer;
* ``DEPENDS_ON_THE_UNIT_OF_PRICES``: names that are not the same, nor in proportion, when prices are quoted in cents;
* ``TALIB_NAMES``: name → TA-Lib's, where the catalogue's is another.
"""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import talib.abstract
from tapeline.indicators import Indicator

from tests.indicators.references.arithmetic import Array, Columns, Formula

_MODULES = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]


def _names(kind: str) -> set[str]:
    return {name for module in _MODULES for name in getattr(module, kind, ())}


FORMULAS: dict[str, Formula] = {
    name: formula for module in _MODULES for name, formula in getattr(module, "FORMULAS", {}).items()
}
RECURSIVE, ENDLESS, DISCRETE = _names("RECURSIVE"), _names("ENDLESS"), _names("DISCRETE")
DEPENDS_ON_THE_UNIT_OF_PRICES = _names("DEPENDS_ON_THE_UNIT_OF_PRICES")
TALIB_NAMES: dict[str, str] = {
    name: theirs for module in _MODULES for name, theirs in getattr(module, "TALIB_NAMES", {}).items()
}
UNDEFINED_ON_CONSTANT_BARS = _names("UNDEFINED_ON_CONSTANT_BARS")
UNDEFINED_WITHOUT_VOLUME = _names("UNDEFINED_WITHOUT_VOLUME")


def talibs(indicator: Indicator) -> talib.abstract.Function:
    """TA-Lib's function of an indicator."""
    return talib.abstract.Function(TALIB_NAMES.get(indicator.name, indicator.name))


def expected(indicator: Indicator, columns: Columns) -> list[Array]:
    """What the oracle gives at default parameters; a missing oracle is an error, so none can be forgotten."""
    if indicator.name in FORMULAS:
        return FORMULAS[indicator.name](columns)
    function = talibs(indicator)
    names = ("open", "high", "low", "close", "volume")
    result = function({name: columns[name] for name in names}, **indicator.complete({}))
    arrays = list(result) if isinstance(result, list | tuple) else [result]
    return [_not_yet_known(np.asarray(array), function.lookback) for array in arrays]


def _not_yet_known(array: Array, lookback: int) -> Array:
    """TA-Lib's whole numbers are 0 before their first value, its others NaN: NaN for both."""
    values = array.astype(np.float64)
    if array.dtype.kind == "i":
        values[:lookback] = np.nan
    return values
