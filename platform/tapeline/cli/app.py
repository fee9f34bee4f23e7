"""What every command shares: consoles, progress, JSON output, and errors as messages with an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

console = Console()
"""Results: standard output."""
notices = Console(stderr=True)
"""Progress, warnings and errors: standard error, so that output can be piped."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def emit(data: Any, *, as_json: bool, title: str | None = None) -> None:
    """Print a result: JSON for scripts, else a table.

    Parameters
    ----------
    data
        A mapping (printed as two columns), or a sequence of mappings (a row each).
    as_json
        Whether to print JSON.
    title
        Heading of the table.
    """
    if as_json:
        sys.stdout.write(json.dumps(data, indent=2, default=str, ensure_ascii=False) + "\n")
        return
    if isinstance(data, Mapping):
        table = Table(title=title, show_header=False, title_justify="left")
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for key, value in data.items():
            table.add_row(str(key), _cell(value))
    elif isinstance(data, Sequence) and not isinstance(data, str | bytes):
        table = Table(title=title, title_justify="left")
        columns = list(dict.fromkeys(key for row in data for key in row))
        for column in columns:
            table.add_column(str(column), overflow="fold")
        for row in data:
            table.add_row(*(_cell(row.get(column)) for column in columns))
    else:
        console.print(data)
        return
    console.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_cell(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value)
    return str(value)


@contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Any]:
    """Show progress on standard error while the block runs.

    Yields a callable ``advance(n=1)``. Nothing is drawn where standard error is no terminal.
    """
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=notices,
        transient=True,
        disable=not notices.is_terminal,
    ) as bar:
        task = bar.add_task(description, total=total)

        def advance(count: int = 1) -> None:
            bar.advance(task, count)

        yield advance
