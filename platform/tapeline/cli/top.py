"""``tapeline top``: a stream as it runs, in the terminal."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tapeline.cli.app import JsonOption, emit

if TYPE_CHECKING:
    import psycopg
    from redis import Redis
    from rich.console import Group

    from tapeline.streaming.plan import StreamPlan


@dataclass(frozen=True)
class Moment:
    """A stream at one moment: seconds, what each live worker told, and each partition."""

    at_s: float
    workers: dict[str, dict[str, Any]]
    partitions: list[dict[str, Any]]
    facts: dict[str, Any]

    def rows(self, before: Moment | None) -> list[dict[str, Any]]:
        """A row for each worker; rates since the moment before."""
        made = []
        for name, told in sorted(self.workers.items()):
            earlier = before.workers.get(name) if before else None
            owned = [part["partition"] for part in self.partitions if part["worker"] == name]
            row: dict[str, Any] = {"worker": name, "partitions": len(owned)}
            # By the worker's own clock: it tells what it did up to its last beat.
            seconds = (told["ms"] - earlier["ms"]) / 1_000 if earlier else 0.0
            for what, columns in (("events", ("taken", "recorded", "late")), ("online", ("online",))):
                done = sum(told.get(column, 0) for column in columns)
                if earlier and seconds > 0:
                    row[f"{what}/s"] = (done - sum(earlier.get(column, 0) for column in columns)) / seconds
                else:
                    row[f"{what}/s"] = None
            row["lag entries"] = sum(
                (part["waiting"] or 0) + part["unacknowledged"] for part in self.partitions if part["worker"] == name
            )
            for what in ("latency", "processing"):
                for percentile in ("p50", "p99"):
                    seconds_each = told.get(what, {}).get(f"{percentile}_s")
                    row[f"{what} {percentile} ms"] = None if seconds_each is None else 1e3 * seconds_each
            row["set aside"] = told.get("aside", 0)
            row["behind MB"] = told.get("behind_bytes", 0) / 1e6
            row["open circuits"] = ", ".join(told.get("open", ()))
            made.append(row)
        return made


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("top")(top)


def top(
    name: Annotated[str, typer.Argument(help="The stream's name.")],
    source: Annotated[str, typer.Option("--source", "-s", help="The source under which raw rows are stored.")],
    partitions: Annotated[int, typer.Option(min=1, help="As when the stream was made.")] = 16,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look twice, print, and end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Throughput, lag and latency of a stream's workers and partitions, live. Ctrl-C ends it."""
    from rich.live import Live

    from tapeline.core.settings import get_settings
    from tapeline.storage.postgres import connect
    from tapeline.storage.redis import connect_redis
    from tapeline.streaming.plan import StreamPlan

    plan = StreamPlan(name, source, partitions, project=get_settings().project)
    with connect() as connection, connect_redis() as redis:
        before = look(redis, connection, plan)
        if once or as_json:
            time.sleep(every)
            now = look(redis, connection, plan)
            if as_json:
                emit({**now.facts, "workers": now.rows(before), "partitions": now.partitions}, as_json=True)
                return
            emit({"workers": len(now.workers), **now.facts}, as_json=False, title=f"Stream {name}")
            emit(now.rows(before), as_json=False, title="Workers", empty="No worker lives.")
            emit(now.partitions, as_json=False, title="Partitions")
            return
        with Live(draw(before, None, name), screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(every)
                now = look(redis, connection, plan)
                live.update(draw(now, before, name), refresh=True)
                before = now


def look(redis: Redis, connection: psycopg.Connection[Any], plan: StreamPlan) -> Moment:
    """A stream now."""
    from tapeline.streaming.leases import live_workers
    from tapeline.streaming.status import read_status

    status = read_status(redis, connection, plan)
    return Moment(
        time.monotonic(),
        live_workers(redis, plan),
        [partition.as_dict() for partition in status.partitions],
        {"dead letters": status.dead, "late rows": sum(status.repairs.values())},
    )


def draw(now: Moment, before: Moment | None, name: str) -> Group:
    """What is shown: workers above, partitions below."""
    from rich.console import Group
    from rich.table import Table

    parts: list[Any] = []
    facts = ", ".join(f"{value} {what}" for what, value in now.facts.items())
    workers = f"{len(now.workers)} worker{'s' * (len(now.workers) != 1)}" if now.workers else "no worker lives"
    for title, rows in ((f"Stream {name}: {workers}, {facts}", now.rows(before)), ("Partitions", now.partitions)):
        if not rows:
            parts.append(title)
            continue
        table = Table(title=title, title_justify="left")
        for column in rows[0]:
            table.add_column(column, justify="right" if column not in {"worker", "open circuits"} else "left")
        for row in rows:
            table.add_row(*map(_told, row.values()))
        parts.append(table)
    return Group(*parts)


def _told(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,.2f}" if isinstance(value, float) else str(value)
