"""Which listings there are, and when each is alive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import InvalidDataError, UnknownNameError
from tapeline.core.timestamps import format_us

FOREVER_US = int(np.iinfo(np.int64).max)


class Validity(Protocol):
    """What an entry of the instrument master tells of a listing."""

    @property
    def symbol(self) -> str: ...
    @property
    def valid_from_us(self) -> int: ...
    @property
    def valid_to_us(self) -> int | None: ...


@dataclass(frozen=True, order=True)
class Listing:
    """A symbol from its listing to its delisting or renaming, µs since the epoch, both included.

    A daily bar that ends with its listing is still the listing's bar.
    """

    valid_from_us: int
    symbol: str
    valid_to_us: int = FOREVER_US


@dataclass(frozen=True)
class Universe:
    """Listings in the order of their beginning, then symbol; their places in it are the columns of states.

    Where two listings of one symbol touch, the newer counts from its first moment on.

    Raises
    ------
    InvalidDataError
        If a listing ends before it begins, or two listings of one symbol overlap.
    """

    listings: tuple[Listing, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "listings", tuple(sorted(self.listings)))
        for one in self.listings:
            if one.valid_to_us < one.valid_from_us:
                raise InvalidDataError(f"the listing of {one.symbol} ends before it begins", where=_span(one))
        for symbol, places in self._places.items():
            for earlier, later in pairwise(self.listings[place] for place in places):
                if later.valid_from_us < earlier.valid_to_us or later.valid_from_us == earlier.valid_from_us:
                    raise InvalidDataError(
                        f"two listings of {symbol} overlap",
                        where=f"{_span(earlier)} and {_span(later)}",
                        remedy="Correct the instrument master: one symbol is one instrument at a time",
                    )

    @classmethod
    def of_instruments(cls, instruments: Iterable[Validity]) -> Universe:
        """The validity intervals of the instrument master (:func:`tapeline.storage.reference.read_instruments`)."""
        return cls(
            tuple(
                Listing(one.valid_from_us, one.symbol, FOREVER_US if one.valid_to_us is None else one.valid_to_us)
                for one in instruments
            )
        )

    @classmethod
    def of_symbols(cls, symbols: Iterable[str]) -> Universe:
        """Symbols that count whenever they have a row: for data that itself ends where a symbol does."""
        return cls(tuple(Listing(-FOREVER_US, symbol) for symbol in sorted(set(symbols))))

    def __len__(self) -> int:
        return len(self.listings)

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        places: dict[str, list[int]] = {}
        for place, one in enumerate(self.listings):
            places.setdefault(one.symbol, []).append(place)
        return places

    def columns(self, symbols: Sequence[str], event_us: NDArray[np.int64]) -> NDArray[np.int64]:
        """The column of each (symbol, moment); −1 where the symbol is not alive then.

        Parameters
        ----------
        symbols, event_us
            Of equal length (rows,).

        Raises
        ------
        UnknownNameError
            If a symbol has no listing at all; the message names the nearest.
        """
        names, inverse = np.unique(np.asarray(symbols, dtype=object), return_inverse=True)
        found = np.full(len(event_us), -1, dtype=np.int64)
        order = np.argsort(inverse, kind="stable")
        bounds = np.searchsorted(inverse[order], np.arange(len(names) + 1))
        for number, symbol in enumerate(names.tolist()):
            if symbol not in self._places:
                raise UnknownNameError("symbol", symbol, self._places, where="universe of a cross-section")
            rows = order[bounds[number] : bounds[number + 1]]
            places = np.asarray(self._places[symbol], dtype=np.int64)
            begins = np.array([self.listings[place].valid_from_us for place in places], dtype=np.int64)
            ends = np.array([self.listings[place].valid_to_us for place in places], dtype=np.int64)
            newest = np.searchsorted(begins, event_us[rows], side="right") - 1
            alive = (newest >= 0) & (event_us[rows] <= ends[newest])
            found[rows] = np.where(alive, places[newest], -1)
        return found


def _span(one: Listing) -> str:
    return f"{one.symbol} from {_moment(one.valid_from_us)} to {_moment(one.valid_to_us)}"


def _moment(us: int) -> str:
    return "ever" if abs(us) == FOREVER_US else format_us(us)
