"""Every benchmark can be started: a change of the code that it measures must not be noticed only by who measures."""

from __future__ import annotations

import pkgutil

import benchmarks
from benchmarks.__main__ import NOT_QUESTIONS, groups_of, modules


def test_every_benchmark_can_be_imported_and_has_a_group() -> None:
    files = {info.name for info in pkgutil.iter_modules(benchmarks.__path__) if not info.ispkg}
    found = modules()
    assert files - set(found) - NOT_QUESTIONS == {"market"}  # what the others share
    assert {name for name, module in found.items() if not groups_of(module)} == set()
