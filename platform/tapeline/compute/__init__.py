"""Runs feature plans over history: the back-fill with its corrections and state snapshots, and session times.

`backfill` fills a view's table, `backfill_plan` says what is missing. They are loaded at first use, so that :mod:`tapeline.compute.sessions` alone needs
neither Arrow nor a database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tapeline.compute.planning import MissingRows, backfill_plan
    from tapeline.compute.run import BackfillReport, backfill

__all__ = ["BackfillReport", "MissingRows", "backfill", "backfill_plan"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from tapeline.compute import planning, run

        return getattr(planning if hasattr(planning, name) else run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
