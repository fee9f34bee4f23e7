"""``tapeline serve`` and ``predict``: the inference server, and a question to it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tapeline.cli.app import JsonOption, emit, notices
from tapeline.core.errors import (
    ContinuityError,
    InvalidDataError,
    LimitError,
    ParameterError,
    TapelineError,
    UnavailableError,
)
from tapeline.core.settings import get_settings
from tapeline.core.timestamps import format_us, to_us

if TYPE_CHECKING:
    from tapeline_client import Bar, ClientError, Prediction


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(serve)
    app.command()(predict)


def serve(
    model: Annotated[str, typer.Argument(help="Registered model: name, name@version or name@alias.")],
    host: Annotated[str | None, typer.Option(help="Address to bind; loopback only.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind; 0 for a free one.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Loopback port for Prometheus.")] = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Verify the bundle and compile its kernels, then exit.")
    ] = False,
) -> None:
    """Serve a model over gRPC until stopped; SIGTERM drains.

    This process becomes the server, so that signals reach it and nothing of the command line stays in memory.
    """
    arguments = [sys.executable, "-m", "tapeline_serving", model]
    for name, value in (("--host", host), ("--port", port), ("--metrics-port", metrics_port)):
        if value is not None:
            arguments += [name, str(value)]
    if prepare:
        arguments.append("--prepare")
    sys.stdout.flush()
    os.execv(sys.executable, arguments)  # noqa: S606


def predict(
    symbols: Annotated[list[str], typer.Argument(help="Symbols, such as AAPL MSFT.")],
    bar: Annotated[
        list[str] | None,
        typer.Option(
            help="A newest session bar as JSON, oldest first: "
            '{"symbol": "AAPL", "event": "2013-03-01T21:00:00+00:00", "open": …, "high": …, "low": …, "close": …, '
            '"volume": …}. A name beginning with @ is a file of such bars, one a line.'
        ),
    ] = None,
    target: Annotated[str | None, typer.Option(help="host:port of the server.")] = None,
    features: Annotated[bool, typer.Option("--features", help="Show what the model saw.")] = False,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds to wait for an answer.")] = 5.0,
    as_json: JsonOption = False,
) -> None:
    """Ask the inference server for predictions."""
    from tapeline_client import Client, ClientError

    settings = get_settings()
    target = target or f"{settings.serve_host}:{settings.serve_port}"
    live_bars: dict[str, list[Bar]] = {}
    for symbol, item in map(_read_bar, _bar_texts(bar or [])):
        live_bars.setdefault(symbol, []).append(item)
    try:
        with Client(target, timeout_s=timeout) as client:
            answers = client.predict(symbols, live_bars=live_bars, include_features=features)
    except ClientError as error:
        raise _as_tapeline_error(error, target) from None
    except ValueError as error:
        raise ParameterError(str(error)) from None
    emit(
        [_answer_json(answer) if as_json else _answer_row(answer) for answer in answers],
        as_json=as_json,
        title=f"{answers[0].model}@{answers[0].version} at {format_us(answers[0].request_us)}",
    )
    unknown = [answer.symbol for answer in answers if answer.status.name == "NO_FEATURES"]
    if unknown:
        notices.print(
            f"The stores hold nothing of {', '.join(unknown)}: check the spelling with tapeline instruments list, or "
            "materialize the view.",
            markup=False,
            highlight=False,
        )
    if features and not as_json:
        names = list(answers[0].features or {})
        emit(
            [{"feature": name} | {a.symbol: (a.features or {})[name] for a in answers} for name in names],
            as_json=False,
            title="features",
        )


def _bar_texts(options: list[str]) -> list[tuple[str, str]]:
    """Each bar's text with its place."""
    texts = []
    for number, option in enumerate(options):
        if not option.startswith("@"):
            texts.append((f"--bar {number + 1}", option))
            continue
        path = Path(option[1:])
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise ParameterError(f"the file of bars cannot be read: {error.strerror}", where=str(path)) from None
        texts += [(f"{path}, line {place}", line) for place, line in enumerate(lines, 1) if line.strip()]
    return texts


def _read_bar(placed: tuple[str, str]) -> tuple[str, Bar]:
    from tapeline_client import Bar

    where, text = placed
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")  # noqa: TRY004
        symbol = content.pop("symbol")
        for name in ("start", "event", "available"):
            if name in content:
                content[f"{name}_us"] = to_us(content.pop(name), where=where)
        return symbol, Bar.from_mapping(content)
    except KeyError:
        raise InvalidDataError("a bar has no symbol", where=where, remedy='Add "symbol": "…"') from None
    except ValueError as error:
        raise InvalidDataError(
            f"a bar cannot be read: {error}",
            where=where,
            remedy='Write {"symbol": …, "event": …, "open": …, "high": …, "low": …, "close": …, "volume": …}',
        ) from None


def _answer_row(answer: Prediction) -> dict[str, Any]:
    causes: dict[str, int] = {}
    for status in answer.issues.values():
        causes[status.name] = causes.get(status.name, 0) + 1
    return {
        "symbol": answer.symbol,
        "status": answer.status.name + (" (partial)" if answer.partial else ""),
        **{name: answer.outputs.get(name) for name in sorted(answer.outputs)},
        "views": [
            f"{use.view}@{use.version} {use.origin.name}"
            + ("" if use.event_us is None else f" {format_us(use.event_us)}")
            for use in answer.views
        ],
        "issues": [f"{count} {name}" for name, count in causes.items()] or None,
    }


def _answer_json(answer: Prediction) -> dict[str, Any]:
    def moment(moment_us: int | None) -> str | None:
        return None if moment_us is None else format_us(moment_us)

    return {
        "symbol": answer.symbol,
        "status": answer.status.name,
        "outputs": answer.outputs,
        "partial": answer.partial,
        "views": [
            {
                "view": use.view,
                "version": use.version,
                "origin": use.origin.name,
                "event": moment(use.event_us),
                "available": moment(use.available_us),
                "sequence": use.sequence,
                "staleness_us": use.staleness_us,
                "partial": use.partial,
            }
            for use in answer.views
        ],
        "issues": {feature: status.name for feature, status in answer.issues.items()},
        "features": answer.features,
        "model": answer.model,
        "version": answer.version,
        "bundle_sha256": answer.bundle_sha256,
        "request_id": answer.request_id,
        "request": format_us(answer.request_us),
    }


def _as_tapeline_error(error: ClientError, target: str) -> TapelineError:
    """The same in the command's own classes, which have its exit codes."""
    import tapeline_client as client

    if isinstance(error, client.UnavailableError):
        return UnavailableError(str(error), where=target, remedy="Start a server with: tapeline serve MODEL")
    if isinstance(error, client.DeadlineError):
        return UnavailableError(str(error), remedy="Ask again with a longer --timeout")
    where = f"server {target}"
    if isinstance(error, client.LimitError):
        return LimitError(str(error), where=where)
    if isinstance(error, client.ContinuityError):
        return ContinuityError(str(error), where=where)
    if isinstance(error, client.ServerError):
        return TapelineError(str(error), where=where, remedy="See the server's log")
    return InvalidDataError(str(error), where=where)
