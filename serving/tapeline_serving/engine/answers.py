"""One entity's answer as bytes, the key that names all it stands on, and the moments at which it is right.

An answer is a function of the bundle, of the stored bytes that were read for the entity, of the rows that the request brought, and of the
clock. The key holds the first three: stored bytes carry the event, available and created time of their row, so a newer row, a
correction or another version is another key. The clock decides only which values are available and which are stale; both turn at moments
that are known, and between these the answer is the same.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tapeline.storage.caches import ALWAYS_FROM_US, ALWAYS_UNTIL_US
from tapeline.storage.keys import entity_key_sorted

from tapeline_serving.engine.plan import ServingPlan
from tapeline_serving.engine.reading import is_stale
from tapeline_serving.engine.types import (
    EntityRequest,
    EntityStatus,
    FeatureStatus,
    LiveBars,
    LiveTrades,
    Origin,
    Outputs,
    Vectors,
    ViewUse,
)

FORMAT = 1
"""Of the bytes; part of the version that keys hold."""

_LENGTH = struct.Struct("<q")
_USE = struct.Struct("<BB?6q")
_EXPLAINED = tuple(
    int(status) for status in (FeatureStatus.UNDEFINED, FeatureStatus.NOT_WARMED_UP, FeatureStatus.INVALID_INPUT)
)
_OPTIONAL = ("event_us", "available_us", "sequence", "state_event_us", "state_sequence", "rows_seen")


class Answer(NamedTuple):
    """What the engine gave for one entity.

    Attributes
    ----------
    values, statuses
        Shape (features,), as a row of `Vectors`.
    outputs
        Shape (outputs,), float32.
    """

    values: NDArray[np.float64]
    statuses: NDArray[np.uint8]
    uses: list[ViewUse]
    overall: EntityStatus
    outputs: NDArray[np.float32]

    @classmethod
    def of_row(cls, vectors: Vectors, outputs: Outputs, row: int) -> Answer:
        """One row of what was computed."""
        given = np.array([output[row] for output in outputs], dtype=np.float32)
        return cls(vectors.values[row], vectors.statuses[row], vectors.uses[row], vectors.overall[row], given)


def answer_key(entity: EntityRequest, stored: Sequence[bytes | None]) -> bytes:
    """What an answer stands on, within one bundle.

    Parameters
    ----------
    entity
        With its checked rows.
    stored
        Everything that was read for it, in the order of the plan.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(b"%d%d" % (entity.has_bars, entity.has_trades))
    for data in stored:
        digest.update(_LENGTH.pack(-1 if data is None else len(data)))
        digest.update(data or b"")
    for part in _row_parts(entity.bars, entity.trades):
        digest.update(_LENGTH.pack(len(part)))
        digest.update(part)
    return entity_key_sorted([entity.symbol]) + b":" + digest.digest()


def right_between(plan: ServingPlan, uses: Sequence[ViewUse], now_us: int) -> tuple[int, int]:
    """First and last moment at which an answer given now is the same, both included.

    They may lie closer together than they have to, never further apart.
    """
    from_us, until_us = ALWAYS_FROM_US, ALWAYS_UNTIL_US
    for view, use in zip(plan.views, uses, strict=True):
        if use.event_us is None or use.available_us is None:
            if use.state_event_us is not None:  # a state that is not available yet; when it will be is not told
                return now_us, now_us
            continue  # nothing is stored, and no clock changes that
        if use.origin is Origin.STORE and use.available_us > now_us:
            until_us = min(until_us, use.available_us - 1)
            continue
        from_us = max(from_us, use.available_us)
        if is_stale(view, use.event_us, now_us):
            from_us = max(from_us, use.event_us + view.ttl_us + 1)
        elif view.ttl_us > 0:
            until_us = min(until_us, use.event_us + view.ttl_us)
    return from_us, until_us


def may_be_kept(entity: EntityRequest, actions: bytes | None, answer: Answer) -> bool:
    """Whether key and moments say all that an answer stands on.

    They do not where an undefined value was explained by a state that was read for that alone, nor where rows were adjusted for
    splits and dividends, of which some may become known at any moment.
    """
    if (entity.has_bars or entity.has_trades) and (actions is not None or any(_adjusted(use) for use in answer.uses)):
        return False
    return not np.isin(answer.statuses, _EXPLAINED).any()


def encode_answer(answer: Answer) -> bytes:
    """Bytes of an answer; :func:`decode_answer` reads them back bit for bit."""
    uses = []
    for use in answer.uses:
        given = [getattr(use, name) for name in _OPTIONAL]
        known = sum(1 << place for place, number in enumerate(given) if number is not None)
        uses.append(_USE.pack(use.origin, known, use.partial, *(number or 0 for number in given)))
    return b"".join(
        (
            bytes([answer.overall]),
            answer.statuses.tobytes(),
            answer.values.tobytes(),
            answer.outputs.tobytes(),
            *uses,
        )
    )


def decode_answer(plan: ServingPlan, data: bytes) -> Answer | None:
    """The answer that :func:`encode_answer` made of these bytes for this plan; ``None`` if they are none."""
    features, outputs, views = len(plan.feature_names), len(plan.manifest.outputs), len(plan.views)
    numbers = 1 + features
    ends = numbers + 8 * features + 4 * outputs
    if len(data) != ends + _USE.size * views:
        return None
    try:
        overall = EntityStatus(data[0])
        uses = [_decode_use(data, ends + _USE.size * number) for number in range(views)]
    except ValueError:
        return None
    statuses = np.frombuffer(data, dtype=np.uint8, count=features, offset=1)
    values = np.frombuffer(data, dtype="<f8", count=features, offset=numbers)
    given = np.frombuffer(data, dtype="<f4", count=outputs, offset=numbers + 8 * features)
    return Answer(values, statuses, uses, overall, given)


def _decode_use(data: bytes, offset: int) -> ViewUse:
    origin, known, partial, *given = _USE.unpack_from(data, offset)
    numbers = [number if known >> place & 1 else None for place, number in enumerate(given)]
    event_us, available_us, sequence, state_event_us, state_sequence, rows_seen = numbers
    return ViewUse(Origin(origin), event_us, available_us, sequence, partial, state_event_us, state_sequence, rows_seen)


def _adjusted(use: ViewUse) -> bool:
    return use.actions is not None and bool(use.actions.splits or use.actions.dividends)


def _row_parts(bars: LiveBars | None, trades: LiveTrades | None) -> list[bytes]:
    parts: list[bytes] = []
    if bars is not None:
        moments = (bars.start_us, bars.event_us, bars.available_us)
        parts += [b"-" if times is None else np.array(times, dtype=np.int64).tobytes() for times in moments]
        columns = (*(bars.columns[name] for name in sorted(bars.columns)), bars.split_ratio, bars.dividend)
        parts += [b"-" if column is None else np.array(column, dtype=np.float64).tobytes() for column in columns]
    if trades is not None:
        arrays = (trades.event_us, trades.available_us, trades.sequence, trades.price, trades.size)
        parts += [np.ascontiguousarray(array).tobytes() for array in arrays]
    return parts
