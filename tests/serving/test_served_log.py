"""The writer of the log, where the database misbehaves."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg
import pytest
from tapeline.core.settings import Settings
from tapeline.features.versions import Actions
from tapeline_serving.engine.model import Batcher, Model
from tapeline_serving.engine.served_log import ServedLog
from tapeline_serving.engine.served_rows import RowEncoder
from tapeline_serving.engine.types import (
    EntityRequest,
    EntityStatus,
    LiveBars,
    Origin,
    PredictRequest,
    Vectors,
    ViewUse,
)
from tapeline_serving.loading import load

from tests.serving.conftest import Served, logged


class LosingConnection(psycopg.Connection[Any]):
    """Commits, and then is lost before anybody hears of it."""

    left = 1

    @contextmanager
    def transaction(self, *arguments: Any, **named: Any) -> Iterator[Any]:
        with super().transaction(*arguments, **named) as transaction:
            yield transaction
        if LosingConnection.left:
            LosingConnection.left -= 1
            self.close()
            raise psycopg.OperationalError("the connection is lost")


def request(symbol: str) -> tuple[PredictRequest, Vectors]:
    vectors = Vectors.blank(1, 5)
    vectors.overall = [EntityStatus.NO_FEATURES]
    vectors.uses = [[ViewUse(), ViewUse(Origin.LIVE, 7, 8, 9, actions=Actions.of([(5, 2.0)], [(7, 0.5)]))]]
    bars = LiveBars(None, [1], [2], {"open": [0.1], "close": [-0.0], "volume": [np.nan]})
    asked = [EntityRequest(symbol, True, False, bars)]
    return PredictRequest(asked, str(uuid.uuid4()), 1_000, time.time_ns() // 1_000), vectors


@pytest.mark.parametrize("may_be_retry", [False, True])
def test_a_lost_acknowledgement_leaves_no_row_twice(served: Served, may_be_retry: bool) -> None:
    LosingConnection.left = 1
    settings: Settings = served.settings
    log = ServedLog(lambda: LosingConnection.connect(str(settings.postgres_url)), waiting_max=100)
    encoder = RowEncoder(load(settings, "small").plan)
    made = [request(f"LOST{i}") for i in range(3)]
    for each, vectors in made:
        assert log.has_room(1)
        log.put(encoder.encode(each, vectors, []), may_be_retry=may_be_retry)
    log.start()
    end = time.monotonic() + 20
    while log.waiting and time.monotonic() < end:
        time.sleep(0.02)
    log.close(timeout_s=10)
    assert LosingConnection.left == 0
    assert (log.written, log.dropped, log.waiting) == (3, 0, 0)
    mine = {each.request_id for each, _ in made}  # the server of other tests logs, too, and later than it answers
    rows = [row for row in logged(settings) if str(row["request_id"]) in mine]
    assert sorted(str(row["request_id"]) for row in rows) == sorted(each.request_id for each, _ in made)
    assert [row["entity"] for row in rows] == ["LOST0", "LOST1", "LOST2"]
    first = rows[0]
    assert first["views"][0]["origin"] == "none"
    assert first["views"][0]["event_us"] is None
    assert first["views"][1] | {"origin": "live", "event_us": 7, "available_us": 8, "sequence": 9} == first["views"][1]
    used = first["views"][1]
    assert (used["splits"], used["dividends"]) == ([[5, 2.0]], [[7, 0.5]])
    assert first["prediction"] == []
    assert first["live_rows"]["bars"] == {
        "open": [0.1], "close": ["-0.0"], "volume": ["nan"], "start_us": None, "event_us": [1], "available_us": [2],
        "split_ratio": None,
        "dividend": None,
    }  # fmt: skip


@pytest.mark.parametrize("refused", ["A\x00", "".join(chr(0x4E00 + i * 7) for i in range(3_000))])
def test_rows_that_cannot_be_written_take_no_others_with_them(served: Served, refused: str) -> None:
    """A symbol that text cannot hold, or no index entry can, among good ones of other requests."""
    log = ServedLog(lambda: psycopg.connect(str(served.settings.postgres_url)), waiting_max=100)
    encoder = RowEncoder(load(served.settings, "small").plan)
    before = {row["request_id"] for row in logged(served.settings)}
    for symbol in ("GOOD1", refused, "GOOD2", "GOOD3"):
        each, vectors = request(symbol)
        log.put(encoder.encode(each, vectors, []), may_be_retry=False)
    log.start()
    end = time.monotonic() + 20
    while log.waiting and time.monotonic() < end:
        time.sleep(0.02)
    log.close(timeout_s=10)
    assert (log.written, log.dropped, log.waiting) == (3, 1, 0)
    entities = {row["entity"] for row in logged(served.settings) if row["request_id"] not in before}
    assert {"GOOD1", "GOOD2", "GOOD3"} <= entities  # the server of other tests logs, too
    assert refused not in entities


def test_a_queue_is_bounded_in_bytes_too() -> None:
    log = ServedLog(lambda: pytest.fail("no connection is needed"), waiting_max=1_000)
    piece = bytes(64 << 20)
    for _ in range(5):
        assert log.has_room(1)
        log.put([piece], may_be_retry=False)
    assert not log.has_room(1)
    assert (log.waiting, log.dropped) == (5, 1)


def test_whoever_waits_for_a_failing_model_hears_of_it() -> None:
    class Failing(Model):
        def __init__(self) -> None:
            self.outputs = ("score",)

        def run(self, values: np.ndarray) -> list[np.ndarray]:
            raise MemoryError(str(values.shape))

    async def ask() -> list[BaseException]:
        batcher = Batcher(Failing())
        return await asyncio.gather(*(batcher.run(np.zeros((1, 2))) for _ in range(3)), return_exceptions=True)

    assert [type(error) for error in asyncio.run(asyncio.wait_for(ask(), 5))] == [MemoryError] * 3


def test_a_full_queue_refuses_and_counts() -> None:
    log = ServedLog(lambda: pytest.fail("no connection is needed"), waiting_max=2)
    assert log.has_room(2)
    log.put([b"", b""], may_be_retry=False)
    assert not log.has_room(1)
    assert (log.waiting, log.dropped) == (2, 1)
