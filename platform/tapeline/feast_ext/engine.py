"""Materialization from Arrow to packed values, with all four times of each row.

Feast's local engine turns every cell into a message and hands an online store the event and created time only. This one
is told of in ``feature_store.yaml`` by::

    batch_engine:
      type: tapeline.feast_ext.engine.PackedComputeEngine

and takes plain feature views from a ``TimescaleSource`` to a ``PackedRedisOnlineStore`` by itself (see ``materialize``):
the newest row of each entity, with its sequence and available time, rows that arrived late included. Of a Tapeline view it brings every version that is not retired, so that
each can be read and a rollback finds its values. Anything else (transformations, aggregations, other stores) it leaves to
the local engine, whose subclass it is.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from feast import FeatureView
from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.local.compute import LocalComputeEngine
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel

from tapeline.core.errors import ParameterError
from tapeline.core.settings import get_settings
from tapeline.feast_ext.materialize import Materializer, is_plain
from tapeline.feast_ext.offline_store import TimescaleOfflineStoreConfig
from tapeline.feast_ext.online_store import PackedRedisOnlineStore
from tapeline.feast_ext.promoted import database_of, live_versions
from tapeline.feast_ext.selection import VERSION_TAG, view_version
from tapeline.feast_ext.source import TimescaleSource
from tapeline.lineage.openlineage import JobDatasets, job_run, materialize_datasets
from tapeline.storage.postgres import connect


class PackedComputeEngineConfig(FeastConfigBaseModel):
    """Settings of the engine: those of Feast's local engine."""

    type: Literal["tapeline.feast_ext.engine.PackedComputeEngine"] = "tapeline.feast_ext.engine.PackedComputeEngine"

    backend: str | None = None
    """As of the local engine, for what is left to it."""


class PackedComputeEngine(LocalComputeEngine):
    """See the module."""

    def __init__(self, backend: str | None = None, **kwargs: Any) -> None:
        kwargs.pop("type", None)
        super().__init__(backend, **kwargs)

    def _materialize_one(
        self, registry: BaseRegistry, task: MaterializationTask, **kwargs: Any
    ) -> LocalMaterializationJob:
        view = task.feature_view
        if not self._is_plain(view):
            return super()._materialize_one(registry, task, **kwargs)
        job_id = f"{view.name}-{task.start_time}-{task.end_time}"
        try:
            for version in self._versions(view, registry, task.project):
                with job_run(f"materialize.{version.name}@{view_version(version)}") as told:
                    self._materialize(version, task)
                    told.describe(partial(self._read_and_written, version))
        except Exception as error:  # noqa: BLE001  Feast raises it from the job
            return LocalMaterializationJob(job_id=job_id, status=MaterializationJobStatus.ERROR, error=error)
        return LocalMaterializationJob(job_id=job_id, status=MaterializationJobStatus.SUCCEEDED)

    def _read_and_written(self, view: FeatureView) -> JobDatasets:
        assert isinstance(view.batch_source, TimescaleSource)
        with connect() as connection:
            table = view.batch_source.get_table_query_string()
            return materialize_datasets(connection, get_settings(), view.name, view_version(view), table)

    def _is_plain(self, view: Any) -> bool:
        return (
            is_plain(view)
            and isinstance(self.online_store, PackedRedisOnlineStore)
            and isinstance(self.repo_config.offline_store, TimescaleOfflineStoreConfig)
        )

    def _versions(self, view: FeatureView, registry: BaseRegistry, project: str) -> list[FeatureView]:
        if VERSION_TAG not in (view.tags or {}):
            return [view]
        with database_of(self.repo_config) as connection:
            return live_versions(view, registry, project, connection)

    def _materialize(self, view: FeatureView, task: MaterializationTask) -> None:
        store = self.online_store
        if task.start_time > task.end_time:
            # The first incremental run begins a TTL before the machine's clock. Over history that lies after its end,
            # and a run that did nothing would still count as done up to that end.
            raise ParameterError(
                f"it would run backwards, from {task.start_time.isoformat()} to {task.end_time.isoformat()}",
                where=f"materialization of {view.name}",
                remedy="Say where the first run begins: feast materialize START END; incremental ones then continue it",
            )
        assert isinstance(store, PackedRedisOnlineStore)
        # How many entities there will be is not known before they are read: it shows how many, and how fast.
        bar = task.tqdm_builder(None) if task.tqdm_builder is not None else None  # type: ignore[arg-type]
        try:
            if bar is not None:
                bar.set_description(f"{view.name}@{view_version(view)}")
            materializer = Materializer(self.repo_config, store)
            materializer.materialize(view, task.start_time, task.end_time, show=bar.update if bar is not None else None)
        finally:
            if bar is not None:
                bar.close()
