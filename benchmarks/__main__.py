"""Run all benchmarks, or those named (by module or by group), and print one table."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import warnings
from types import ModuleType

from rich.console import Console
from rich.table import Table

import benchmarks
from benchmarks.harness import Result, write

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


def row(result: Result) -> tuple[str, ...]:
    """A result as cells."""
    low, high = result.spread
    theirs = "–" if result.theirs is None else f"{result.theirs:.4g} {result.unit}"
    ratio = "–" if result.ratio is None else f"{result.ratio:.1f}×"
    return (
        result.question, f"{result.ours:.4g} {result.unit}", result.peer or "–", theirs, ratio,
        f"{low:.3g}–{high:.3g}", result.goal, "[green]yes[/]" if result.met else "[red]no[/]",
    )  # fmt: skip


def main(names: list[str]) -> int:
    """Run and print; 2 for an unknown name, else 0: a missed goal is a result, not a failure."""
    console = Console()
    warnings.simplefilter("ignore")
    available = modules()
    chosen = {n: m for n, m in available.items() if not names or {n, *groups_of(m)} & set(names)}
    if not chosen:
        groups = sorted({group for module in available.values() for group in groups_of(module)})
        console.print(f"no benchmark {' '.join(names)!r}; names: {', '.join(available)}; groups: {', '.join(groups)}")
        return 2
    table = Table(
        title="Benchmarks (medians; spread: 10th–90th percentile of the ratio, or of ours)", title_justify="left"
    )
    for heading in ("question", "ours", "peer", "theirs", "ratio", "spread", "goal", "met"):
        table.add_column(heading, overflow="fold")
    everything: list[Result] = []
    for name, module in chosen.items():
        console.print(f"[dim]{name} …[/]")
        results = []
        for result in module.run():
            results.append(result)
            console.print(f"[dim]  {'; '.join(row(result)[:6])}[/]", highlight=False)
        write(name, results, PACKAGES)
        everything += results
        for result in results:
            table.add_row(*row(result))
    console.print(table)
    for result in everything:
        if not result.met:
            cause = result.cause or "its cause has not been looked for"
            console.print(f"missed: {result.question}: {cause}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
