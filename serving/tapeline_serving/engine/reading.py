"""From packed values to feature vectors with a status for each feature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tapeline.storage.packed import UNKNOWN, decode_many

from tapeline_serving.engine.plan import PlannedView
from tapeline_serving.engine.types import FeatureStatus, Origin, Vectors, ViewUse

_OK = int(FeatureStatus.OK)


def read_values(
    view: PlannedView, rows: slice | list[int], packed: Sequence[bytes | None], now_us: int, vectors: Vectors
) -> list[ViewUse]:
    """Put one view's stored values into the vectors of some entities.

    Parameters
    ----------
    view
        Whose values they are.
    rows
        Rows of the entities in `vectors`.
    packed
        Packed value of each entity, ``None`` where the store has none.
    now_us
        The clock at the request.
    vectors
        Receives values and statuses at the view's positions.

    Returns
    -------
    list of ViewUse
        One for each entity.

    Raises
    ------
    IntegrityError
        If a value is damaged or of another layout.
    """
    read = decode_many(view.layout, packed)
    whole = read.numbers()
    numbers = whole[:, view.pick]
    statuses = np.full(numbers.shape, _OK, dtype=np.uint8)
    if len(view.held):
        filled, places = np.nonzero(whole[:, view.ages] > 0.0)
        statuses[filled, view.held[places]] = FeatureStatus.FILLED
    undefined = np.isnan(numbers)
    if undefined.any():
        statuses[undefined] = FeatureStatus.UNDEFINED
        statuses[read.nulls[:, view.pick]] = FeatureStatus.MISSING
        vectors.has_undefined = True
    uses = []
    for row, (event_us, sequence, available_us, _) in enumerate(read.times.tolist()):
        if event_us == UNKNOWN:
            statuses[row] = FeatureStatus.MISSING
            uses.append(ViewUse())
            continue
        if available_us == UNKNOWN:  # a source without an available column counts as available at its event time
            available_us = event_us  # noqa: PLW2901
        # Prices that were not yet known, or are no longer valid, must not reach the model.
        if available_us > now_us:
            statuses[row], numbers[row] = FeatureStatus.NOT_YET_AVAILABLE, np.nan
        elif is_stale(view, event_us, now_us):
            statuses[row], numbers[row] = FeatureStatus.STALE, np.nan
        uses.append(ViewUse(Origin.STORE, event_us, available_us, None if sequence == UNKNOWN else sequence))
    into = view.into
    if isinstance(rows, list) and not isinstance(into, slice):
        index = np.ix_(np.asarray(rows, dtype=np.intp), into)
        vectors.values[index], vectors.statuses[index] = numbers, statuses
    else:
        vectors.values[rows, into], vectors.statuses[rows, into] = numbers, statuses
    return uses


def is_stale(view: PlannedView, event_us: int, now_us: int) -> bool:
    """Whether a value of this event time has outlived the view's time to live."""
    return view.ttl_us > 0 and event_us < now_us - view.ttl_us
