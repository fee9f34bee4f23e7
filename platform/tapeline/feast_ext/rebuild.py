"""Fills an online store from the offline one: after a flush, a lost server, or a change of its keys."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from feast import FeatureStore, FeatureView

from tapeline.core.errors import ConfigurationError, UnknownNameError
from tapeline.core.timestamps import from_us
from tapeline.feast_ext.materialize import Materializer, is_plain
from tapeline.feast_ext.offline_store import TimescaleOfflineStoreConfig
from tapeline.feast_ext.online_plan import view_version
from tapeline.feast_ext.online_store import PackedRedisOnlineStore
from tapeline.feast_ext.promoted import database_of, live_versions
from tapeline.feast_ext.resolve import opened_store
from tapeline.feast_ext.selection import VERSION_TAG
from tapeline.storage.online import delete_untagged

_FIRST = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Rebuilt:
    """One view version.

    Attributes
    ----------
    entities
        Whose newest rows were read; none where Feast's own engine materialized the view, which does not tell.
    values
        How many ranked above what the store held.
    """

    view: str
    version: int
    entities: int | None
    values: int | None
    seconds: float


def rebuild_online(
    store: FeatureStore | str | Path,
    views: Sequence[str] | None = None,
    *,
    show: Callable[[str, int], Any] | None = None,
) -> Iterator[Rebuilt]:
    """Bring every entity's newest row, in every version that is not retired, of the views of a repository.

    What is in the store stays where it ranks above; keys of an older form are removed at the end. The end of the range is
    now by the store's clock, or the end of the latest materialization if that is later.

    Parameters
    ----------
    store
        A feature store, or the folder of a Feast repository.
    views
        Names; none: all views that are served online.
    show
        Told a view's ``name@version`` and how many of its entities have been written.

    Yields
    ------
    Rebuilt
        Once a view version is done.

    Raises
    ------
    ConfigurationError
        If the repository has other stores than Tapeline's.
    UnknownNameError
        If there is no such view.
    UnavailableError
        If one of the servers is away. Asked again, it starts anew; nothing is lost or doubled by that.
    """
    store = opened_store(store)
    online = store._get_provider().online_store  # noqa: SLF001
    if not isinstance(online, PackedRedisOnlineStore):
        raise ConfigurationError(
            "its online store is another one",
            where="online_store of feature_store.yaml",
            remedy="Only tapeline.feast_ext.PackedRedisOnlineStore can be rebuilt",
        )
    known = {view.name: view for view in store.list_feature_views() if view.online}
    for name in views or ():
        if name not in known:
            raise UnknownNameError("feature view that is served online", name, known)
    now = from_us(online.clock(store.config).now_us())
    for view in (known[name] for name in views or sorted(known)):
        end = max([now, *(last for _, last in view.materialization_intervals)])
        yield from _rebuilt(store, online, view, end, show)
    if views is None:
        delete_untagged(online.client(store.config), store.project)


def _rebuilt(
    store: FeatureStore,
    online: PackedRedisOnlineStore,
    view: FeatureView,
    end: datetime,
    show: Callable[[str, int], Any] | None,
) -> Iterator[Rebuilt]:
    versioning = bool(store.config.registry.enable_online_feature_view_versioning)
    if not (is_plain(view) and isinstance(store.config.offline_store, TimescaleOfflineStoreConfig)):
        began = time.perf_counter()
        store.materialize(_FIRST, end, feature_views=[view.name])
        yield Rebuilt(view.name, view_version(view, versioning=versioning), None, None, time.perf_counter() - began)
        return
    versions = [view]
    if VERSION_TAG in (view.tags or {}):
        with database_of(store.config) as connection:
            versions = live_versions(view, store.registry, store.project, connection)
    materializer = Materializer(store.config, online)
    for version in versions:
        began = time.perf_counter()
        number = view_version(version, versioning=versioning)
        label = f"{view.name}@{number}"
        told = None if show is None else (lambda count, label=label: show(label, count))
        written = materializer.materialize(version, None, end, show=told)
        yield Rebuilt(view.name, number, written.entities, written.values, time.perf_counter() - began)
