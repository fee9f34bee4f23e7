"""``tapeline verify`` and ``verify-online``: whether what is served is what is stored."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tapeline.cli.app import JsonOption, emit, finite, notices
from tapeline.cli.vintage import AsOfOption, asked_vintage
from tapeline.core.errors import ParameterError
from tapeline.core.settings import get_settings
from tapeline.core.timestamps import format_us, to_us

if TYPE_CHECKING:
    from tapeline.monitoring.findings import ConsistencyReport, Mismatch
    from tapeline.monitoring.follow import Follower
    from tapeline.monitoring.served import Sampling

MISMATCHES_PRINTED = 20
JOB = "continuous"
_PAGE_S = 60.0
_DELAY_S = 5.0

SampleOption = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Share of the answers that is looked at; the same ones every time.")
]
SeedOption = Annotated[int, typer.Option(help="Another seed takes other ones.")]
ReportOption = Annotated[Path | None, typer.Option(help="Write an HTML page with pictures to this file.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(verify)
    app.command("verify-online")(verify_online)


def verify(
    since: Annotated[str | None, typer.Option(help="Only what was served at or after this moment, ISO 8601.")] = None,
    as_of: AsOfOption = None,
    sample: SampleOption = 1.0,
    seed: SeedOption = 0,
    report: ReportOption = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on verifying answers as they are logged.")] = False,
    recorded: Annotated[
        bool, typer.Option("--recorded", help="Show what --follow has found so far, and verify nothing.")
    ] = False,
    job: Annotated[str, typer.Option(help="With --follow: the name under which its position is kept.")] = JOB,
    delay: Annotated[
        float, typer.Option(min=0.0, help="With --follow: seconds from an answer's recording to its verification.")
    ] = _DELAY_S,
    objective: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="With --follow: share of values that has to be what is stored.")
    ] = 0.9999,
    metrics_port: Annotated[
        int | None, typer.Option(help="With --follow: loopback port for Prometheus; 0 for a free one.")
    ] = None,
    until_idle: Annotated[
        float | None, typer.Option(min=0.0, help="With --follow: end when nothing has come for so many seconds.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute served vectors again from the offline store and compare bit for bit.

    Exits with 1 if a difference has no explanation (late row, correction, version, corporate action, lag, ahead).
    """
    from tapeline.monitoring.served import Sampling

    sampling = Sampling(sample, seed)
    since_us = None if since is None else to_us(since, where="--since")
    if as_of is not None and (follow or recorded):
        raise ParameterError("--as-of is for one look at the log", remedy="Leave out --follow and --recorded")
    if recorded:
        _show_recorded(job, objective, report, as_json=as_json)
    elif follow:
        _follow(
            job, sampling, objective, since_us, delay, metrics_port, until_idle, report, as_json=as_json
        )  # fmt: skip
    else:
        _verify_once(since_us, as_of, sampling, report, as_json=as_json)


def _verify_once(
    since_us: int | None, as_of: str | None, sampling: Sampling, report: Path | None, *, as_json: bool
) -> None:
    from tapeline.monitoring.consistency import verify as run
    from tapeline.storage.postgres import connect

    began = time.perf_counter()
    with connect(get_settings()) as connection:
        found = run(connection, since_us=since_us, as_of_us=asked_vintage(connection, as_of), sampling=sampling)
    if report is not None:
        seconds = time.perf_counter() - began
        _write_page(found, report, f"Replayed from the offline store in {seconds:.1f} s.")
    _show(found, "served vectors replayed from the offline store", as_json=as_json)


