"""The demo's stream: the last hours of trades go through Redis while the server is asked, and everything that it said is verified."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tapeline.cli.app import console, notices
from tapeline.cli.demo_steps import BackgroundProcess, ServerProcess, StepError, Steps

if TYPE_CHECKING:
    import numpy as np
    import psycopg
    from numpy.typing import NDArray
    from redis import Redis
    from tapeline_client import Client

    from tapeline.core.clock import TapeClock
    from tapeline.core.settings import Settings
    from tapeline.streaming.codec import Events
    from tapeline.streaming.producer import Producer

SOURCE, SYMBOL, STREAM = "cme-trades", "ES", "es"
SERVICE, MODEL = "intraday_full", "intraday_direction"
VIEWS = ("intraday_technical", "intraday_candles", "trade_microstructure")
HISTORY_UNTIL, STREAMED_SINCE = "2013-09-03T13:59:59.999999+00:00", "2013-09-03T14:00:00+00:00"
"""The last five hours, 300,000 trades, are held back: no file, table or training set holds them until the worker writes them."""
EXPORT = ("--service", SERVICE, "--symbols", SYMBOL, "--every", "1m", "--labels", "direction:1h")
WORKER = ("stream", "run", STREAM, "--source", SOURCE, "--partitions", "1", "--lease", "60", "--json")
VALUES = 1_050_000
"""Values to be served while the trades stream."""
_ONLINE_TIMEOUT_S = 60.0


@dataclass
class Streamed:
    """What the step gave.

    Attributes
    ----------
    trained, worker, verified, ingested
        What the commands printed.
    backfilled
        What a back-fill gave after the stream, view by view.
    trades, answers, values
        How many were sent, asked for and served.
    seconds
        How long that took; ``sending_s`` of it passed until the features of what was sent were in Redis.
    online_us
        From sending some trades until their features were in Redis, µs.
    predict_us
        Of each answer, µs.
    """

    trained: dict[str, Any] = field(default_factory=dict)
    worker: dict[str, Any] = field(default_factory=dict)
    verified: dict[str, Any] = field(default_factory=dict)
    ingested: dict[str, Any] = field(default_factory=dict)
    backfilled: list[dict[str, Any]] = field(default_factory=list)
    trades: int = 0
    answers: int = 0
    values: int = 0
    seconds: float = 0.0
    sending_s: float = 0.0
    online_us: list[float] = field(default_factory=list)
    predict_us: list[float] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether what was served is what is recorded, and the stream wrote what an ingest and a back-fill write."""
        return (
            self.values >= VALUES
            and self.verified["mismatches"] == 0
            and self.ingested["rows_added"] == self.ingested["corrections"] == 0
            and self.ingested["unchanged"] > self.trades
            and sum(view["rows_added"] for view in self.backfilled) == 0
        )

    @property
    def latency_title(self) -> str:
        """What `predict_us` is of."""
        return f"{self.values // self.answers} features, while trades stream"

    def summary(self) -> list[tuple[str, str]]:
        """Rows of the demo's last table."""
        import numpy as np

        def percentiles(taken_us: list[float]) -> str:
            p50, p99 = np.percentile(taken_us, [50, 99])
            return f"{p50:,.0f} µs / {p99:,.0f} µs"

        added = sum(view["rows_added"] for view in self.backfilled)
        return [
            (
                "trades streamed",
                f"{self.trades:,} in {self.sending_s:.1f} s, with {self.answers:,} predictions between them",
            ),
            (
                "sent until in Redis, p50 / p99",
                f"{percentiles(self.online_us)} for {self.trades / self.answers:.0f} trades",
            ),
            ("Predict p50 / p99 meanwhile", percentiles(self.predict_us)),
            ("values served meanwhile", f"{self.values:,}; mismatches {self.verified['mismatches']}"),
            (
                "stream = batch",
                f"an ingest of the file added {self.ingested['rows_added']} trades, a back-fill {added} rows",
            ),
        ]


