"""Why a stored value is no number: the kernel had not seen enough rows, or the newest row was invalid."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence

import numpy as np
from tapeline.core.errors import IntegrityError
from tapeline.storage.keys import entity_key_sorted
from tapeline.storage.state_codec import POSITION_OFFSET

from tapeline_serving.engine.plan import ServingPlan
from tapeline_serving.engine.types import EntityRequest, FeatureStatus, Vectors
from tapeline_serving.store.online import OnlineStore

_POSITION = struct.Struct("<qqqqq")  # event, sequence, available, recorded, rows seen


async def explain_undefined(
    plan: ServingPlan, entities: Sequence[EntityRequest], vectors: Vectors, redis: OnlineStore
) -> None:
    """Turn ``UNDEFINED`` into ``NOT_WARMED_UP`` or ``INVALID_INPUT`` where the store holds a state that can tell.

    A packed value does not say how many rows it stands on, but the state beside it does. Such values are rare, so they pay
    for a second read, of the states' heads alone, instead of every request paying for a longer one.
    """
    undefined = vectors.statuses == FeatureStatus.UNDEFINED
    asked = [
        (view, row) for view in plan.views for row in np.flatnonzero(undefined[:, view.positions].any(axis=1)).tolist()
    ]
    heads = await asyncio.gather(
        *(
            redis.execute(
                b"GETRANGE",
                view.state_prefix + entity_key_sorted([entities[row].symbol]),
                b"%d" % POSITION_OFFSET,
                b"%d" % (POSITION_OFFSET + _POSITION.size - 1),
            )
            for view, row in asked
        )
    )
    for (view, row), head in zip(asked, heads, strict=True):
        if not head:
            continue
        if len(head) != _POSITION.size:
            raise IntegrityError("a saved state is cut short", where=f"{entities[row].symbol} in {view.name}")
        event_us, _, _, _, rows_seen = _POSITION.unpack(head)
        here = view.positions[undefined[row, view.positions]]
        needed = view.warm_up[undefined[row, view.positions]]
        vectors.statuses[row, here[needed > rows_seen]] = FeatureStatus.NOT_WARMED_UP
        # Of an older value than the state's, too few rows are all that the state can prove.
        if event_us == vectors.uses[row][plan.views.index(view)].event_us:
            vectors.statuses[row, here[needed <= rows_seen]] = FeatureStatus.INVALID_INPUT
