"""A Feast feature service with its on-demand views, as a plain plan and plain functions: what the leak check needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from feast import FeatureStore, utils
from feast.on_demand_feature_view import OnDemandFeatureView

from tapeline.datasets.plan import RetrievalPlan
from tapeline.feast_ext.promoted import database_of, promoted_views
from tapeline.feast_ext.resolve import find_service, opened_store
from tapeline.feast_ext.selection import select_views


@dataclass(frozen=True)
class OnDemandFunction:
    """An on-demand view.

    Attributes
    ----------
    name
        Of the view.
    outputs
        Its features.
    request
        Columns that come with a request.
    compute
        From a table with the plan's features and the request's columns to one with the outputs.
    """

    name: str
    outputs: tuple[str, ...]
    request: tuple[str, ...]
    compute: Callable[[pa.Table], pa.Table]


def whole_service(
    store: FeatureStore | str | Path, service_name: str
) -> tuple[RetrievalPlan, tuple[OnDemandFunction, ...]]:
    """Resolve a feature service, on-demand views and what they read included.

    Views without a version are in their promoted one, as an export reads them. Features keep their own names unless two
    views share one; then all are called ``view__feature``.

    Raises
    ------
    UnknownNameError
        If there is no such service.
    ConfigurationError
        If the folder is no Feast repository, or a view's source is one of another offline store.
    VersionStateError
        If a view's promoted version was never applied.
    """
    store = opened_store(store)
    service = find_service(store, service_name)
    references = utils._get_features(store.registry, store.project, service)  # noqa: SLF001
    views, on_demand = utils._get_feature_views_to_use(store.registry, store.project, service)  # noqa: SLF001
    names = [reference.rpartition(":")[2] for reference in references]
    full = len(set(names)) < len(names)
    views = promoted_views(views, store.registry, store.project, lambda: database_of(store.config))
    selections = select_views(references, views, store.registry, store.project, full_feature_names=full)
    functions = tuple(_function(view, full_feature_names=full) for view in on_demand)
    return RetrievalPlan(service_name, selections), functions


def _function(view: OnDemandFeatureView, *, full_feature_names: bool) -> OnDemandFunction:
    def compute(table: pa.Table) -> pa.Table:
        return view.transform_arrow(table, full_feature_names)

    prefix = f"{view.projection.name_to_use()}__" if full_feature_names else ""  # type: ignore[no-untyped-call]
    return OnDemandFunction(
        view.name,
        tuple(f"{prefix}{feature.name}" for feature in view.features),
        tuple(sorted(name for source in view.source_request_sources.values() for name in _fields(source))),
        compute,
    )


def _fields(source: object) -> list[str]:
    return [field.name for field in source.schema]  # type: ignore[attr-defined]
