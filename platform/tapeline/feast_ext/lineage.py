"""A Feast repository's feature services for the lineage graph: plans as plain data, on-demand views included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from feast import FeatureStore, utils
from feast.on_demand_feature_view import OnDemandFeatureView

from tapeline.core.hashing import sha256_json
from tapeline.feast_ext.promoted import database_of, promoted_views
from tapeline.feast_ext.resolve import opened_store, plan_of_views
from tapeline.feast_ext.selection import view_version
from tapeline.lineage import OnDemandView


def service_plans(store: FeatureStore | str | Path) -> list[tuple[dict[str, Any], list[OnDemandView]]]:
    """All feature services that have been applied, by name: each one's plan, and the views that Feast computes for it.

    Raises
    ------
    ConfigurationError
        If the folder is no Feast repository, or a view's source is one of another offline store.
    """
    store = opened_store(store)
    found = []
    for service in sorted(store.list_feature_services(), key=lambda service: service.name):
        views, on_demand = utils._get_feature_views_to_use(store.registry, store.project, service)  # noqa: SLF001
        computed = {view.name: view for view in on_demand}
        # Feast brings the views along that on-demand ones read; the service itself may not name them.
        named = {projection.name for projection in service.feature_view_projections}
        views = [view for view in views if view.name in named]
        held = promoted_views(views, store.registry, store.project, lambda: database_of(store.config))
        plan = plan_of_views(service.name, views, held)
        found.append((plan.to_dict(), [_on_demand(store, computed[name]) for name in sorted(computed)]))
    return found


def _on_demand(store: FeatureStore, view: OnDemandFeatureView) -> OnDemandView:
    inputs = []
    for projection in view.source_feature_view_projections.values():
        source = store.get_feature_view(projection.name).with_projection(projection)
        place = f"{projection.name}@{view_version(source)}"
        inputs += [f"{place}:{feature.name}" for feature in projection.features]
    columns = [
        f"{source.name}.{field.name}" for source in view.source_request_sources.values() for field in source.schema
    ]
    return OnDemandView(
        name=view.name,
        version=view_version(view),
        source_hash=sha256_json(str(getattr(view.feature_transformation, "udf_string", ""))),
        inputs=tuple(inputs),
        request_columns=tuple(columns),
        features=tuple(feature.name for feature in view.projection.features),
    )
