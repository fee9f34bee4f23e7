"""A Feast feature service as a plain plan, so that the rooms below need no Feast."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from feast import FeatureService, FeatureStore, FeatureView, utils

from tapeline.core.errors import ConfigurationError, ParameterError, UnknownNameError
from tapeline.datasets.plan import RetrievalPlan
from tapeline.feast_ext.promoted import database_of, promoted_views
from tapeline.feast_ext.selection import select_view


def retrieval_plan(store: FeatureStore | str | Path, service_name: str) -> RetrievalPlan:
    """Resolve a feature service: tables, keys, columns, TTLs and versions of its views.

    Parameters
    ----------
    store
        A feature store, or the folder of a Feast repository.
    service_name
        A feature service that has been applied.

    Returns
    -------
    RetrievalPlan
        The views in the service's order, those without a version in their promoted one. Features of two views that
        share a name are both called ``view__feature``.

    Raises
    ------
    UnknownNameError
        If there is no such service; the message names the nearest.
    ConfigurationError
        If the folder is no Feast repository, or a view's source is one of another offline store.
    ParameterError
        If the service uses an on-demand view, which only Feast computes.
    """
    store = opened_store(store)
    service = find_service(store, service_name)
    views, on_demand = utils._get_feature_views_to_use(store.registry, store.project, service)  # noqa: SLF001
    if on_demand:
        raise ParameterError(
            f"on-demand views are computed by Feast alone: {', '.join(view.name for view in on_demand)}",
            where=f"feature service {service_name}",
            remedy="Use a service without them, or Feast's own get_historical_features",
        )
    held = promoted_views(views, store.registry, store.project, lambda: database_of(store.config))
    return plan_of_views(service_name, views, held)


def opened_store(store: FeatureStore | str | Path) -> FeatureStore:
    """A feature store, or that of the folder of a Feast repository.

    Raises
    ------
    ConfigurationError
        If the folder is no Feast repository.
    """
    if isinstance(store, FeatureStore):
        return store
    if not (Path(store) / "feature_store.yaml").is_file():
        raise ConfigurationError(
            "there is no Feast repository", where=str(store), remedy="Name the folder of a feature_store.yaml"
        )
    return FeatureStore(repo_path=str(store))


def find_service(store: FeatureStore, name: str) -> FeatureService:
    """A feature service that has been applied.

    Raises
    ------
    UnknownNameError
        If there is no such service; the message names the nearest.
    """
    services = {service.name: service for service in store.list_feature_services()}
    if name not in services:
        raise UnknownNameError("feature service", name, services, where=f"project {store.project}")
    return services[name]


def plan_of_views(service_name: str, views: Sequence[FeatureView], held: Sequence[FeatureView]) -> RetrievalPlan:
    """The plan of views with their projections, which `held` stand for in their versions; see :func:`retrieval_plan`."""
    counts: dict[str, int] = {}
    for view in views:
        for feature in view.projection.features:
            counts[feature.name] = counts.get(feature.name, 0) + 1
    selections = []
    for view, holding in zip(views, held, strict=True):
        names = [feature.name for feature in view.projection.features]
        called = [f"{view.projection.name_to_use()}__{name}" if counts[name] > 1 else name for name in names]  # type: ignore[no-untyped-call]
        selections.append(select_view(holding, names, called))
    return RetrievalPlan(service_name, tuple(selections))
