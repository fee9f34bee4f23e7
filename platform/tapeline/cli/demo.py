"""``tapeline demo``: the whole path on packaged data, each step being a command that a user could type."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tapeline.cli.app import console, emit
from tapeline.cli.demo_steps import ServerProcess, StepError, Steps
from tapeline.cli.demo_stream import HISTORY_UNTIL, Streamed, stream_trades
from tapeline.cli.demo_vintage import LateCorrection, correct_late
from tapeline.core.errors import ConfigurationError, MissingExtraError
from tapeline.core.settings import get_settings
from tapeline.core.timestamps import to_us

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tapeline_client import Bar, Client, Prediction

SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
VIEW, SERVICE, MODEL = "daily_technical", "daily_model", "daily_direction"
LAST_INGESTED = "2013-02-28T23:59:59+00:00"
"""Bars up to here are history; the session of 1 March 2013 is held back and sent as live rows."""
HELD_BACK_DATE, HELD_BACK_OPEN, HELD_BACK_CLOSE = "2013-03-01", "2013-03-01T14:30:00+00:00", "2013-03-01T21:00:00+00:00"
REQUEST_TIME = "2013-03-01T21:20:00+00:00"
"""The replay clock: the held-back session has closed and its bars are out, but none is in the stores."""
EXPORT = (
    "--service", SERVICE, "--symbols", ",".join(SYMBOLS), "--every", "session", "--labels", "direction:5d",
)  # fmt: skip
REQUESTS = 1_000
_KEPT = ("kernels", "downloads")  # what a new run takes over: compiled code and the downloaded trades


@dataclass
class DemoRun:
    """What the steps gave."""

    daily: dict[str, Any] = field(default_factory=dict)
    trades: dict[str, Any] = field(default_factory=dict)
    views: list[dict[str, Any]] = field(default_factory=list)
    dataset: dict[str, Any] = field(default_factory=dict)
    rebuilt: dict[str, Any] = field(default_factory=dict)
    trained: dict[str, Any] = field(default_factory=dict)
    ready_s: float = 0.0
    latency_us: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    live: list[Prediction] = field(default_factory=list)
    live_values: int = 0
    verified: dict[str, Any] = field(default_factory=dict)
    stream: Streamed = field(default_factory=Streamed)
    late: LateCorrection = field(default_factory=LateCorrection)
    seconds: float = 0.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    repository: Annotated[Path, typer.Option(help="The Feast repository.")] = Path("feature_repo"),
    report: Annotated[Path, typer.Option(help="Where to write the report.")] = Path("report.html"),
    keep: Annotated[bool, typer.Option("--keep", help="Leave the servers running, to look around.")] = False,
) -> None:
    """Run the whole path on packaged data: ingest, features, export, training, serving, proof.

    It has servers and a data folder of its own, below the data folder; each run starts with empty stores.
    """
    from tapeline.cli.demo_report import write_report

    if not (repository / "feature_store.yaml").is_file():
        raise ConfigurationError(
            f"{repository} holds no feature_store.yaml", remedy="Run the demo from the root of a checkout: make demo"
        )
    begin = time.perf_counter()
    home = get_settings().home_path / "demo"
    steps = Steps({"TAPELINE_HOME": str(home), "TAPELINE_CLOCK": REQUEST_TIME}, repository.resolve().parent)
    for name in ("TAPELINE_POSTGRES_URL", "TAPELINE_REDIS_URL"):  # the demo never writes into another database
        steps.environment.pop(name, None)
    _clear(steps, home)
    try:
        run = _walk(steps, home, repository.resolve())
        run.seconds = time.perf_counter() - begin
        write_report(run, steps, home, report)
    finally:
        if not keep:
            steps.tapeline("down")
    emit(dict(summary(run)), as_json=False, title="From the tape to a served prediction")
    console.print(run.trained["verdict"], style="italic", highlight=False)
    console.print(f"Report: {report.resolve()}", highlight=False, soft_wrap=True)
    same = run.rebuilt["content_sha256"] == run.dataset["content_sha256"]
    if run.verified["mismatches"] or not same or not run.stream.holds or not run.late.holds:
        raise typer.Exit(1)


def _clear(steps: Steps, home: Path) -> None:
    """Stop what an earlier run left and remove its stores."""
    if home.exists():
        steps.tapeline("down")
        steps.done.clear()
        for entry in home.iterdir():
            if entry.name not in _KEPT:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _walk(steps: Steps, home: Path, repository: Path) -> DemoRun:
    from tapeline_client import Client

    run = DemoRun()
    steps.tapeline("up")
    steps.say("PostgreSQL and Valkey run, the schema is there")
    _history(steps, run, repository)
    _training(steps, run, home)
    with ServerProcess(steps, MODEL, home / "server.log") as server:
        run.ready_s = server.ready_s
        steps.say(f"ready on {server.target}")
        with Client(server.target) as client:
            _requests(steps, run, client)
    _proof(steps, run, home)
    run.stream = stream_trades(steps, home)
    run.late = correct_late(steps, home, VIEW, EXPORT)
    return run


def _history(steps: Steps, run: DemoRun, repository: Path) -> None:
    run.daily = steps.tapeline("ingest", "us-daily", "--until", LAST_INGESTED)
    steps.say(f"{run.daily['rows_added']:,} daily bars of {len(run.daily['symbols'])} shares, "
              f"{run.daily['splits_added']} splits; {run.daily['quarantined']} quarantined, {len(run.daily['gaps'])} missing sessions")  # fmt: skip
    run.trades = steps.tapeline("ingest", "cme-trades", "--until", HISTORY_UNTIL)
    steps.say(f"{run.trades['rows_added']:,} trades of the E-mini S&P 500; {run.trades['quarantined']} quarantined")
    run.views = steps.tapeline("backfill")
    for view in run.views:
        console.print(f"  {view['view']}@{view['version']}: {view['rows_added']:,} rows", highlight=False)
    steps.say("features computed by compiled kernels, states saved")
    steps.feast("apply", repository=repository)
    steps.say("the Feast repository is applied")
    steps.feast(
        "materialize", "2013-02-01T00:00:00+00:00", "2013-03-01T00:00:00+00:00", "--views", VIEW, repository=repository
    )
    steps.say("the newest values of each share are in Valkey")


def _training(steps: Steps, run: DemoRun, home: Path) -> None:
    folder = home / "dataset"
    run.dataset = steps.tapeline("export", *EXPORT, "--out", str(folder))
    steps.say(f"{run.dataset['rows']:,} rows, SHA-256 {run.dataset['content_sha256'][:16]}…")
    run.rebuilt = steps.tapeline("rebuild", str(folder / "manifest.json"))
    steps.say("rebuilt from the database: the same bytes")
    run.trained = steps.tapeline("train", "--data", str(folder), "--model", MODEL)
    steps.say(f"{MODEL} {run.trained['version']}: walk-forward, calibrated, exported to ONNX, registered")


def _requests(steps: Steps, run: DemoRun, client: Client) -> None:
    bars = held_back_bars()
    begin = time.perf_counter()
    for symbol in SYMBOLS:  # warm connections and kernels of both paths
        client.predict([symbol])
        client.predict([symbol], live_bars={symbol: [bars[symbol]]})
    run.latency_us["stored features"] = _latencies(client, {})
    run.latency_us["with the newest bar"] = _latencies(client, bars)
    run.live = client.predict(SYMBOLS, live_bars={symbol: [bar] for symbol, bar in bars.items()}, include_features=True)
    shown = f"{2 * REQUESTS:,} × client.predict(…)"
    console.print(f"[bold cyan]>>>[/] {shown}", highlight=False)
    steps.record(shown, time.perf_counter() - begin)
    for prediction in run.live:
        console.print(f"  {prediction.symbol}: P(up in 5 sessions) = {prediction.probability:.3f}", highlight=False)
    steps.say("answers over gRPC, half of them with the bar of 1 March 2013 in the request")


def _latencies(client: Client, bars: dict[str, Bar]) -> NDArray[np.float64]:
    import numpy as np

    taken = np.empty(REQUESTS)
    for number in range(REQUESTS):
        symbol = SYMBOLS[number % len(SYMBOLS)]
        live = {symbol: [bars[symbol]]} if bars else None
        begin = time.perf_counter_ns()
        client.predict([symbol], live_bars=live)
        taken[number] = (time.perf_counter_ns() - begin) / 1_000
    return taken


def held_back_bars() -> dict[str, Bar]:
    """The bars of the session that is not ingested, by symbol."""
    import polars as pl
    from tapeline_client import Bar

    found = find_spec("bokeh_sampledata")
    if found is None or found.origin is None:
        raise MissingExtraError("bokeh-sampledata", "demo")
    frame = pl.read_csv(Path(found.origin).parent / "_data" / "stocks.csv.gz").filter(pl.col("Date") == HELD_BACK_DATE)
    open_us, close_us = to_us(HELD_BACK_OPEN), to_us(HELD_BACK_CLOSE)
    return {
        row["Ticker"]: Bar(
            start_us=open_us, event_us=close_us, open=row["Open"], high=row["High"], low=row["Low"], close=row["Close"],
            volume=float(row["Volume"]),
        )
        for row in frame.iter_rows(named=True)
    }  # fmt: skip


def _proof(steps: Steps, run: DemoRun, home: Path) -> None:
    run.verified = steps.tapeline("verify")
    steps.say(f"{run.verified['values']:,} served values replayed, {run.verified['mismatches']} mismatches")
    steps.tapeline("ingest", "us-daily")
    steps.tapeline("backfill", VIEW)
    run.live_values = _same_as_batch(run.live, home)
    steps.say(
        f"the held-back day is ingested: its {run.live_values} batch values are those served before it was, bit for bit"
    )


def _same_as_batch(live: list[Prediction], home: Path) -> int:
    """Compare what was served from live bars with what the back-fill wrote later; the number of values compared."""
    import numpy as np
    from psycopg import sql

    from tapeline.core.settings import Settings
    from tapeline.features.catalogue import view
    from tapeline.storage.postgres import connect

    compared = 0
    with connect(Settings(home=home, postgres_url=None)) as connection:
        for prediction in live:
            features = prediction.features or {}
            statement = sql.SQL("SELECT {} FROM {} WHERE symbol = %s AND event_timestamp = %s").format(
                sql.SQL(", ").join(map(sql.Identifier, features)), sql.Identifier("features", view(VIEW).table)
            )
            row = connection.execute(statement, (prediction.symbol, HELD_BACK_CLOSE)).fetchone()
            batch, served = np.array(row, dtype=np.float64), np.array(list(features.values()))
            if not features or batch.tobytes() != served.tobytes():
                differing = [n for n, a, b in zip(features, batch, served, strict=True) if a != b]
                raise StepError(f"{prediction.symbol}: served live and computed later differ in {', '.join(differing)}")
            compared += batch.size
    return compared


def summary(run: DemoRun) -> list[tuple[str, str]]:
    """The table at the end: what, value."""
    import numpy as np

    def milliseconds(name: str) -> str:
        p50, p99 = np.percentile(run.latency_us[name], [50, 99])
        return f"{p50:,.0f} µs / {p99:,.0f} µs"

    from tapeline.features.catalogue import view as registered

    columns = sum(len(registered(row["view"], row["version"]).columns) for row in run.views)
    model, best = run.trained["metrics"]["model"], run.trained["metrics"]["against_best_baseline"]
    return [
        ("rows ingested", f"{run.daily['rows_added']:,} bars, {run.trades['rows_added']:,} trades"),
        ("rows quarantined", f"{run.daily['quarantined'] + run.trades['quarantined']:,}"),
        ("features", f"{columns} columns in {len(run.views)} views, {sum(v['rows_added'] for v in run.views):,} rows"),
        ("data set", f"{run.dataset['rows']:,} rows × {run.dataset['features']} features"),
        ("data-set SHA-256", run.dataset["content_sha256"]),
        ("rebuilt", "same SHA-256" if run.rebuilt["content_sha256"] == run.dataset["content_sha256"] else "DIFFERENT"),
        *(
            (f"{metric.replace('_', ' ')}", _metric(model[metric], best[metric]))
            for metric in ("roc_auc", "log_loss", "accuracy", "sharpe")
        ),
        ("server ready", f"{run.ready_s:.1f} s after its start"),
        ("Predict p50 / p99, stored features", milliseconds("stored features")),
        ("Predict p50 / p99, newest bar in request", milliseconds("with the newest bar")),
        ("served values replayed", f"{run.verified['values']:,} of {run.verified['vectors']:,} vectors"),
        ("mismatches", f"{run.verified['mismatches']}"),
        ("live = batch", f"{run.live_values} values, bit for bit"),
        *run.stream.summary(),
        *run.late.summary(),
        ("time", f"{run.seconds:.0f} s"),
    ]


def _metric(estimate: dict[str, Any], comparison: dict[str, Any]) -> str:
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    better = comparison["value"]
    p = comparison["p_value"]
    return f"{value:.3f} [{low:.3f}, {high:.3f}]; {better:+.3f} against {comparison['baseline']} (p = {p:.2f})"
