"""What goes to the server and what comes back, as plain frozen data. Times are int64 microseconds since 1970, UTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray


class FeatureStatus(IntEnum):
    """What is to be known about one feature; every one but OK and FILLED went to the model as missing."""

    OK = 1
    MISSING = 2
    STALE = 3
    NOT_WARMED_UP = 4
    INVALID_INPUT = 5
    NOT_YET_AVAILABLE = 6
    NO_STATE = 7
    UNDEFINED = 8
    FILLED = 9


class EntityStatus(IntEnum):
    """OK: every feature is. DEGRADED: some are not. NO_FEATURES: none is, nor filled, and there is no prediction."""

    OK = 1
    DEGRADED = 2
    NO_FEATURES = 3


class Origin(IntEnum):
    """Where a view's values come from: nowhere, the store, or a stored state continued by live rows."""

    NONE = 1
    STORE = 2
    LIVE = 3


class LiveRows(IntEnum):
    """Which rows continue a view's states."""

    BARS = 1
    TRADES = 2


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar over [start, event), prices as traded: of a session, or one that a view's longer bars are made of.

    Attributes
    ----------
    event_us
        The bar's end: the session's close or, of an unfinished bar, the moment up to which it goes.
    open, high, low, close
        Prices.
    volume
        Shares.
    start_us
        The session's open, if the server is to check it. Views over longer bars need each bar's start.
    available_us
        When the bar was published; none: now.
    split_ratio
        New shares for one old share, where a split takes effect between the bar before and this one. ``None``, as a rule:
        the server knows the splits that the last back-fill knew, and refuses another ratio than theirs.
    dividend
        Likewise cash for one share, on the basis after the split, for views that are adjusted for dividends.
    """

    event_us: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    start_us: int | None = None
    available_us: int | None = None
    split_ratio: float | None = None
    dividend: float | None = None

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Bar:
        """A bar from a mapping, for example of JSON.

        Raises
        ------
        ValueError
            If a name is unknown or missing, or a value is no number.
        """
        names = set(cls.__slots__)
        if unknown := sorted(set(values) - names):
            raise ValueError(f"a bar has no {', '.join(unknown)}; its fields are {', '.join(sorted(names))}")
        try:
            whole = {
                name: None if values[name] is None else int(values[name]) for name in values if name.endswith("_us")
            }
            real = {
                name: None if values[name] is None and name in {"split_ratio", "dividend"} else float(values[name])
                for name in values
                if not name.endswith("_us")
            }
            return cls(**whole, **real)  # type: ignore[arg-type]
        except TypeError as error:
            raise ValueError(f"a bar is not complete: {error}") from None


@dataclass(frozen=True, slots=True)
class Trades:
    """Trades of one symbol, oldest first; all arrays have shape (n,).

    Attributes
    ----------
    event_us, sequence
        int64; the sequence must directly follow the last trade the store's state has seen.
    price, size
        float64.
    available_us
        int64, when each was published; none: now.
    """

    event_us: NDArray[np.int64] | Sequence[int]
    sequence: NDArray[np.int64] | Sequence[int]
    price: NDArray[np.float64] | Sequence[float]
    size: NDArray[np.float64] | Sequence[float]
    available_us: NDArray[np.int64] | Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class ViewUse:
    """Which values of a feature view a prediction stands on; times are ``None`` without a value.

    ``staleness_us`` is the server's clock less ``event_us``.
    """

    view: str
    version: int
    origin: Origin
    event_us: int | None
    available_us: int | None
    sequence: int | None
    staleness_us: int | None
    partial: bool


@dataclass(frozen=True, slots=True)
class Prediction:
    """One entity's prediction.

    Attributes
    ----------
    outputs
        By name, such as ``probability`` and ``score``; empty if the status is ``NO_FEATURES``.
    partial
        Whether an unfinished bar took part.
    issues
        Status of each feature that is not OK.
    features
        What the model saw by name, NaN where missing; ``None`` unless asked for.
    model, version, bundle_sha256, request_id, request_us
        What made the prediction, and the server's clock when it did.
    """

    symbol: str
    status: EntityStatus
    outputs: dict[str, float]
    partial: bool
    views: tuple[ViewUse, ...]
    issues: dict[str, FeatureStatus]
    features: dict[str, float] | None
    model: str
    version: str
    bundle_sha256: str
    request_id: str
    request_us: int

    @property
    def probability(self) -> float | None:
        """The calibrated probability; ``None`` without a prediction."""
        return self.outputs.get("probability")


@dataclass(frozen=True, slots=True)
class ModelView:
    """A view that the model reads; ``ttl_us`` 0 means that values never become stale."""

    view: str
    version: int
    plan_hash: str
    lineage_hash: str
    ttl_us: int
    live_rows: LiveRows


@dataclass(frozen=True, slots=True)
class ServedLog:
    """Counts of the log of served vectors."""

    written: int
    waiting: int
    dropped: int


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a server serves.

    ``features`` are (view, version, name) in the model's order; ``replay`` tells whether its clock replays history.
    """

    model: str
    version: str
    bundle_sha256: str
    features: tuple[tuple[str, int, str], ...]
    views: tuple[ModelView, ...]
    outputs: tuple[str, ...]
    label: dict[str, Any]
    metrics: dict[str, Any]
    dataset_sha256: str
    request_bytes_max: int
    entities_max: int
    live_rows_max: int
    served_log: ServedLog
    clock_us: int
    replay: bool
