"""Feast's own path for requests with on-demand views: its transformations, over rows read in one round trip."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from feast import utils
from feast.feature_service import FeatureService
from feast.infra.registry.base_registry import BaseRegistry
from feast.metrics import track_feature_statuses
from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
from feast.repo_config import RepoConfig

from tapeline.feast_ext.online_plan import RequestPlan, ViewPlan, projected_name
from tapeline.feast_ext.online_response import ViewResult, add_version_metadata
from tapeline.feast_ext.packing import entity_part
from tapeline.storage.packed import Found

if TYPE_CHECKING:
    from tapeline.feast_ext.online_clients import Clients


class FeastPath(ABC):
    """The two hooks through which Feast's ``get_online_features`` reads rows."""

    _clients: Clients
    _views: ContextVar[Mapping[str, Any]] = ContextVar("views of the request", default={})  # noqa: B039  never changed

    @contextmanager
    def _reading(self, plan: RequestPlan) -> Iterator[None]:
        """Let Feast's path read each view in the version that the request's plan found, rather than resolve it again."""
        token = self._views.set({projected_name(view.view): view.view for view in plan.views})
        try:
            yield
        finally:
            self._views.reset(token)

    @abstractmethod
    def _view_plan(self, config: RepoConfig, table: Any, features: Sequence[str] | None) -> ViewPlan:
        """What to read for some of a view's features, or for all."""

    @abstractmethod
    def _result(self, config: RepoConfig, plan: ViewPlan, found: Found) -> ViewResult:
        """The packed values of a view's rows, decoded and judged by the clock."""

    def _read_features_per_fv(self, config: RepoConfig, grouped_refs: Any, *arguments: Any) -> None:
        reads, keys = self._reads(config, grouped_refs, *arguments[:2])
        self._fill(config, reads, self._clients.mget(config.online_store, keys), *arguments[2:])

    async def _read_features_per_fv_async(self, config: RepoConfig, grouped_refs: Any, *arguments: Any) -> None:
        reads, keys = self._reads(config, grouped_refs, *arguments[:2])
        self._fill(config, reads, await self._clients.mget_async(config.online_store, keys), *arguments[2:])

    def _reads(
        self, config: RepoConfig, grouped_refs: Any, join_key_values: Any, join_key_of_entity: Any
    ) -> tuple[list[tuple[ViewPlan, list[int]]], list[bytes]]:
        """For each view its plan and, for each output row, the place of its key among all keys."""
        reads = []
        keys: list[bytes] = []
        for resolved, requested in grouped_refs:
            table = self._views.get().get(projected_name(resolved), resolved)
            plan = self._view_plan(config, table, requested)
            entities, indexes, rows = utils._get_unique_entities(  # noqa: SLF001
                table, join_key_values, join_key_of_entity
            )
            places = [0] * rows
            for key, destinations in zip(utils._get_entity_key_protos(entities), indexes, strict=True):  # noqa: SLF001
                for row in destinations:
                    places[row] = len(keys)
                keys.append(plan.prefix + entity_part(key))
            reads.append((plan, places))
        return reads, keys

    def _fill(
        self,
        config: RepoConfig,
        reads: list[tuple[ViewPlan, list[int]]],
        found: Found,
        response: GetOnlineFeaturesResponse,
        full_feature_names: bool,
        version_metadata: bool,
    ) -> None:
        for plan, places in reads:
            result = self._result(config, plan, found.at(places))
            called = projected_name(plan.view)
            response.metadata.feature_names.val.extend(
                f"{called}__{feature}" if full_feature_names else feature for feature in plan.features
            )
            response.results.extend(result.vector(position) for position in range(len(plan.features)))
            usable = int(result.usable.sum())
            count = len(plan.features)
            track_feature_statuses(plan.view.name, usable * count, (len(places) - usable) * count)
        if version_metadata:
            add_version_metadata(response, [plan.view for plan, _ in reads])


def in_requested_order(
    response: OnlineResponse,
    registry: BaseRegistry,
    project: str,
    features: list[str] | FeatureService,
    full_feature_names: bool,
) -> OnlineResponse:
    """A response with each column once, in the order in which the features were asked for, after the join keys."""
    references = utils._get_features(registry, project, features, allow_cache=True)  # noqa: SLF001
    wanted: dict[str, int] = {}
    for reference in references:
        view, version, feature = utils._parse_feature_ref(reference)  # noqa: SLF001
        called = view if version is None else f"{view}@v{version}"
        wanted.setdefault(f"{called}__{feature}" if full_feature_names else feature, len(wanted))
    names = list(response.proto.metadata.feature_names.val)
    # A view that is asked for with its version, and read by an on-demand view without, has given its features twice.
    first = {name: place for place, name in reversed(list(enumerate(names)))}
    order = sorted(first.values(), key=lambda place: (names[place] in wanted, wanted.get(names[place], place)))
    if order != list(range(len(names))):
        results = [response.proto.results[place] for place in order]
        ordered = GetOnlineFeaturesResponse(metadata=response.proto.metadata, results=results)
        ordered.metadata.feature_names.val[:] = [names[place] for place in order]
        response.proto = ordered
    return response
