"""A source of session bars and one of trades, with two shares in the instrument master."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from tapeline.core.timestamps import MINUTE_US, to_us
from tapeline.ingestion import Instrument, Source
from tapeline.storage.reference import append_instruments, register_source

LISTED = to_us("2000-01-01T00:00:00+00:00")


@pytest.fixture
def daily(connection: psycopg.Connection[Any]) -> Source:
    append_instruments(
        connection,
        [Instrument(name, "XNYS", "XNYS", "equity", "USD", 0.01, LISTED, LISTED) for name in ("AAPL", "IBM")],
    )
    source = Source("daily", "bars", 15 * MINUTE_US, "XNYS")
    register_source(connection, source)
    return source


@pytest.fixture
def ticks(connection: psycopg.Connection[Any], daily: Source) -> Source:
    source = Source("ticks", "trades")
    register_source(connection, source)
    return source
