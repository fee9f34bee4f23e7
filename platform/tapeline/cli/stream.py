"""``tapeline stream``: run workers, send recorded events again, see how a stream stands."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tapeline.cli.app import JsonOption, emit, notices, span_us
from tapeline.core.errors import InvalidDataError, ParameterError, UnavailableError, UnknownNameError

if TYPE_CHECKING:
    import psycopg

    from tapeline.streaming.codec import Events
    from tapeline.streaming.plan import StreamPlan
    from tapeline.streaming.worker import Worker

stream_app = typer.Typer(help="Features from events while they happen.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="The stream's name.")]
SourceOption = Annotated[str, typer.Option("--source", "-s", help="The source under which raw rows are stored.")]
PartitionsOption = Annotated[int, typer.Option(min=1, help="Fixed when the stream is made.")]
_SWITCH_S = 0.0002
"""How long the thread behind may keep the one that computes waiting."""
_RESTS_S = (0.2, 0.5, 1.0, 2.0, 5.0)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(stream_app, name="stream")


def _plan(name: str, source: str, partitions: int) -> StreamPlan:
    from tapeline.core.settings import get_settings
    from tapeline.streaming.plan import StreamPlan

    return StreamPlan(name, source, partitions, project=get_settings().project)


@stream_app.command("run")
def run(
    name: NameArgument,
    source: SourceOption,
    view: Annotated[
        list[str] | None, typer.Option("--view", "-v", help="NAME or NAME@VERSION; all of the source if none is given.")
    ] = None,
    partitions: PartitionsOption = 16,
    lease: Annotated[
        float, typer.Option(min=0.2, help="Seconds that a killed worker's partitions stand still.")
    ] = 10.0,
    feature_rows: Annotated[
        bool, typer.Option(help="Write feature rows offline, too; without, the next back-fill adds them.")
    ] = True,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Answer Prometheus on this loopback port; 0: any free one.")
    ] = None,
    until_idle: Annotated[
        float | None, typer.Option(min=0.0, help="End when nothing has come for so many seconds.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run one worker until it is told to end (SIGTERM, Ctrl-C). Start more of them to share the partitions."""
    from tapeline.features.catalogue import VIEWS
    from tapeline.features.catalogue import view as view_of

    specs = [view_of(each) for each in view] if view else [spec for spec in VIEWS if spec.rows.source == source]
    if not specs:
        raise UnknownNameError("source of a view", source, (spec.rows.source for spec in VIEWS))
    ending = _Ending()
    sys.setswitchinterval(_SWITCH_S)
    totals: dict[str, int] = {}
    settings: dict[str, Any] = {"lease_ms": round(lease * 1_000), "feature_rows": feature_rows}
    rests = 0
    while not ending.asked:
        try:
            done = _work(_plan(name, source, partitions), specs, settings, ending, until_idle, metrics_port, totals)
        except UnavailableError as error:
            notices.print(f"{error}", markup=False, highlight=False)
            time.sleep(_RESTS_S[min(rests, len(_RESTS_S) - 1)])
            rests += 1
            continue
        rests = 0
        if done:
            break
    emit(totals, as_json=as_json, title=f"Stream {name}: what this worker did")


class _Ending:
    """Whether a signal has asked to end."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, *_: object) -> None:
        self.asked = True


def _work(
    plan: StreamPlan,
    specs: list[Any],
    settings: dict[str, Any],
    ending: _Ending,
    until_idle_s: float | None,
    metrics_port: int | None,
    totals: dict[str, int],
) -> bool:
    """Work until asked to end, or nothing comes any more; adds what was done to the totals."""
    from tapeline.storage.postgres import connect
    from tapeline.storage.redis import connect_redis
    from tapeline.streaming.worker import Worker

    with connect_redis() as redis:
        worker = Worker(plan, specs, redis=redis, connect=connect, **settings)
        last_s = time.monotonic()
        stop_metrics = _metrics(worker, metrics_port)
        try:
            while not ending.asked:
                if worker.step():
                    last_s = time.monotonic()
                elif until_idle_s is not None and time.monotonic() - last_s > until_idle_s:
                    break
        except UnavailableError:
            worker.give_up()
            raise
        else:
            worker.close()
        finally:
            stop_metrics()
            for what, count in asdict(worker.counters).items():
                totals[what] = totals.get(what, 0) + count
    return True


def _metrics(worker: Worker, port: int | None) -> Callable[[], None]:
    """Serve a worker's metrics, if asked to; returns what ends that."""
    if port is None:
        return lambda: None
    from tapeline.streaming.metrics import serve, worker_metrics

    taken, stop = serve(port, lambda: worker_metrics(worker))
    notices.print(f"Metrics: http://127.0.0.1:{taken}/metrics", markup=False, highlight=False)
    return stop


