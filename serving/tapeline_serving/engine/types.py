"""Requests and predictions as the engine sees them. The enumerations have the numbers of the proto file."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from tapeline.features.versions import Actions

SYMBOL_LENGTH_MAX = 128
"""Characters. A symbol is part of a database key, and is logged even where nothing is known of it."""


def is_symbol(text: str) -> bool:
    """Whether a text can name an entity."""
    return 0 < len(text) <= SYMBOL_LENGTH_MAX and text.isprintable()


class FeatureStatus(IntEnum):
    """What is to be known about one feature's value; the proto file says what each means."""

    OK = 1
    MISSING = 2
    STALE = 3
    NOT_WARMED_UP = 4
    INVALID_INPUT = 5
    NOT_YET_AVAILABLE = 6
    NO_STATE = 7
    UNDEFINED = 8
    FILLED = 9


_OK, _MISSING, _FILLED = (  # comparing with an enumeration is slow
    int(status) for status in (FeatureStatus.OK, FeatureStatus.MISSING, FeatureStatus.FILLED)
)


class EntityStatus(IntEnum):
    """What is to be known about one entity's prediction."""

    OK = 1
    DEGRADED = 2
    NO_FEATURES = 3


class Origin(IntEnum):
    """Where a view's values come from."""

    NONE = 1
    STORE = 2
    LIVE = 3


Outputs = list[NDArray[np.float32]]
"""For each output of the model, an array of shape (entities,)."""


@dataclass(frozen=True, slots=True)
class LiveBars:
    """Newest session bars of one entity, oldest first; plain lists, because there are few and mostly one.

    Attributes
    ----------
    start_us
        Session opens; ``None`` where the caller left them out.
    event_us, available_us
        Microseconds UTC.
    columns
        By name (open, high, low, close, volume): prices as traded, volume in shares.
    split_ratio
        New shares for one old share, NaN for a bar whose split the caller left to the store; ``None``: all are.
    dividend
        Likewise cash for one share on the basis after it.
    """

    start_us: list[int] | None
    event_us: list[int]
    available_us: list[int]
    columns: dict[str, list[float]]
    split_ratio: list[float] | None = None
    dividend: list[float] | None = None

    def __len__(self) -> int:
        return len(self.event_us)


@dataclass(frozen=True, slots=True)
class LiveTrades:
    """Newest trades of one entity, oldest first; every array has shape (n,), times are int64 microseconds UTC."""

    event_us: NDArray[np.int64]
    available_us: NDArray[np.int64]
    sequence: NDArray[np.int64]
    price: NDArray[np.float64]
    size: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.event_us)


@dataclass(slots=True)
class EntityRequest:
    """One entity of a request.

    Attributes
    ----------
    has_bars, has_trades
        Whether rows come with it that continue its states; known before the rows themselves are checked.
    bars, trades
        The checked rows.
    """

    symbol: str
    has_bars: bool = False
    has_trades: bool = False
    bars: LiveBars | None = None
    trades: LiveTrades | None = None


@dataclass(slots=True)
class PredictRequest:
    """A request; its rows are checked while the store is being asked.

    Attributes
    ----------
    now_us
        The injected clock at the request.
    received_us
        The wall clock then: what had been recorded by now can have been used.
    may_be_retry
        Whether the caller named the request, and so may send it again under the same name.
    """

    entities: list[EntityRequest]
    request_id: str
    now_us: int
    received_us: int
    may_be_retry: bool = False


@dataclass(slots=True)
class ViewUse:
    """Which values of a view a prediction stands on.

    Attributes
    ----------
    event_us, available_us, sequence
        Of the row the values describe; ``None`` without a value.
    state_event_us, state_sequence, rows_seen
        Position of the stored state that live rows continued; ``None`` otherwise.
    actions
        The splits and dividends that the live rows were adjusted for.
    """

    origin: Origin = Origin.NONE
    event_us: int | None = None
    available_us: int | None = None
    sequence: int | None = None
    partial: bool = False
    state_event_us: int | None = None
    state_sequence: int | None = None
    rows_seen: int | None = None
    actions: Actions | None = None


@dataclass(slots=True)
class Vectors:
    """Feature vectors of a request's entities.

    Attributes
    ----------
    values
        Shape (entities, features), float64, in the model's order; NaN where the status is neither OK nor FILLED.
    statuses
        Shape (entities, features), uint8, `FeatureStatus`.
    uses
        For each entity, for each view of the plan.
    overall
        For each entity, what its statuses come to.
    has_undefined
        Whether a status is UNDEFINED, and the reason is still to be found.
    """

    values: NDArray[np.float64]
    statuses: NDArray[np.uint8]
    uses: list[list[ViewUse]] = field(default_factory=list)
    overall: list[EntityStatus] = field(default_factory=list)
    has_undefined: bool = False

    @classmethod
    def blank(cls, entities: int, features: int) -> Vectors:
        """Vectors in which everything is missing."""
        vectors = cls(np.empty((entities, features)), np.empty((entities, features), dtype=np.uint8))
        vectors.values.fill(np.nan)
        vectors.statuses.fill(_MISSING)
        return vectors


def entity_status(statuses: NDArray[np.uint8]) -> EntityStatus:
    """What the statuses of an entity's features, shape (features,), come to."""
    known = statuses.tobytes()
    as_it_should_be = known.count(_OK)
    if as_it_should_be == statuses.size:
        return EntityStatus.OK
    return EntityStatus.DEGRADED if as_it_should_be or known.count(_FILLED) else EntityStatus.NO_FEATURES
