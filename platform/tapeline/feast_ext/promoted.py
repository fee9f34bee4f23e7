"""Which version a reference without one means: the promoted one, whatever was applied last.

Feast resolves ``view:feature`` to the definition that ``feast apply`` found last, and ``view@v2:feature`` to that version
of its history. Views of Tapeline (they carry ``VERSION_TAG``) that are asked for without a version are exchanged here for
the promoted version of that history; all else is left as Feast resolved it. Feast checks the names of features before
that, against the definition applied last: a feature that only another version has is asked for with its version.
"""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from feast.errors import FeatureViewVersionNotFound
from feast.feature_view import FeatureView
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import RepoConfig

from tapeline.core.errors import UnavailableError, VersionStateError
from tapeline.feast_ext.selection import VERSION_TAG, follows_promotion, tagged_version
from tapeline.storage.postgres import connect
from tapeline.storage.view_versions import promoted_versions, registered_states

logger = logging.getLogger("tapeline.feast")

REFRESH_SECONDS = 0.25
"""Promotions are visible to online reads after at most this long."""
RETRY_SECONDS = 5.0
"""How long the versions known last are kept before a database that was away is asked again."""


def promoted_view(view: Any, promoted: Mapping[str, int], registry: BaseRegistry, project: str) -> Any:
    """The view itself, or its promoted version where it was asked for without one; called alike in results.

    Raises
    ------
    VersionStateError
        If the registry has never seen the promoted version.
    """
    if not follows_promotion(view):
        return view
    version = promoted.get(view.name)
    if version is None or version == tagged_version(view):
        return view
    try:
        other = registry.get_feature_view_by_version(view.name, project, version)
    except FeatureViewVersionNotFound:
        raise VersionStateError(
            f"version {version} of {view.name} is promoted, but was never applied to this registry",
            where=f"project {project}",
            remedy=f"Promote the applied one: tapeline versions promote {view.name}@{tagged_version(view)}",
        ) from None
    projection = copy.copy(other.projection)
    projection.name_alias = view.projection.name_alias
    projection.join_key_map = view.projection.join_key_map
    other.projection = projection
    return other


def promoted_views(
    views: Sequence[FeatureView],
    registry: BaseRegistry,
    project: str,
    open_connection: Callable[[], psycopg.Connection[Any]],
) -> list[FeatureView]:
    """``promoted_view`` of each; the database is asked only where a view needs it."""
    if not any(follows_promotion(view) for view in views):
        return list(views)
    with open_connection() as connection:
        promoted = promoted_versions(connection)
    return [promoted_view(view, promoted, registry, project) for view in views]


def database_of(config: RepoConfig) -> psycopg.Connection[Any]:
    """Open the database of a repository's feature tables: its offline store's, else that of Tapeline's settings."""
    from tapeline.feast_ext.offline_store import TimescaleOfflineStoreConfig  # it imports this module

    settings = config.offline_store
    return settings.connect() if isinstance(settings, TimescaleOfflineStoreConfig) else connect()


def live_versions(
    view: FeatureView, registry: BaseRegistry, project: str, connection: psycopg.Connection[Any]
) -> list[FeatureView]:
    """The definitions of a Tapeline view that are to be materialized: it, and its other versions that are not retired.

    So a promotion or a rollback finds its values online, and a model of another version goes on being served. A version
    that was never applied to this registry is passed over.
    """
    given = tagged_version(view)
    retired = {s.version: s.retired for s in registered_states(connection) if s.view == view.name}
    found = [] if retired.get(given) else [view]
    for version in sorted(version for version in retired if version != given and not retired[version]):
        try:
            other = registry.get_feature_view_by_version(view.name, project, version)
        except FeatureViewVersionNotFound:
            continue
        if isinstance(other, FeatureView) and VERSION_TAG in (other.tags or {}):
            found.append(other)
    return found


@dataclass
class PromotedVersions:
    """The promoted versions for readers that cannot ask the database each time. Safe to share between threads.

    While the database is away, what was known last holds: nobody can promote meanwhile.
    """

    _known: dict[str, int] | None = None
    _due: float = 0.0
    _connection: psycopg.Connection[Any] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_fresh(self) -> bool:
        """Whether `current` answers without asking the database."""
        return self._known is not None and time.monotonic() < self._due

    def current(self, config: RepoConfig) -> dict[str, int]:
        """The promoted version of each view, at most ``REFRESH_SECONDS`` old. One dictionary until something changes.

        Parameters
        ----------
        config
            The repository, always the same.

        Raises
        ------
        UnavailableError
            If the database is away and was never reached.
        """
        known = self._known
        if known is not None and time.monotonic() < self._due:
            return known
        with self._lock:
            if self._known is not None and time.monotonic() < self._due:
                return self._known
            try:
                read = self._read(config)
            except (UnavailableError, psycopg.Error) as error:
                self._close()
                if self._known is None:
                    raise
                logger.warning("promotions cannot be read, those known last hold: %s", error)
                self._due = time.monotonic() + RETRY_SECONDS
                return self._known
            if read != self._known:
                self._known = read
            self._due = time.monotonic() + REFRESH_SECONDS
            assert self._known is not None
            return self._known

    def _read(self, config: RepoConfig) -> dict[str, int]:
        if self._connection is not None:
            try:
                return promoted_versions(self._connection)
            except psycopg.OperationalError:  # the server was started again: its old connections are gone
                self._close()
        self._connection = database_of(config)
        return promoted_versions(self._connection)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
