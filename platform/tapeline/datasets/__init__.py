"""Training data: point-in-time join, labels with their end times, export, fingerprint, rebuild.

>>> from tapeline.datasets import Generated, export, rebuild           # doctest: +SKIP
>>> manifest = export(connection, plan, Generated(("AAPL",)), Path("data"), labels="direction:5d")   # doctest: +SKIP
>>> rebuild(connection, Path("data")).require_same()                    # doctest: +SKIP

Names are looked up when they are first used, so that reading a plan does not import polars and pyarrow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tapeline.datasets.entity_inputs import Generated, Query, VisibleMoments
    from tapeline.datasets.exporting import export
    from tapeline.datasets.fingerprint import Fingerprint
    from tapeline.datasets.labels import LabelSpec
    from tapeline.datasets.manifest import DatasetManifest, read_manifest
    from tapeline.datasets.plan import RetrievalPlan, ViewSelection
    from tapeline.datasets.planning import explain
    from tapeline.datasets.point_in_time import as_of_join
    from tapeline.datasets.production import Progress
    from tapeline.datasets.reading import read_data, read_tables
    from tapeline.datasets.rebuilding import Rebuilt, rebuild
    from tapeline.datasets.vintage import as_of, safe_horizon

_HOMES = {
    "DatasetManifest": "manifest",
    "Fingerprint": "fingerprint",
    "Generated": "entity_inputs",
    "LabelSpec": "labels",
    "Progress": "production",
    "Query": "entity_inputs",
    "Rebuilt": "rebuilding",
    "RetrievalPlan": "plan",
    "ViewSelection": "plan",
    "VisibleMoments": "entity_inputs",
    "as_of": "vintage",
    "as_of_join": "point_in_time",
    "explain": "planning",
    "export": "exporting",
    "read_data": "reading",
    "read_manifest": "manifest",
    "read_tables": "reading",
    "rebuild": "rebuilding",
    "safe_horizon": "vintage",
}

__all__ = [
    "DatasetManifest",
    "Fingerprint",
    "Generated",
    "LabelSpec",
    "Progress",
    "Query",
    "Rebuilt",
    "RetrievalPlan",
    "ViewSelection",
    "VisibleMoments",
    "as_of",
    "as_of_join",
    "explain",
    "export",
    "read_data",
    "read_manifest",
    "read_tables",
    "rebuild",
    "safe_horizon",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
