"""The ``tapeline`` command. Each module here registers the commands of one job."""

from __future__ import annotations

import importlib
import sys

import typer

from tapeline import __version__
from tapeline.cli.app import report_error
from tapeline.cli.faults import as_tapeline_error

COMMAND_MODULES = (
    "servers", "ingest", "quarantine", "features", "backfill", "store", "export", "leakcheck", "versions", "lineage",
    "rows", "vintage", "quality", "train", "serve", "demo", "backup", "online", "stream", "live", "top", "verify",
)  # fmt: skip


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
    """Run the command; an error that a user can act on becomes its message on standard error and its exit code."""
    try:
        build_app()()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        told = as_tapeline_error(error)
        if told is None:
            raise
        report_error(told)
        sys.exit(told.exit_code)