def verify_online(
    view: Annotated[
        list[str] | None, typer.Option("--view", "-v", help="A view; all that are registered if none is given.")
    ] = None,
    entities: Annotated[int, typer.Option(min=1, max=1_000_000, help="Entities of each view to compare.")] = 1_000,
    seed: SeedOption = 0,
    looks: Annotated[int, typer.Option(min=1, max=100, help="A difference counts once it was seen so often.")] = 3,
    settle: Annotated[float, typer.Option(min=0.0, help="Seconds between looks.")] = 1.0,
    report: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare what the online store holds now with what the offline store gives now, for some entities of each view.

    Exits with 1 if a difference has no explanation (lag, late row, correction, version, expired, ahead).
    """
    from tapeline.monitoring.online_check import compare_online
    from tapeline.storage.postgres import connect
    from tapeline.storage.redis import connect_redis

    settings = get_settings()
    with connect(settings) as connection, connect_redis(settings) as redis:
        found = compare_online(
            connection,
            redis,
            settings.project,
            now_us=settings.make_clock().now_us(),
            views=view,
            entities=entities,
            seed=seed,
            looks=looks,
            settle_s=settle,
        )
    if report is not None:
        _write_page(found.found, report, "Values in the online store now, against those of the offline store.")
    more = {"expired on both sides": found.expired, "looks": found.looks, "not online": found.not_online}
    _show(found.found, "online values compared with the offline store", as_json=as_json, counted="entities", more=more)


def _show(
    found: ConsistencyReport,
    title: str,
    *,
    as_json: bool,
    counted: str = "vectors",
    more: dict[str, Any] | None = None,
) -> None:
    """Print what was found; exit with 1 where something has no explanation."""
    summary = {counted if name == "vectors" else name: value for name, value in found.summary().items()} | (more or {})
    if as_json:
        emit(summary | {"examples": [mismatch_json(each) for each in found.mismatches]}, as_json=True)
    else:
        emit(summary, as_json=False, title=title)
        _print_mismatches(found.mismatches)
    _judge(found.unexplained)


def _judge(unexplained: int) -> None:
    if unexplained:
        notices.print(f"[bold red]{unexplained} values differ without an explanation[/]")
        raise typer.Exit(1)


def _print_mismatches(mismatches: Sequence[Mismatch]) -> None:
    """One line for each vector, its first feature, and how many more of it differ for the same cause."""
    from tapeline.monitoring.findings import by_vector
    from tapeline.monitoring.verify_page import place_text

    rows = [
        {
            "entity": each.entity,
            "served_at": format_us(each.served_us),
            "view": f"{each.view}@{each.version}",
            "feature": each.feature,
            "more": count - 1,
            "origin": each.origin,
            "served": each.served,
            "expected": each.expected,
            "cause": each.cause.value,
            "recorded row": place_text(each.recorded),
        }
        for each, count in by_vector(mismatches)[:MISMATCHES_PRINTED]
    ]
    if rows:
        emit(rows, as_json=False, title="mismatches")


def mismatch_json(each: Mismatch) -> dict[str, Any]:
    """A difference as JSON data."""
    return {
        "request_id": each.request_id,
        "entity": each.entity,
        "view": f"{each.view}@{each.version}",
        "feature": each.feature,
        "origin": each.origin,
        "served_at": format_us(each.served_us),
        "request_at": format_us(each.request_us),
        "served": each.served,
        "expected": each.expected,
        "cause": each.cause.value,
        "used": asdict(each.used),
        "recorded": asdict(each.recorded),
    }


def _write_page(found: ConsistencyReport, path: Path, subtitle: str) -> None:
    from tapeline.monitoring.verify_page import VerificationPage, write_page

    summary = [
        ("vectors", f"{found.vectors:,}"),
        ("values", f"{found.values:,}"),
        ("from", ", ".join(f"{origin} {count:,}" for origin, count in sorted(found.by_origin.items()))),
        ("differ", f"{found.mismatch_count:,}"),
        ("without an explanation", f"{found.unexplained:,}"),
    ]
    title = "Served = stored?"
    write_page(VerificationPage(title, subtitle, summary, found.by_view, found.by_minute, found.mismatches), path)


def _follow(
    job: str,
    sampling: Sampling,
    objective: float,
    since_us: int | None,
    delay_s: float,
    metrics_port: int | None,
    until_idle_s: float | None,
    report: Path | None,
    *,
    as_json: bool,
) -> None:
    from tapeline.monitoring.follow import Follower
    from tapeline.monitoring.metrics import serve_metrics
    from tapeline.monitoring.slo import Objective
    from tapeline.storage.migrations import require_schema
    from tapeline.storage.postgres import connect

    with connect(get_settings()) as connection:
        require_schema(connection)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    follower = Follower(
        connect, job, sampling=sampling, objective=Objective(objective), since_us=since_us, delay_s=delay_s
    )
    port, close_metrics = serve_metrics(follower, metrics_port) if metrics_port is not None else (None, lambda: None)
    if port is not None:
        notices.print(f"metrics: http://127.0.0.1:{port}/metrics", markup=False, highlight=False)
    pages = threading.Thread(target=_keep_page, args=(follower, report, stop), daemon=True) if report else None
    if pages is not None:
        pages.start()
    try:
        follower.run(stop, until_idle_s=until_idle_s)
    finally:
        stop.set()
        close_metrics()
        if pages is not None:
            pages.join(timeout=30)
    _show_recorded(job, objective, report, as_json=as_json, more=_speed(follower))


def _speed(follower: Follower) -> dict[str, Any]:
    return {"steps of this process": follower.status.steps, "seconds in them": round(follower.status.seconds, 3)}


def _keep_page(follower: Follower, path: Path, stop: threading.Event) -> None:
    """Write the page again every minute."""
    import psycopg

    from tapeline.core.errors import TapelineError

    while not stop.wait(_PAGE_S):
        try:
            _recorded(follower.name, follower.objective.target, path)
        except (psycopg.Error, TapelineError) as error:
            notices.print(f"the page is not written: {error}", markup=False, highlight=False)


def _show_recorded(
    job: str, objective: float, report: Path | None, *, as_json: bool, more: dict[str, Any] | None = None
) -> None:
    facts, mismatches = _recorded(job, objective, report)
    facts |= more or {}
    if as_json:
        text = json.dumps(finite(facts | {"examples": [mismatch_json(each) for each in mismatches]}), indent=2)
        sys.stdout.write(text + "\n")
    else:
        emit(facts, as_json=False, title=f"verification job {job}")
        _print_mismatches(mismatches)
    _judge(facts["unexplained"])


def _recorded(job: str, objective: float, report: Path | None) -> tuple[dict[str, Any], list[Mismatch]]:
    """What a job's journal says, for people; with a path, the page is written too."""
    from tapeline.monitoring.findings import Cause
    from tapeline.monitoring.journal import read_minutes, read_mismatches, read_totals
    from tapeline.monitoring.slo import Objective
    from tapeline.monitoring.verify_page import MISMATCHES_READ, VerificationPage, write_page
    from tapeline.storage.migrations import require_schema
    from tapeline.storage.postgres import connect

    with connect(get_settings()) as connection:
        require_schema(connection)
        totals = read_totals(connection, job)
        minutes = read_minutes(connection, job)
        mismatches = read_mismatches(connection, job, MISMATCHES_READ)
    causes = {cause.value: totals.of_cause(cause) for cause in Cause if totals.of_cause(cause)}
    burning = Objective(objective).burn_rates(minutes, totals.through_us)
    facts: dict[str, Any] = {
        "job": job,
        "vectors": totals.vectors,
        "values": totals.of_cause(None),
        "mismatches": sum(causes.values()),
        "unexplained": totals.of_cause(Cause.UNKNOWN),
        "causes": causes,
        "verified through": format_us(totals.through_us),
        "sample": totals.sampling.rate,
        "seed": totals.sampling.seed,
        "burn rates": burning,
    }
    if report is not None:
        summary = [
            (name, value if isinstance(value, str) else f"{value:,}")
            for name, value in facts.items()
            if name not in {"causes", "burn rates"}
        ]
        page = VerificationPage(
            "Served = stored?", f"Continuous verification, job {job}; objective {objective:.4%}.", summary, totals.counts,
            minutes, mismatches, burning,
        )  # fmt: skip
        write_page(page, report)
    return facts, mismatches
