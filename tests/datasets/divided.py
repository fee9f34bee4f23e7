"""A plain table as if it were a hypertable: its chunks are queries of its parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tapeline.core.timestamps import from_us
from tapeline.datasets.chunks import Chunks


def chunks_at(starts_us: Sequence[int], table: str, *, by_name: bool) -> Chunks:
    """Chunks that begin at these moments, ascending; if `by_name`, each can be read as a table of its own."""
    starts = np.array(starts_us, dtype=np.int64)
    if not by_name:
        return Chunks(starts)
    moments = [f"'{from_us(start)}'::timestamptz" for start in starts.tolist()]
    ends = [f" AND event_timestamp < {moment}" for moment in moments[1:]]
    return Chunks(
        starts,
        tuple(
            f"(SELECT * FROM {table} WHERE event_timestamp >= {begin}{end})"
            for begin, end in zip(moments, [*ends, ""], strict=True)
        ),
    )