@stream_app.command("produce")
def produce(
    name: NameArgument,
    source: SourceOption,
    recorded: Annotated[str | None, typer.Option("--from", help="The source whose recorded rows are sent.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Instead: the packaged source of that name, or a .csv, .csv.gz or .parquet file of the source."
        ),
    ] = None,
    kind: Annotated[str, typer.Option(help="trades, quotes, book_events, bars or news; of recorded rows.")] = "trades",
    start: Annotated[
        str | None, typer.Option(help="First available time (of data: event time): a moment with its zone, or a day.")
    ] = None,
    end: Annotated[str | None, typer.Option(help="Last one.")] = None,
    speed: Annotated[float, typer.Option(min=0.0, help="Times faster than it happened; 0: as fast as possible.")] = 0.0,
    partitions: PartitionsOption = 16,
    as_json: JsonOption = False,
) -> None:
    """Send recorded events again, in the order in which they became known; or a file's, checked as an ingest would."""
    from tapeline.compute.reading import BEGINNING_US, END_US
    from tapeline.storage.migrations import require_schema
    from tapeline.storage.postgres import connect
    from tapeline.storage.redis import connect_redis
    from tapeline.streaming.codec import EventKind
    from tapeline.streaming.history import paced, recorded_events
    from tapeline.streaming.producer import Producer

    if kind not in EventKind.__members__:
        raise UnknownNameError("kind of events", kind, EventKind.__members__)
    if (recorded is None) == (data is None):
        raise ParameterError("what is to be sent is not clear", remedy="Give either --from or --data")
    if recorded == source:
        raise ParameterError(
            f"the stream stores under {source!r} what is recorded there already",
            remedy="Give the stream a source of its own: tapeline ingest --help says how a source is made",
        )
    since_us, last_us = span_us(start, end)
    began = time.perf_counter()
    with connect() as connection, connect_redis() as redis:
        require_schema(connection)
        producer = Producer(redis, _plan(name, source, partitions), wait_s=600.0)
        if recorded is not None:
            events = recorded_events(
                connection,
                recorded,
                EventKind[kind],
                since_us=BEGINNING_US if since_us is None else since_us,
                until_us=END_US if last_us is None else last_us + 1,
            )
        else:
            events = data_events(connection, source, str(data), since_us, last_us)
        sent = paced(producer, events, speed)
    seconds = time.perf_counter() - began
    emit(
        {
            "events": sent,
            "seconds": seconds,
            "events a second": sent / seconds,
            "waited for workers": producer.waited_s,
        },
        as_json=as_json,
        title=f"Stream {name}",
    )


def data_events(
    connection: psycopg.Connection[Any], source: str, data: str, since_us: int | None, until_us: int | None
) -> Iterator[Events]:
    """The events of a packaged source or of a file of a declared one, within a span of event times."""
    from tapeline.ingestion import PACKAGED, valid_rows
    from tapeline.storage.reference import find_source, source_names
    from tapeline.streaming.codec import EventKind
    from tapeline.streaming.history import events_of_rows

    if data in PACKAGED and data != source:
        raise ParameterError(f"{data} are rows of the source {data}, not of {source!r}", remedy=f"Give --source {data}")
    known = PACKAGED[data].source if data in PACKAGED else find_source(connection, source)
    if known is None:
        raise UnknownNameError("source", source, source_names(connection))
    if known.kind not in EventKind.__members__:
        raise ParameterError(
            f"{source} holds {known.kind}, which are no events",
            remedy="Streams carry trades, quotes, books, bars and news",
        )
    declared = None if data in PACKAGED else source
    for rows in valid_rows(connection, data, declared, since_us=since_us, until_us=until_us):
        if rows["deleted"].any():
            raise InvalidDataError(
                "a row of the file is a retraction, which has to count from its arrival",
                where=data,
                remedy="Bring corrections and retractions in with: tapeline ingest file",
            )
        yield events_of_rows(EventKind[known.kind], rows, known.declared_lag_us)


@stream_app.command("status")
def status(
    name: NameArgument, source: SourceOption, partitions: PartitionsOption = 16, as_json: JsonOption = False
) -> None:
    """What waits, who works, how far PostgreSQL is, what was refused and repaired."""
    from tapeline.storage.postgres import connect
    from tapeline.storage.redis import connect_redis
    from tapeline.streaming.status import read_status

    with connect() as connection, connect_redis() as redis:
        found = read_status(redis, connection, _plan(name, source, partitions))
    facts = {"workers": found.workers, "dead letters": found.dead, "late rows": found.repairs, "set aside": found.aside}
    rows = [partition.as_dict() for partition in found.partitions]
    if as_json:
        emit({**facts, "partitions": rows}, as_json=True)
        return
    emit(facts, as_json=False, title=f"Stream {name}")
    emit(rows, as_json=False, title="Partitions")
