"""A database with feature rows and a registered model, and answers in the log as a server writes them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psycopg
import redis
from psycopg.types.json import Jsonb
from tapeline.core.settings import Settings
from tapeline.core.timestamps import MICROSECOND, from_us, to_us
from tapeline.features.view import FeatureViewSpec
from tapeline.storage.keys import entity_key_sorted, view_prefix
from tapeline.storage.packed import Layout, decode_many, row_times

from tests.serving import world

STORED = 58
VIEW = world.DAILY
COLUMNS = "request_id, entity, model, model_version, bundle_sha256, served_timestamp, request_timestamp, vector, statuses, prediction, views"


@dataclass
class LogWorld:
    """Symbols with sixty daily bars each, of which the last two are not stored yet."""

    settings: Settings
    store: redis.Redis
    connection: psycopg.Connection
    bundle: str = ""
    view: FeatureViewSpec = VIEW
    bars: dict[str, world.BarHistory] = field(default_factory=dict)

    @classmethod
    def make(
        cls,
        settings: Settings,
        store: redis.Redis,
        connection: psycopg.Connection,
        folder: Path,
        symbols: Sequence[str],
    ) -> LogWorld:
        made = cls(settings, store, connection)
        for number, symbol in enumerate(symbols):
            made.bars[symbol] = world.bar_history(number, 60)
            world.insert_bars(connection, symbol, made.bars[symbol], range(STORED))
        made.compute()
        made.materialize()
        made.bundle = world.register_model(settings, folder, (VIEW,))
        return made

    def compute(self) -> None:
        world.compute(self.settings, self.store, [VIEW])

    def materialize(self) -> None:
        world.materialize(self.settings, self.store, VIEW)

    def record(self, symbol: str, row: int, *, close: float = 1.0, available_us: int | None = None) -> None:
        """A raw bar, its close changed by a factor, and the features that follow from it."""
        self.bars[symbol].columns["close"][row] *= close
        world.insert_bars(self.connection, symbol, self.bars[symbol], [row], available_us=available_us)
        self.compute()

    def key(self, symbol: str) -> bytes:
        return view_prefix(self.settings.project, VIEW.name, VIEW.version) + entity_key_sorted([symbol])

    def online(self, symbol: str) -> tuple[np.ndarray, dict[str, object]]:
        """What a server would give of the online store: the vector, and what it says that it used."""
        packed = self.store.get(self.key(symbol))
        rows = decode_many(Layout.of_floats(VIEW.name, VIEW.version, VIEW.columns), [packed])
        times = row_times(packed)
        return rows.numbers()[0], used(times.event_us, times.sequence, times.available_us)

    def answer(
        self,
        symbol: str,
        *,
        vector: np.ndarray | None = None,
        view: dict[str, object] | None = None,
        request_us: int = world.NOW_US,
        request_id: uuid.UUID | None = None,
        connection: psycopg.Connection | None = None,
    ) -> uuid.UUID:
        """Log an answer from the online store, or another one; in the caller's transaction where there is one."""
        if vector is None or view is None:
            online = self.online(symbol)
            vector, view = online[0] if vector is None else vector, online[1] if view is None else view
        request_id = request_id or uuid.uuid4()
        (connection or self.connection).execute(
            f"INSERT INTO tapeline.served_vectors ({COLUMNS})"
            " VALUES (%s, %s, 'small', '1.0.0', %s, clock_timestamp(), %s, %s, %s, %s, %s)",
            (
                request_id, symbol, self.bundle, from_us(request_us), vector.astype("<f8").tobytes(), b"\1" * len(vector),
                [0.5], Jsonb([view]),
            ),
        )  # fmt: skip
        if connection is None:
            self.connection.commit()
        return request_id

    def answers_of_history(self, count: int, *, connection: psycopg.Connection | None = None) -> None:
        """Log so many answers, each as of another stored row, all in one transaction."""
        connection = connection or self.connection
        columns = ", ".join(VIEW.columns)
        rows = connection.execute(
            f"SELECT symbol, event_timestamp, sequence, available_timestamp, {columns}"
            f' FROM features."{VIEW.table}" ORDER BY 2, 1'
        ).fetchall()
        now = datetime.now(UTC)
        with connection.cursor() as cursor, cursor.copy(f"COPY tapeline.served_vectors ({COLUMNS}) FROM STDIN") as copy:
            for number in range(count):
                symbol, event, sequence, available, *values = rows[number % len(rows)]
                vector = np.array([np.nan if value is None else value for value in values], dtype="<f8")
                view = used(to_us(event), sequence, to_us(available))
                copy.write_row(
                    (
                        uuid.uuid4(), symbol, "small", "1.0.0", self.bundle, now - number * MICROSECOND,
                        available, vector.tobytes(), b"\1" * len(vector), [0.5], Jsonb([view]),
                    )
                )  # fmt: skip
        connection.commit()


def used(event_us: int, sequence: int, available_us: int, **changes: object) -> dict[str, object]:
    """What the log says of a view whose stored row was used."""
    return {
        "view": VIEW.name, "version": VIEW.version, "plan_hash": VIEW.plan.hash, "origin": "store", "event_us": event_us,
        "available_us": available_us, "sequence": sequence, "partial": False, "state_event_us": None,
        "state_sequence": None, "rows_seen": None,
    } | changes  # fmt: skip
