"""Feast's online store over packed values in Redis or Valkey.

Name it in any ``feature_store.yaml``::

    online_store:
      type: tapeline.feast_ext.PackedRedisOnlineStore
      connection_string: redis://localhost:6379/0    # left out: as Tapeline's settings say

What differs from Feast's own Redis store, on purpose:

- A request for any number of views and entities is one ``MGET``.
- TTLs hold at read time, by the injected clock: older values are none and ``OUTSIDE_MAX_AGE``. A row that is not
  available yet is ``NOT_FOUND``, and on a replayed clock so is one whose event lies after that moment.
- A missing entity is ``NOT_FOUND`` and a null ``NULL_VALUE``, where Feast's store says ``PRESENT`` for both.
- Columns of a response come in the order in which they were asked for.
- Composite join keys cannot collide, and an older row never replaces a newer one, whichever arrives last. Of two rows
  with one event time the one recorded later stays, so corrections arrive.
- A view of Tapeline's that is asked for without a version is read in its promoted one, whatever was applied last.
- A write replaces a whole row; a feature that it leaves out is null afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa
from feast import Entity, FeatureView
from feast import metrics as feast_metrics
from feast.feature_service import FeatureService
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.registry.base_registry import BaseRegistry
from feast.infra.supported_async_methods import SupportedAsyncMethods
from feast.online_response import OnlineResponse
from feast.protos.feast.types.EntityKey_pb2 import EntityKey as EntityKeyProto
from feast.protos.feast.types.Value_pb2 import Value as ValueProto
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from pydantic import Field, model_validator
from redis import Redis

from tapeline.core.clock import Clock, LiveClock, ReplayClock, clock_from
from tapeline.core.settings import get_settings
from tapeline.core.timestamps import SECOND_US, from_us
from tapeline.feast_ext.arrow_rows import SourceColumns, pack_table
from tapeline.feast_ext.online_clients import Clients
from tapeline.feast_ext.online_fallback import FeastPath, in_requested_order
from tapeline.feast_ext.online_plan import RequestPlan, plan_request, plan_view, stored_layout
from tapeline.feast_ext.online_response import PackedOnlineResponse, ViewResult
from tapeline.feast_ext.online_rows import in_present_layout, pack_batch
from tapeline.feast_ext.packing import entity_part
from tapeline.feast_ext.promoted import PromotedVersions
from tapeline.feast_ext.registry import register
from tapeline.feast_ext.selection import ttl_us
from tapeline.storage.online import (
    delete_layouts,
    delete_view,
    publish_layout,
    publish_layout_async,
    write_many,
    write_many_async,
)
from tapeline.storage.packed import Found

_PLANS_MAX = 256

register()  # Feast imports its stores before it opens its registry

Row = tuple[EntityKeyProto, dict[str, ValueProto], datetime, datetime | None]
EntityRows = list[dict[str, Any]] | Mapping[str, Any]


class PackedRedisOnlineStoreConfig(FeastConfigBaseModel):
    """Settings of the store, as they stand in ``feature_store.yaml``."""

    type: Literal[
        "tapeline.feast_ext.PackedRedisOnlineStore", "tapeline.feast_ext.online_store.PackedRedisOnlineStore"
    ] = "tapeline.feast_ext.PackedRedisOnlineStore"

    connection_string: str | None = None
    """``redis://…``, ``rediss://…``, ``unix://…``, ``redis+sentinel://…``, ``redis+cluster://…`` (see
    ``storage.redis_address``) or Feast's ``host:port,db=0``; none: as Tapeline's settings say."""

    redis_type: Literal["redis", "redis_cluster", "redis_sentinel"] = "redis"
    """What a connection string in Feast's form leads to; a URL says so itself."""

    sentinel_master: str = "mymaster"
    """Name of the group that the sentinels watch, for a connection string in Feast's form."""

    key_ttl_seconds: int | None = Field(default=None, ge=0)
    """Let keys of views with a TTL expire this long after a value's event and its writing, but never before the TTL has
    passed since both; none: keys stay. A TTL that is made longer holds for values that are written after that."""

    clock: str | None = None
    """``live``, or an ISO 8601 moment at which to replay history; none: as Tapeline's settings say."""

    @model_validator(mode="after")
    def _check_expiry(self) -> PackedRedisOnlineStoreConfig:
        if self.key_ttl_seconds is not None and isinstance(self.make_clock(), ReplayClock):
            raise ValueError("keys expire by the server's clock: on a replayed one they would be gone too early")
        return self

    def make_clock(self) -> Clock:
        """A new clock of the kind that is set here, else in Tapeline's settings."""
        return clock_from(self.clock) if self.clock is not None else get_settings().make_clock()

    def keep_us(self, table: Any) -> int | None:
        """How long keys of a view are kept; none: for ever."""
        ttl = ttl_us(getattr(table, "ttl", None))
        if self.key_ttl_seconds is None or not ttl:
            return None
        return max(self.key_ttl_seconds * SECOND_US, ttl)


