"""Order books as flat states: events in, the best levels out, never crossed.

``l3`` keeps every order by its id, ``l2`` only the size of each price level; both share the sorted sides and the header.
A state is one int64 array (sizes and prices are the bits of float64 words); zeros are a fresh one; nothing is allocated.
"""

from __future__ import annotations

from tapeline.kernels.book.events import (
    ADD,
    BEGIN_SNAPSHOT,
    CANCEL,
    END_SNAPSHOT,
    EXECUTE,
    MODIFY,
    SET,
    TRADE,
    tick_columns,
)
from tapeline.kernels.book.l2 import l2_batch, l2_size, l2_update
from tapeline.kernels.book.l3 import l3_batch, l3_update
from tapeline.kernels.book.orders import l3_size

__all__ = [
    "ADD",
    "BEGIN_SNAPSHOT",
    "CANCEL",
    "END_SNAPSHOT",
    "EXECUTE",
    "MODIFY",
    "SET",
    "TRADE",
    "l2_batch",
    "l2_size",
    "l2_update",
    "l3_batch",
    "l3_size",
    "l3_update",
    "tick_columns",
]
