"""Splits and dividends that are recorded while a worker runs: found by the thread behind, taken in between two reads."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from tapeline.core.timestamps import to_us

LOOK_S = 2.0
OVERLAP = timedelta(minutes=5)
"""A row is stamped with its transaction's beginning, and seen from its end on."""


@dataclass(frozen=True)
class NewAction:
    """An action that was recorded: whose, from when on it takes effect, and from when on it is known; µs."""

    symbol: str
    event_us: int
    available_us: int


class ActionWatch:
    """Looks for actions that were recorded since the last time.

    One thread looks, another takes.

    Attributes
    ----------
    taken_us
        Everything that was recorded before that moment, by the database's clock, has been taken.
    """

    def __init__(self) -> None:
        self._found: deque[NewAction] = deque()
        self._since: datetime | None = None
        self._known: set[tuple[Any, ...]] = set()
        self._looked_s = -1e9
        self.taken_us = 0

    def look(self, connection: psycopg.Connection[Any]) -> None:
        """Look, if it is time. The first look only marks where to begin: states are taken up with what is there."""
        if time.monotonic() - self._looked_s < LOOK_S:
            return
        self._looked_s = time.monotonic()
        with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
            rows = cursor.execute(
                "SELECT created_timestamp, symbol, kind, event_timestamp, sequence, available_timestamp"
                " FROM tapeline.corporate_actions WHERE created_timestamp > coalesce(%s, now()) - %s",
                (self._since, OVERLAP),
            ).fetchall()
            found = cursor.execute("SELECT now()").fetchone()
        assert found is not None
        new = set(rows) - self._known
        if self._since is not None:
            self._found += [NewAction(row[1], to_us(row[3]), to_us(row[5])) for row in sorted(new)]
        self._since, self._known = found[0], set(rows)

    def take(self) -> list[NewAction]:
        """What was found since the last time."""
        since, taken = self._since, []  # in this order: what is found until then belongs to it
        while self._found:
            taken.append(self._found.popleft())
        self.taken_us = 0 if since is None else to_us(since)
        return taken