def stream_trades(steps: Steps, home: Path) -> Streamed:
    """Train a model on what is known so far, then stream the rest and predict in between."""
    from tapeline_client import Client

    from tapeline.core.clock import TapeClock
    from tapeline.core.settings import Settings
    from tapeline.core.timestamps import to_us
    from tapeline.storage.postgres import connect
    from tapeline.storage.redis import connect_redis
    from tapeline.streaming.plan import StreamPlan
    from tapeline.streaming.producer import Producer

    found = Streamed()
    folder = home / "intraday"
    exported = steps.tapeline("export", *EXPORT, "--out", str(folder))
    found.trained = steps.tapeline("train", "--data", str(folder), "--model", MODEL)
    steps.say(
        f"{MODEL} {found.trained['version']}, from {exported['rows']:,} minutes × {exported['features']} features"
    )
    settings = Settings(home=home, postgres_url=None, redis_url=None)
    clock = TapeClock.create(home / "tape-clock", to_us(STREAMED_SINCE) - 1)
    moved = {"TAPELINE_CLOCK": f"tape:{home / 'tape-clock'}"}
    with ExitStack() as stack:
        connection = stack.enter_context(connect(settings))
        redis = stack.enter_context(connect_redis(settings))
        worker = stack.enter_context(BackgroundProcess(steps, WORKER, home / "worker.log"))
        server = stack.enter_context(ServerProcess(steps, MODEL, home / "stream-server.log", moved))
        client = stack.enter_context(Client(server.target))
        producer = Producer(redis, StreamPlan(STREAM, SOURCE, 1, project=settings.project))
        tape = _held_back(connection, settings)
        asked_since = datetime.now(UTC).isoformat()
        begin = time.perf_counter()
        with notices.status("streaming …"):
            _play(found, tape, producer, _Online(redis, settings.project, worker), clock, client)
        found.seconds = time.perf_counter() - begin
        _wait_for_log(client)
        found.worker = worker.stop()
    shown = f"{found.trades:,} trades through Redis, {found.answers:,} × client.predict(…) between them"
    console.print(f"[bold cyan]>>>[/] {shown}", highlight=False)
    steps.record(shown, found.seconds)
    steps.say(f"{found.trades / found.sending_s:,.0f} trades/s until their features were in Redis")
    found.verified = steps.tapeline("verify", "--since", asked_since)
    steps.say(f"{found.verified['values']:,} served values replayed, {found.verified['mismatches']} mismatches")
    found.ingested = steps.tapeline("ingest", SOURCE)
    found.backfilled = steps.tapeline("backfill", *VIEWS)
    steps.say("the file is ingested after all and the views are back-filled: nothing is added to what the stream wrote")
    return found


def _held_back(connection: psycopg.Connection[Any], settings: Settings) -> Events:
    """The trades that are not ingested, as the ingest would store them."""
    import polars as pl

    from tapeline.core.timestamps import to_us
    from tapeline.ingestion import PACKAGED, valid_rows
    from tapeline.streaming.codec import EventKind
    from tapeline.streaming.history import events_of_rows

    rows = pl.concat(valid_rows(connection, SOURCE, since_us=to_us(STREAMED_SINCE), settings=settings))
    return events_of_rows(EventKind.trades, rows, PACKAGED[SOURCE].source.declared_lag_us)


def _slices(event_us: NDArray[np.int64], count: int) -> Iterator[tuple[int, int]]:
    """Cut a tape into so many pieces of about equally many moments, none amid the trades of one moment."""
    import numpy as np

    starts = np.flatnonzero(np.diff(event_us, prepend=event_us[0] - 1))
    cuts = starts[np.linspace(0, len(starts), count, endpoint=False).astype(np.int64)]
    yield from zip(cuts.tolist(), [*cuts[1:].tolist(), len(event_us)], strict=True)


class _Online:
    """Waits until Redis holds what was computed from a trade."""

    def __init__(self, redis: Redis, project: str, worker: BackgroundProcess) -> None:
        from tapeline.features.catalogue import view
        from tapeline.storage.keys import entity_key_sorted, view_prefix

        spec = view("trade_microstructure")
        self._redis = redis
        self._key = view_prefix(project, spec.name, spec.version) + entity_key_sorted([SYMBOL])
        self._worker = worker

    def wait_for(self, event_us: int, sequence: int) -> None:
        """Return once the features of a trade are there; the worker writes those of all views at once."""
        from tapeline.storage.packed import row_times

        end = time.monotonic() + _ONLINE_TIMEOUT_S
        while True:
            value: Any = self._redis.get(self._key)
            if value is not None:
                times = row_times(value)
                if (times.event_us, times.sequence) == (event_us, sequence):
                    return
            if time.monotonic() > end:
                raise StepError(f"the features of trade {sequence} did not come within {_ONLINE_TIMEOUT_S:g} s")
            self._worker.require_alive()


def _play(found: Streamed, tape: Events, producer: Producer, online: _Online, clock: TapeClock, client: Client) -> None:
    """Send, wait, move the clock to the newest trade, ask: so each answer has a moment at which Redis held just what was known."""
    import numpy as np

    event_us, sequence = tape.records["event_us"], tape.records["sequence"]
    features = client.model_info().features
    for begin, end in _slices(event_us, -(-VALUES // len(features))):
        sent_s = time.perf_counter()
        producer.send(tape.chosen(np.arange(begin, end)))
        online.wait_for(int(event_us[end - 1]), int(sequence[end - 1]))
        clock.move_to(int(event_us[end - 1]))
        there_s = time.perf_counter()
        client.predict([SYMBOL])
        done_s = time.perf_counter()
        found.online_us.append((there_s - sent_s) * 1e6)
        found.predict_us.append((done_s - there_s) * 1e6)
        found.sending_s += there_s - sent_s
        found.answers += 1
    found.trades, found.values = len(tape), found.answers * len(features)


def _wait_for_log(client: Client) -> None:
    """Until every answer is in the log."""
    end = time.monotonic() + _ONLINE_TIMEOUT_S
    while client.model_info().served_log.waiting:
        if time.monotonic() > end:
            raise StepError("the server did not get its answers into the log")
        time.sleep(0.02)
