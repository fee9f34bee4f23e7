"""One-minute rows of many symbols in one table, and moments to ask for."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
from tapeline.core.settings import Settings
from tapeline.core.timestamps import to_us
from tapeline.datasets.plan import ViewSelection
from tapeline.storage.postgres import postgres_url
from tapeline.storage.servers.embedded import down, up

START = datetime(2013, 3, 1, tzinfo=UTC)
_MINUTE_US = 60_000_000


@contextmanager
def server() -> Iterator[str]:
    """The URL of an embedded PostgreSQL of this benchmark's own."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="tapeline-bench-") as folder:
        Path(folder).chmod(0o755)  # the server's own account must pass through
        settings = Settings(home=Path(folder) / "home", postgres_url=None, redis_url=None)
        up(settings)
        try:
            yield postgres_url(settings)
        finally:
            down(settings)


@dataclass(frozen=True)
class Minutes:
    """A table of a row for each symbol and minute, with the index and the constraints of Tapeline's feature tables.

    Attributes
    ----------
    table
        Its name in the schema ``public``.
    symbols, minutes, features
        Its extent; rows lie in order of time, as they arrive.
    """

    table: str
    symbols: int
    minutes: int
    features: int

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return self.symbols * self.minutes

    @property
    def columns(self) -> tuple[str, ...]:
        """The features."""
        return tuple(f"feature_{number}" for number in range(self.features))

    def create(self, url: str, chunks: int = 0) -> None:
        """Make and fill it; as a hypertable of so many chunks, if any."""
        columns = ", ".join(f"{name} float8" for name in self.columns)
        values = ", ".join(f"sin(s * {i + 1} + m / {i + 7}.0)" for i in range(self.features))
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET timezone = 'UTC'")
            connection.execute(f"""
                CREATE TABLE public.{self.table} (symbol text NOT NULL, event_timestamp timestamptz NOT NULL,
                    available_timestamp timestamptz NOT NULL, created_timestamp timestamptz NOT NULL DEFAULT now(),
                    sequence bigint NOT NULL, {columns})
            """)
            if chunks:
                span = timedelta(microseconds=self.minutes * _MINUTE_US // chunks)
                connection.execute(
                    "SELECT create_hypertable(%s::regclass, by_range('event_timestamp', %s::interval),"
                    " create_default_indexes => false)",
                    (f"public.{self.table}", span),
                )
            connection.execute(f"""
                CREATE INDEX ON public.{self.table} (symbol, event_timestamp DESC, sequence DESC,
                    available_timestamp DESC, created_timestamp DESC)
            """)
            connection.execute(f"""
                INSERT INTO public.{self.table} SELECT 'SYM' || s, t, t, now(), 0, {values}
                FROM generate_series(1, {self.minutes}) m, generate_series(1, {self.symbols}) s,
                    LATERAL (SELECT '{START.isoformat()}'::timestamptz + m * interval '1 min') AS times(t)
            """)
            connection.execute(f"VACUUM ANALYZE public.{self.table}")

    def selection(self, ttl_us: int) -> ViewSelection:
        """The view of all its features."""
        return ViewSelection(
            self.table, 1, f"public.{self.table}", ("symbol",), ("symbol",), self.columns, self.columns, ttl_us=ttl_us
        )

    def entity_rows(self, count: int, seed: int) -> pa.Table:
        """Distinct symbols and seconds over the whole range, by chance."""
        random = np.random.default_rng(seed)
        drawn = random.choice(self.rows * 60, size=count, replace=False)
        return self._entity_table(drawn % self.symbols, drawn // self.symbols * 1_000_000)

    def dense_rows(self, count: int, seed: int) -> pa.Table:
        """All symbols at equally spaced moments of the whole range, ordered by time."""
        moments = count // self.symbols
        offset = np.random.default_rng(seed).integers(0, _MINUTE_US)
        times = np.arange(moments) * (self.minutes * _MINUTE_US // moments) + offset
        return self._entity_table(np.tile(np.arange(self.symbols), moments), np.repeat(times, self.symbols))

    def _entity_table(self, symbols: np.ndarray, offsets_us: np.ndarray) -> pa.Table:
        names = pa.array([f"SYM{number + 1}" for number in range(self.symbols)])
        moments = pa.array(offsets_us + to_us(START)).cast(pa.timestamp("us", tz="UTC"))
        return pa.table({"symbol": names.take(pa.array(symbols)), "event_timestamp": moments})


def as_frame(entity_rows: pa.Table) -> pd.DataFrame:
    """Entity rows as Feast takes them."""
    return entity_rows.to_pandas()


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """One order of rows and columns and one form of times: Feast's stores give neither order nor zone."""
    times = pd.to_datetime(frame["event_timestamp"], utc=True).astype("datetime64[us, UTC]")
    ordered = frame.assign(event_timestamp=times).sort_values(["symbol", "event_timestamp"]).reset_index(drop=True)
    return ordered[sorted(ordered.columns)]