class PackedRedisOnlineStore(FeastPath, OnlineStore):
    """See the module. Safe to share between threads; each event loop gets a connection pool of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._clients = Clients()
        self._plans: dict[tuple[Any, ...], tuple[Any, Any, RequestPlan]] = {}
        self._clock: tuple[str | None, Clock] | None = None
        self._promoted = PromotedVersions()
        self._follows_promotions = False

    @property
    def async_supported(self) -> SupportedAsyncMethods:
        """Reading and writing."""
        return SupportedAsyncMethods(read=True, write=True)

    def clock(self, config: RepoConfig) -> Clock:
        """The clock by which TTLs are judged. A replay clock may be moved."""
        asked = config.online_store.clock
        if self._clock is None or self._clock[0] != asked:
            self._clock = asked, config.online_store.make_clock()
        return self._clock[1]

    # Writing

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows, each only if it ranks above what its entity has; see ``online_rows.pack_batch`` for the rank.

        Raises
        ------
        InvalidDataError
            If a value is of another type than its feature.
        UnavailableError
            If the server cannot be reached.
        """
        layout = stored_layout(table, versioning=_versioning(config))
        items = pack_batch(config.project, table, layout, data, recorded_us=LiveClock().now_us())
        if items:
            client = self._clients.get(config.online_store)
            publish_layout(client, config.project, layout)
            write_many(client, items, keep_us=config.online_store.keep_us(table))
        if progress:
            progress(len(data))

    async def online_write_batch_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """``online_write_batch`` without blocking the event loop."""
        layout = stored_layout(table, versioning=_versioning(config))
        items = pack_batch(config.project, table, layout, data, recorded_us=LiveClock().now_us())
        if items:
            client = self._clients.get_async(config.online_store)
            await publish_layout_async(client, config.project, layout)
            await write_many_async(client, items, keep_us=config.online_store.keep_us(table))
        if progress:
            progress(len(data))

    def client(self, config: RepoConfig) -> Redis:
        """The client for threads."""
        return self._clients.get(config.online_store)

    def pack_table(
        self, config: RepoConfig, table: FeatureView, rows: pa.Table, columns: SourceColumns
    ) -> list[tuple[bytes, bytes]]:
        """Keys and packed values of an Arrow table of a view's rows with all their times."""
        layout = stored_layout(table, versioning=_versioning(config))
        return pack_table(config.project, table, layout, rows, columns, recorded_us=LiveClock().now_us())

    def write_packed(self, config: RepoConfig, table: FeatureView, items: list[tuple[bytes, bytes]]) -> int:
        """Write what ``pack_table`` gave, each only if it ranks above what its entity has; returns how many were written.

        Raises
        ------
        UnavailableError
            If the server cannot be reached.
        """
        client = self.client(config)
        publish_layout(client, config.project, stored_layout(table, versioning=_versioning(config)))
        return write_many(client, items, keep_us=config.online_store.keep_us(table))

    # Reading

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKeyProto],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, ValueProto] | None]]:
        """Event time and features of each entity; no features where the row is missing or past the view's TTL."""
        plan = self._view_plan(config, table, requested_features)
        found = self._clients.mget(config.online_store, [plan.prefix + entity_part(key) for key in entity_keys])
        return _rows_of(self._result(config, plan, found))

    async def online_read_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKeyProto],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, ValueProto] | None]]:
        """``online_read`` without blocking the event loop."""
        plan = self._view_plan(config, table, requested_features)
        keys = [plan.prefix + entity_part(key) for key in entity_keys]
        return _rows_of(self._result(config, plan, await self._clients.mget_async(config.online_store, keys)))

    def get_online_features(
        self,
        config: RepoConfig,
        features: list[str] | FeatureService,
        entity_rows: EntityRows,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """The latest values of features for entities: what ``FeatureStore.get_online_features`` calls.

        Raises
        ------
        IntegrityError
            If a stored value is damaged or of a layout that nobody published.
        UnavailableError
            If the server cannot be reached.
        VersionStateError, UnknownNameError
            If a view without a version is asked for, and its promoted one was never applied or lacks a feature.
        """
        plan = self._plan(config, features, registry, project, full_feature_names)
        columns = _plain_columns(plan, entity_rows)
        if columns is None:
            with self._reading(plan):
                response = super().get_online_features(
                    config,
                    features,
                    entity_rows,
                    registry,
                    project,
                    full_feature_names,
                    include_feature_view_version_metadata,
                )
            return in_requested_order(response, registry, project, features, full_feature_names)
        found = self._clients.mget(config.online_store, plan.keys(columns))
        return self._response(config, plan, columns, found, include_feature_view_version_metadata)

    async def get_online_features_async(
        self,
        config: RepoConfig,
        features: list[str] | FeatureService,
        entity_rows: EntityRows,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """``get_online_features`` without blocking the event loop."""
        if self._follows_promotions and not self._promoted.is_fresh:
            await asyncio.to_thread(self._promoted.current, config)
        plan = self._plan(config, features, registry, project, full_feature_names)
        columns = _plain_columns(plan, entity_rows)
        if columns is None:
            with self._reading(plan):
                response = await super().get_online_features_async(
                    config,
                    features,
                    entity_rows,
                    registry,
                    project,
                    full_feature_names,
                    include_feature_view_version_metadata,
                )
            return in_requested_order(response, registry, project, features, full_feature_names)
        found = await self._clients.mget_async(config.online_store, plan.keys(columns))
        return self._response(config, plan, columns, found, include_feature_view_version_metadata)

    # Infrastructure

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],  # noqa: ARG002
        entities_to_delete: Sequence[Entity],  # noqa: ARG002
        entities_to_keep: Sequence[Entity],  # noqa: ARG002
        partial: bool,  # noqa: ARG002
    ) -> None:
        """Delete the values of views that are gone, in all their versions. Views that stay need nothing."""
        for table in tables_to_delete:
            delete_view(self._clients.get(config.online_store), config.project, table.name)

    def teardown(
        self,
        config: RepoConfig,
        tables: Sequence[FeatureView],
        entities: Sequence[Entity],  # noqa: ARG002
    ) -> None:
        """Delete the values of these views and the layouts of the project; nothing of another project's or program's."""
        client = self._clients.get(config.online_store)
        for table in tables:
            delete_view(client, config.project, table.name)
        delete_layouts(client, config.project)

    async def close(self) -> None:
        """Close this event loop's connections."""
        await self._clients.close_async()

    # Inside

    def _is_versioned_read_supported(self) -> bool:
        return True

    def _view_plan(self, config: RepoConfig, table: Any, features: Sequence[str] | None) -> Any:
        requested = features or [field.name for field in table.features]
        return plan_view(table, requested, project=config.project, versioning=_versioning(config))

    def _plan(
        self, config: RepoConfig, features: list[str] | FeatureService, registry: Any, project: str, full_names: bool
    ) -> RequestPlan:
        key = (features.name,) if isinstance(features, FeatureService) else tuple(features)
        cache_key = (isinstance(features, FeatureService), key, project, full_names)
        stamp = getattr(registry, "cached_registry_proto_created", None)
        known = self._plans.get(cache_key)
        if known is not None and known[0] is registry and known[1] is stamp and registry.is_cache_valid():
            plan = known[2]
            if plan.promoted is None or plan.promoted is self._promoted.current(config):
                return plan
        plan = plan_request(
            registry,
            project,
            features,
            versioning=_versioning(config),
            full_feature_names=full_names,
            promoted_versions=lambda: self._promoted.current(config),
        )
        self._follows_promotions = self._follows_promotions or plan.promoted is not None
        stamp = getattr(registry, "cached_registry_proto_created", None)
        if stamp is not None:
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            self._plans[cache_key] = registry, stamp, plan
        return plan

    def _result(self, config: RepoConfig, plan: Any, found: Found) -> ViewResult:
        clock = self.clock(config)
        rows = in_present_layout(lambda: self._clients.get(config.online_store), config.project, plan.layout, found)
        return ViewResult(plan, rows, clock.now_us(), isinstance(clock, ReplayClock))

    def _response(
        self,
        config: RepoConfig,
        plan: RequestPlan,
        columns: Mapping[str, Sequence[Any]],
        found: Found,
        version_metadata: bool,
    ) -> PackedOnlineResponse:
        if len(plan.views) == 1:
            results = [self._result(config, plan.views[0], found)]
        else:
            count = len(found.starts) // len(plan.views)
            results = [
                self._result(config, view, found.at(slice(number * count, (number + 1) * count)))
                for number, view in enumerate(plan.views)
            ]
        keys = {name: column for name, column in columns.items() if name in plan.join_keys}
        return PackedOnlineResponse(plan, keys, results, version_metadata=version_metadata)


