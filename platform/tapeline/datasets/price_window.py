"""Prices for the labels of one slice after another, each price read once.

Slices are ordered by time, so the prices that their labels need lie in a window that only moves forward. A slice's labels
are those of all rows at once: beside the window, the last price before it and the symbol's last price of all are kept,
because labels ask whether a price was ever seen after their end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import psycopg

from tapeline.core.errors import LimitError
from tapeline.core.timestamps import DAY_US
from tapeline.datasets.inputs import PriceSource
from tapeline.datasets.labels import LabelSpec
from tapeline.datasets.prices import Prices, last_prices, read_prices

PRICES_MAX = 50_000_000
"""Prices in memory at once."""
# The last price before a moment, and the first after a label's end, lie within the longest closure of a venue.
_CLOSURE_US = 14 * DAY_US
LABEL_BACK_US = _CLOSURE_US + 40 * DAY_US
"""A label looks at most so far back: twenty sessions, for its barriers, and a closure."""
_STEP_US = 60 * DAY_US


def label_ahead_us(spec: LabelSpec) -> int:
    """A label ends at most so far ahead: n sessions lie within twice as many days and a closure."""
    return _CLOSURE_US + (2 * spec.sessions + spec.hours) * DAY_US


class PriceWindow:
    """The prices around one slice after another.

    Parameters
    ----------
    source, spec
        Whose prices, for which labels.
    symbols
        All symbols of the data set.
    span_us
        First and last moment of the whole data set's entity rows.
    vintage_us
        Only prices recorded by this moment count.
    """

    def __init__(
        self, source: PriceSource, spec: LabelSpec, symbols: Sequence[str], span_us: tuple[int, int], vintage_us: int
    ) -> None:
        self._source = source
        self._symbols = list(symbols)
        self._vintage_us = vintage_us
        self._ahead_us = label_ahead_us(spec)
        self._first_us = span_us[0] - LABEL_BACK_US
        self._last_us = span_us[1] + self._ahead_us
        self._read_to_us = self._first_us - 1
        self._held: dict[str, Prices] = {}
        self._final: dict[str, tuple[int, float]] | None = None

    def around(self, connection: psycopg.Connection[Any], first_us: int, last_us: int) -> dict[str, Prices]:
        """The prices for entity rows from one moment to another, neither before those of the last call.

        Raises
        ------
        LimitError
            If there are too many prices to hold.
        """
        if self._final is None:
            self._final = last_prices(
                connection,
                self._source.kind,
                self._source.source,
                self._symbols,
                vintage_us=self._vintage_us,
                first_us=self._first_us,
                last_us=self._last_us,
            )
        low_us, high_us = first_us - LABEL_BACK_US, min(last_us + self._ahead_us, self._last_us)
        while self._read_to_us < high_us:
            gap_us = low_us - self._read_to_us
            self._advance(connection, self._read_to_us + _STEP_US if gap_us > _STEP_US else high_us, low_us)
        return {symbol: self._closed(symbol, prices) for symbol, prices in self._held.items()}

    def _advance(self, connection: psycopg.Connection[Any], to_us: int, low_us: int) -> None:
        """Read on to a moment; of what lies before `low_us`, keep each symbol's last price."""
        new = read_prices(
            connection,
            self._source.kind,
            self._source.source,
            self._symbols,
            vintage_us=self._vintage_us,
            first_us=self._read_to_us + 1,
            last_us=to_us,
        )
        held = {}
        for symbol in dict.fromkeys([*self._held, *new]):
            parts = [part for part in (self._held.get(symbol), new.get(symbol)) if part is not None]
            event_us = np.concatenate([part.event_us for part in parts])
            price = np.concatenate([part.price for part in parts])
            keep = max(0, int(np.searchsorted(event_us, low_us)) - 1)
            held[symbol] = replace(parts[0], event_us=event_us[keep:].copy(), price=price[keep:].copy())
        if sum(len(prices.event_us) for prices in held.values()) > PRICES_MAX:
            raise LimitError(
                f"labels need more than {PRICES_MAX:,} prices at once",
                where=f"source {self._source.source}",
                remedy="Label with bars, or with fewer symbols",
            )
        self._held, self._read_to_us = held, to_us

    def _closed(self, symbol: str, prices: Prices) -> Prices:
        """With the symbol's last price of all at the end, if it lies past the window."""
        final = (self._final or {}).get(symbol)
        if final is None or final[0] <= self._read_to_us:
            return prices
        return replace(prices, event_us=np.append(prices.event_us, final[0]), price=np.append(prices.price, final[1]))
