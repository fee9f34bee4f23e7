"""Run all benchmarks, or those named (by module or by group), and print one table."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import warnings
from types import ModuleType

from rich.console import Console
from rich.table import Table

import benchmarks
from benchmarks.harness import Result, read, write

PACKAGES = (
    "numpy",
    "numba",
    "feast",
    "polars",
    "pyarrow",
    "psycopg",
    "redis",
    "onnxruntime",
    "grpcio",
    "TA-Lib",
    "pandas-ta-classic",
    "lightgbm",
)
NOT_QUESTIONS = {"__main__", "harness"}
TITLE = "Benchmarks (medians; spread: 10th–90th percentile of the ratio, or of ours)"
HEADINGS = ("question", "ours", "theirs", "ratio, spread", "goal")
ANSWER = "--answer"
"""Before the name of a benchmark that is to run in this very process."""


def modules() -> dict[str, ModuleType]:
    """Every benchmark by name."""
    found = {}
    for info in pkgutil.iter_modules(benchmarks.__path__):
        if info.name in NOT_QUESTIONS or info.ispkg:
            continue
        module = importlib.import_module(f"benchmarks.{info.name}")
        if hasattr(module, "run"):
            found[info.name] = module
    return found


def groups_of(module: ModuleType) -> tuple[str, ...]:
    """The groups that a benchmark belongs to."""
    group = getattr(module, "GROUP", ())
    return (group,) if isinstance(group, str) else tuple(group)


def cells(result: Result) -> tuple[str, ...]:
    """A result as cells of the table."""
    low, high = result.spread
    theirs = "–" if result.theirs is None else f"{result.theirs:.4g} {result.unit}, {result.peer}"
    ratio = "" if result.ratio is None else f"{result.ratio:.3g}×\n"
    goal = f"{result.goal}\n{'[green]met[/]' if result.met else '[red]missed[/]'}"
    return result.question, f"{result.ours:.4g} {result.unit}", theirs, f"{ratio}{low:.3g}–{high:.3g}", goal


def line(result: Result) -> str:
    """A result in one line, told as soon as it is there."""
    return ", ".join(cell.replace("\n", ", ") for cell in cells(result)[:4])


def main(names: list[str]) -> int:
    """Run and print; 2 for an unknown name, 1 where one failed, else 0: a missed goal is a result, not a failure."""
    warnings.simplefilter("ignore")
    if names[:1] == [ANSWER]:
        answer(names[1])
        return 0
    console = Console()
    available = modules()
    chosen = {n: m for n, m in available.items() if not names or {n, *groups_of(m)} & set(names)}
    if not chosen:
        groups = sorted({group for module in available.values() for group in groups_of(module)})
        console.print(f"no benchmark {' '.join(names)!r}; names: {', '.join(available)}; groups: {', '.join(groups)}")
        return 2
    table = Table(title=TITLE, title_justify="left", show_lines=True)
    for heading in HEADINGS:
        # Only words wrap: a number in two lines is none.
        table.add_column(heading, no_wrap=heading not in ("question", "theirs"), overflow="fold")
    everything: list[Result] = []
    failed: list[str] = []
    for name in chosen:
        console.print(f"[dim]{name} …[/]")
        # In a process of its own: what one leaves in memory is not to slow the next, or count as its.
        if subprocess.run([sys.executable, "-m", "benchmarks", ANSWER, name], check=False).returncode:
            failed.append(name)
            continue
        results = read(name)
        everything += results
        for result in results:
            table.add_row(*cells(result))
    console.print(table)
    for result in everything:
        if not result.met:
            cause = result.cause or "its cause has not been looked for"
            console.print(f"missed: {result.question}: {cause}", highlight=False)
    if failed:
        console.print(f"[red]failed, no answer: {', '.join(failed)}[/]", highlight=False)
    return 1 if failed else 0


def answer(name: str) -> None:
    """Run one benchmark in this process and write what it gives."""
    console = Console()
    results = []
    for result in importlib.import_module(f"benchmarks.{name}").run():
        results.append(result)
        console.print(f"[dim]  {line(result)}[/]", highlight=False)
    write(name, results, PACKAGES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
