"""Runs feature plans over history: the back-fill with its corrections and state snapshots, and session times.

:func:`backfill` fills a view's table. It is loaded at first use, so that :mod:`tapeline.compute.sessions` alone needs
neither Arrow nor a database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tapeline.compute.run import BackfillReport, backfill

__all__ = ["BackfillReport", "backfill"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from tapeline.compute import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
