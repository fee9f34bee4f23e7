"""Feast plug-ins, named by class path in any ``feature_store.yaml``; nothing else of Tapeline imports Feast.

``TimescaleOfflineStore`` with its source ``TimescaleSource`` and ``SavedDatasetTimescaleStorage``, and
``PackedRedisOnlineStore``; ``rebuild_online`` fills the latter from the former; ``adhoc_source`` makes a source of a namespace of ad-hoc features.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tapeline.feast_ext.command import tell_errors_in_a_line

if TYPE_CHECKING:
    from tapeline.feast_ext.adhoc import adhoc_source as adhoc_source
    from tapeline.feast_ext.offline_store import TimescaleOfflineStore as TimescaleOfflineStore
    from tapeline.feast_ext.offline_store import TimescaleOfflineStoreConfig as TimescaleOfflineStoreConfig
    from tapeline.feast_ext.online_store import PackedRedisOnlineStore as PackedRedisOnlineStore
    from tapeline.feast_ext.online_store import PackedRedisOnlineStoreConfig as PackedRedisOnlineStoreConfig
    from tapeline.feast_ext.rebuild import rebuild_online as rebuild_online
    from tapeline.feast_ext.resolve import retrieval_plan as retrieval_plan
    from tapeline.feast_ext.saved_dataset import SavedDatasetTimescaleStorage as SavedDatasetTimescaleStorage
    from tapeline.feast_ext.saved_dataset import TimescaleLoggingDestination as TimescaleLoggingDestination
    from tapeline.feast_ext.source import TimescaleSource as TimescaleSource

_HOMES = {
    "PackedRedisOnlineStore": "online_store",
    "PackedRedisOnlineStoreConfig": "online_store",
    "SavedDatasetTimescaleStorage": "saved_dataset",
    "TimescaleLoggingDestination": "saved_dataset",
    "TimescaleOfflineStore": "offline_store",
    "TimescaleOfflineStoreConfig": "offline_store",
    "TimescaleSource": "source",
    "adhoc_source": "adhoc",
    "rebuild_online": "rebuild",
    "retrieval_plan": "resolve",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605


tell_errors_in_a_line()


def __getattr__(name: str) -> Any:
    """Import a plug-in when it is first named, so that one store does not load the other's libraries."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
