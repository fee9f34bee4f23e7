"""What every command shares: consoles, progress, JSON output, and errors as messages with an exit code."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from tapeline.core.errors import TapelineError
from tapeline.core.timestamps import moment_or_day

console = Console()
"""Results: standard output."""
notices = Console(stderr=True)
"""Progress, warnings and errors: standard error, so that output can be piped."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def names_in(text: str) -> list[str]:
    """The names in a list such as ``AAPL, MSFT``."""
    return [name.strip() for name in text.split(",") if name.strip()]


def span_us(start: str | None, end: str | None) -> tuple[int | None, int | None]:
    """First and last moment of ``--start`` and ``--end``, microseconds UTC; none where one was not given.

    Raises
    ------
    ParameterError, NaiveTimestampError
        If one is neither a moment with its zone nor a day.
    """
    first = None if start is None else moment_or_day(start, "--start", last=False)
    last = None if end is None else moment_or_day(end, "--end", last=True)
    return first, last


def emit(data: Any, *, as_json: bool, title: str | None = None, empty: str = "There is nothing to show.") -> None:
    """Print a result: JSON for scripts, else a table.

    Texts are printed as they are; a cell that is to have a style is a :class:`rich.text.Text`. Where standard output is
    no terminal, nothing is wrapped, so that it can be searched.

    Parameters
    ----------
    data
        A mapping (printed as two columns), or a sequence of mappings (a row each).
    as_json
        Whether to print JSON. NaN and infinities, which it does not have, become null.
    title
        Heading of the table.
    empty
        What to say on standard error of a sequence without rows.
    """
    if as_json:
        text = json.dumps(finite(data), indent=2, default=_plain, ensure_ascii=False, allow_nan=False)
        sys.stdout.write(text + "\n")
        return
    if not data:
        notices.print(empty, markup=False, highlight=False)
        return
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.show_edge = False
    if isinstance(data, Mapping):
        table.show_header = False
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for key, value in data.items():
            table.add_row(Text(str(key)), _cell(value))
    else:
        for column in dict.fromkeys(key for row in data for key in row):
            numeric = all(isinstance(row.get(column), int | float | None) for row in data)
            table.add_column(Text(str(column)), overflow="fold", justify="right" if numeric else "left")
        for row in data:
            table.add_row(*(_cell(row.get(str(column.header))) for column in table.columns))
    target = console if console.is_terminal else Console(width=max(console.width, _natural_width(table)))
    target.print(table)


def _natural_width(table: Table) -> int:
    return Measurement.get(console, console.options.update(width=10_000), table).maximum


def _cell(value: Any) -> Text:
    return value if isinstance(value, Text) else Text(_text(value))


def _text(value: Any) -> str:
    if value is None or (isinstance(value, Mapping | list | tuple) and not value):
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    return str(_plain(value))


def _plain(value: Any) -> Any:
    """What JSON has no form for: moments as ISO 8601, the rest as text."""
    return value.isoformat() if isinstance(value, date) else str(value)


def finite(value: Any) -> Any:
    """The same with NaN and infinities as ``None``: JSON has no such numbers."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def report_error(error: TapelineError) -> None:
    """Print an error on standard error: its class, what was wrong, where, and what to do."""
    message = Text.assemble(("error: ", "bold red"), f"{type(error).__name__}: {error}")
    notices.print(message, highlight=False, soft_wrap=not notices.is_terminal)


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


class _RowsColumn(TextColumn):
    """Rows so far, of how many, and how many a second."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        total = f" of {task.total:,.0f}" if task.total is not None else ""
        speed = f", {task.speed:,.0f} rows/s" if task.speed else ""
        return Text(f"{task.completed:,.0f}{total} rows{speed}" if task.completed or total else "")


@contextmanager
def row_progress(description: str) -> Iterator[Callable[[str, int, int | None], None]]:
    """Show on standard error how many rows of which stage are done, how fast, and how long the rest takes.

    Yields a callable ``show(stage, done, total)``. Nothing is drawn where standard error is no terminal.
    """
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        _RowsColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=notices,
        transient=True,
        disable=not notices.is_terminal,
    ) as bar:
        stages = {"": bar.add_task(description, total=None)}

        def show(stage: str, done: int, total: int | None) -> None:
            if stage not in stages:
                for task in stages.values():
                    bar.remove_task(task)
                stages.clear()
                stages[stage] = bar.add_task(f"{description}: {stage}", total=total)
            bar.update(stages[stage], completed=done, total=total)

        yield show