def _versioning(config: RepoConfig) -> bool:
    return bool(config.registry.enable_online_feature_view_versioning)


def _plain_columns(plan: RequestPlan, entity_rows: EntityRows) -> dict[str, Sequence[Any]] | None:
    """Entity rows by column; none where the request needs Feast's own path, or its checks are to speak."""
    if not plan.plain or feast_metrics._config.online_features:  # noqa: SLF001  Feast's path counts hits and misses
        return None
    columns: dict[str, Sequence[Any]]
    if isinstance(entity_rows, list):
        if not entity_rows:
            return None
        names = entity_rows[0].keys()
        if set(map(len, entity_rows)) != {len(names)}:
            return None
        try:
            columns = {name: [row[name] for row in entity_rows] for name in names}
        except KeyError:
            return None
    else:
        columns = {name: list(column.val if hasattr(column, "val") else column) for name, column in entity_rows.items()}
        if len({len(column) for column in columns.values()}) != 1:
            return None
    return columns if plan.needed <= columns.keys() else None


def _rows_of(result: ViewResult) -> list[tuple[datetime | None, dict[str, ValueProto] | None]]:
    features = result.plan.features
    columns = [result.protos(position) for position in range(len(features))]
    rows: list[tuple[datetime | None, dict[str, ValueProto] | None]] = []
    for index, usable in enumerate(result.usable.tolist()):
        event = from_us(result.events_us[index]) if result.rows.found[index] else None
        rows.append((event, {f: c[index] for f, c in zip(features, columns, strict=True)} if usable else None))
    return rows
