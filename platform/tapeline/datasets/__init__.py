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
    from tapeline.datasets.entities import generate_entities, read_entities
    from tapeline.datasets.exporting import export
    from tapeline.datasets.fingerprint import Fingerprint
    from tapeline.datasets.inputs import Generated
    from tapeline.datasets.labels import LabelSpec
    from tapeline.datasets.manifest import DatasetManifest, read_manifest
    from tapeline.datasets.plan import RetrievalPlan, ViewSelection
    from tapeline.datasets.point_in_time import as_of_join
    from tapeline.datasets.rebuilding import Rebuilt, rebuild
    from tapeline.datasets.vintage import as_of, safe_horizon

_HOMES = {
    "DatasetManifest": "manifest",
    "Fingerprint": "fingerprint",
    "Generated": "inputs",
    "LabelSpec": "labels",
    "Rebuilt": "rebuilding",
    "RetrievalPlan": "plan",
    "ViewSelection": "plan",
    "as_of": "vintage",
    "as_of_join": "point_in_time",
    "export": "exporting",
    "generate_entities": "entities",
    "read_entities": "entities",
    "read_manifest": "manifest",
    "rebuild": "rebuilding",
    "safe_horizon": "vintage",
}

__all__ = [
    "DatasetManifest",
    "Fingerprint",
    "Generated",
    "LabelSpec",
    "Rebuilt",
    "RetrievalPlan",
    "ViewSelection",
    "as_of",
    "as_of_join",
    "export",
    "generate_entities",
    "read_entities",
    "read_manifest",
    "rebuild",
    "safe_horizon",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
