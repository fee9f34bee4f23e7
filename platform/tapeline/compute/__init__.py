"""Runs feature plans over history: the back-fill with its corrections and state snapshots, and session times.

`backfill` fills a view's table, `backfill_on_ray` does so on the cluster that `ray_cluster` connects to, `backfill_plan` says what is
missing, `publish` writes the newest states to Redis. They are loaded at first use, so that :mod:`tapeline.compute.sessions` alone
needs neither Arrow nor a database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tapeline.compute.cluster import ray_cluster
    from tapeline.compute.distributed import backfill_on_ray
    from tapeline.compute.planning import MissingRows, backfill_plan
    from tapeline.compute.run import BackfillReport, backfill, publish

_HOMES = {
    "BackfillReport": "run",
    "MissingRows": "planning",
    "backfill": "run",
    "backfill_on_ray": "distributed",
    "backfill_plan": "planning",
    "publish": "run",
    "ray_cluster": "cluster",
}
__all__ = ["BackfillReport", "MissingRows", "backfill", "backfill_on_ray", "backfill_plan", "publish", "ray_cluster"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"tapeline.compute.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
