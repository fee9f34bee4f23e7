"""``tapeline live``: listen to a venue, replay what was recorded, see what was missed."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tapeline.cli.app import JsonOption, emit, notices
from tapeline.core.errors import ParameterError, UnknownNameError

if TYPE_CHECKING:
    from tapeline.live.outcome import Outcome
    from tapeline.live.recording import Recording
    from tapeline.live.runner import LiveRunner

live_app = typer.Typer(help="Events of a venue's WebSocket, recorded and repaired.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(live_app, name="live")


@live_app.command("run")
def run(
    source: Annotated[Path, typer.Argument(help="The declaration, TOML or YAML.")],
    record: Annotated[Path | None, typer.Option(help="Folder to record all frames in.")] = None,
    keep: Annotated[float, typer.Option(min=0.001, help="GiB of recordings to keep; older runs are removed.")] = 16.0,
    seconds: Annotated[float | None, typer.Option("--for", min=0.0, help="End after so many seconds.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Listen until told to end (SIGTERM, Ctrl-C), and send every event to the source's stream."""
    from tapeline.core.settings import get_settings
    from tapeline.live.delivery import plan_of
    from tapeline.live.runner import LiveRunner
    from tapeline.live.source import read_source
    from tapeline.storage.migrations import require_schema
    from tapeline.storage.postgres import connect
    from tapeline.storage.redis import connect_redis

    declared = read_source(source)
    with connect() as connection:
        require_schema(connection)
    with connect_redis() as redis:
        runner = LiveRunner(
            declared,
            plan_of(declared, get_settings().project),
            redis=redis,
            connect=connect,
            record=record,
            keep_bytes=round(keep * (1 << 30)),
            notice=lambda words: notices.print(words, markup=False, highlight=False),
        )
        asyncio.run(_until_told(runner, seconds))
    emit(_readable(runner.totals()), as_json=as_json, title=f"Live source {declared.name}")


async def _until_told(runner: LiveRunner, seconds: float | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if seconds is not None:
        loop.call_later(seconds, stop.set)
    await runner.run(stop)


@live_app.command("replay")
def replay(
    path: Annotated[Path, typer.Argument(help="A folder of recordings, or a run's first file.")],
    speed: Annotated[float, typer.Option(min=0.0, help="Times faster than it happened; 0: as fast as possible.")] = 0.0,
    stream: Annotated[str | None, typer.Option(help="Stream to send the events to; none: only compute.")] = None,
    source: Annotated[str | None, typer.Option(help="Source under which that stream's workers store.")] = None,
    partitions: Annotated[int, typer.Option(min=1, help="Of that stream.")] = 16,
    as_json: JsonOption = False,
) -> None:
    """Take recorded frames in again: the same frames give the same events, bit for bit, which the digests show."""
    from contextlib import ExitStack

    from tapeline.live.recording import read_recording
    from tapeline.live.replaying import replay_recording

    if (stream is None) != (source is None):
        raise ParameterError("--stream and --source belong together", remedy="Give both, or neither")
    rows = []
    with ExitStack() as stack:
        send = _sender(stack, stream, source, partitions) if stream is not None and source is not None else _nowhere
        for recording in read_recording(path):
            done = replay_recording(recording, speed=speed, send=send)
            rows.append(
                {
                    "run": _run_name(recording),
                    **{name: getattr(done.counters, name) for name in ("frames", "trades", "quotes", "book_rows")},
                    "gaps": len(done.gaps),
                    "torn_bytes": recording.torn_bytes,
                    **{f"sha256 of {kind}": digest[:16] for kind, digest in done.sha256.items()},
                }
            )
    emit(rows, as_json=as_json, title="Replayed")


def _run_name(recording: Recording) -> str:
    from tapeline.core.timestamps import format_us

    return f"{recording.source.name} {format_us(recording.run_us)}"


def _nowhere(_: Outcome) -> None:
    pass


def _sender(stack: Any, stream: str, source: str, partitions: int) -> Any:
    from tapeline.core.settings import get_settings
    from tapeline.storage.redis import connect_redis
    from tapeline.streaming.plan import StreamPlan
    from tapeline.streaming.producer import Producer

    redis = stack.enter_context(connect_redis())
    plan = StreamPlan(stream, source, partitions, project=get_settings().project)
    producer = Producer(redis, plan, wait_s=600.0)

    def send(outcome: Outcome) -> None:
        for events in outcome.batches():
            producer.send(events)

    return send


@live_app.command("gaps")
def gaps(
    source: Annotated[str | None, typer.Option("--source", "-s", help="Only of this source.")] = None,
    state: Annotated[str | None, typer.Option(help="found, filled or unfillable.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """What was missed and what became of it, the newest first."""
    from tapeline.live.gaps import GapState, list_gaps
    from tapeline.storage.migrations import require_schema
    from tapeline.storage.postgres import connect

    if state is not None and state not in GapState.__members__:
        raise UnknownNameError("state of a gap", state, GapState.__members__)
    with connect() as connection:
        require_schema(connection)
        found = list_gaps(connection, source, state=GapState(state) if state else None, limit=limit)
    emit([gap.as_dict() for gap in found], as_json=as_json, title="Gaps", empty="Nothing was missed.")


def _readable(totals: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("_", " "): value for name, value in totals.items()}
