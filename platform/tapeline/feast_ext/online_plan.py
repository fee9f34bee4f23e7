"""What one ``get_online_features`` request needs, worked out once: keys, layouts, TTLs, names and order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from feast import utils
from feast.feature_service import FeatureService
from feast.feature_view import DUMMY_ENTITY_ID, FeatureView
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.registry.base_registry import BaseRegistry
from feast.value_type import ValueType
from numpy.typing import NDArray

from tapeline.feast_ext.packing import entity_parts, layout_of, single_entities
from tapeline.feast_ext.promoted import promoted_view
from tapeline.feast_ext.selection import VERSION_TAG, follows_promotion, require_features, ttl_us
from tapeline.storage.keys import entity_key_of_parts, view_prefix
from tapeline.storage.packed import FLOAT_KINDS, Layout


@dataclass(frozen=True)
class ViewPlan:
    """One feature view of a request.

    ``features`` are the requested features, ``names`` what the response calls them, ``columns`` where they lie in the
    layout. ``key_columns`` are the columns of the entity rows that make the key, in the order of the join keys' names.
    """

    view: FeatureView
    layout: Layout
    prefix: bytes
    ttl_us: int
    features: tuple[str, ...]
    names: tuple[str, ...]
    columns: tuple[int, ...]
    key_columns: tuple[str, ...]

    @cached_property
    def float_slots(self) -> NDArray[np.intp] | None:
        """Slots of the requested features if all are floats, so that they can be read in one piece; else none."""
        kinds = {self.layout.columns[column].kind for column in self.columns}
        if not kinds or not kinds <= FLOAT_KINDS:
            return None
        return np.array([self.layout.slots.index(column) for column in self.columns], dtype=np.intp)


@dataclass(frozen=True)
class RequestPlan:
    """A whole request.

    ``order`` lists (view, feature within the view) as the caller listed the features. ``plain`` is false where the
    request needs what only Feast's own path does: on-demand views, precomputed vectors, views without an entity.
    ``promoted`` are the versions by which views without one were resolved; none if there were no such views.
    """

    views: tuple[ViewPlan, ...]
    order: tuple[tuple[int, int], ...]
    join_keys: frozenset[str]
    key_types: Mapping[str, ValueType]
    needed: frozenset[str]
    feature_types: dict[str, ValueType]
    plain: bool
    promoted: Mapping[str, int] | None

    def keys(self, columns: Mapping[str, Sequence[Any]]) -> list[bytes]:
        """The keys to fetch, view by view, entities in request order."""
        made: dict[tuple[str, ...], list[bytes]] = {}
        keys: list[bytes] = []
        for view in self.views:
            names = view.key_columns
            if names not in made:
                made[names] = self._entities(names, columns)
            prefix = view.prefix
            keys += [prefix + entity for entity in made[names]]
        return keys

    def _entities(self, names: tuple[str, ...], columns: Mapping[str, Sequence[Any]]) -> list[bytes]:
        """The entity parts of keys made of some columns."""
        if len(names) == 1:
            return single_entities(columns[names[0]], self.key_types[names[0]])
        parts = [entity_parts(columns[name], self.key_types[name]) for name in names]
        return [entity_key_of_parts(values) for values in zip(*parts, strict=True)]


def view_version(view: Any, *, versioning: bool) -> int:
    """Which version of a view a table object stands for: as referenced, else as Tapeline tagged it, else the registry's.

    Without the tag and without Feast's online versioning there is one set of values per view, version 0, as in Feast's
    own stores.
    """
    tag = getattr(view.projection, "version_tag", None)
    if tag is None:
        tag = (view.tags or {}).get(VERSION_TAG)
    if tag is None and versioning:
        tag = getattr(view, "current_version_number", None)
    return 0 if tag is None else int(str(tag).removeprefix("v"))


def plan_view(
    view: Any, features: Sequence[str], *, project: str, versioning: bool, full_feature_names: bool = False
) -> ViewPlan:
    """The plan of one view. Its layout holds all of the view's stored features, whatever a projection selects."""
    require_features(view, features)
    layout = stored_layout(view, versioning=versioning)
    called = projected_name(view)
    keys = sorted(entity.name for entity in view.entity_columns)
    aliases = view.projection.join_key_map
    return ViewPlan(
        view=view,
        layout=layout,
        prefix=view_prefix(project, layout.view, layout.version),
        ttl_us=ttl_us(getattr(view, "ttl", None)),
        features=tuple(features),
        names=tuple(f"{called}__{feature}" if full_feature_names else feature for feature in features),
        columns=tuple(layout.index[feature] for feature in features),
        key_columns=tuple(aliases.get(key, key) for key in keys),
    )


def projected_name(view: Any) -> str:
    """What a request calls a view: its alias or name, with the version if one was asked for."""
    return str(view.projection.name_to_use())


def stored_layout(view: Any, *, versioning: bool) -> Layout:
    """The layout of a view's stored values."""
    return layout_of(view, view_version(view, versioning=versioning))


def plan_request(
    registry: BaseRegistry,
    project: str,
    features: list[str] | FeatureService,
    *,
    versioning: bool,
    full_feature_names: bool,
    promoted_versions: Callable[[], Mapping[str, int]],
) -> RequestPlan:
    """Resolve a request against the registry; Feast's own resolution decides and raises.

    Parameters
    ----------
    promoted_versions
        Asked once, and only if a view of Tapeline's is named without a version.

    Raises
    ------
    VersionStateError, UnknownNameError
        If a view's promoted version was never applied, or has no such feature.
    """
    (
        references,
        on_demand_views,
        _,
        key_types,
        join_keys,
        grouped,
        _,
        request_data,
        entityless,
    ) = utils._get_cached_request_context(registry, project, features, full_feature_names)  # noqa: SLF001
    promoted = promoted_versions() if any(follows_promotion(view) for view, _ in grouped) else None
    if promoted is not None:
        grouped = [(promoted_view(view, promoted, registry, project), requested) for view, requested in grouped]
    views = tuple(
        plan_view(view, requested, project=project, versioning=versioning, full_feature_names=full_feature_names)
        for view, requested in grouped
    )
    place = {
        (projected_name(view.view), feature): (number, position)
        for number, view in enumerate(views)
        for position, feature in enumerate(view.features)
    }
    order = []
    for reference in references:
        name, version, feature = utils._parse_feature_ref(reference)  # noqa: SLF001
        where = place.get((name if version is None else f"{name}@v{version}", feature))
        if where is not None:
            order.append(where)
    needed = frozenset(column for view in views for column in view.key_columns)
    plain = not (
        on_demand_views
        or request_data
        or entityless
        or getattr(features, "precompute_online", False)
        or DUMMY_ENTITY_ID in needed
        or len(order) != sum(len(view.features) for view in views)
        or any(not view.key_columns for view in views)
    )
    return RequestPlan(
        views=views,
        order=tuple(order),
        join_keys=frozenset(join_keys),
        key_types=defaultdict(lambda: ValueType.UNKNOWN, key_types),
        needed=needed,
        feature_types=OnlineStore._build_feature_types(grouped),  # noqa: SLF001
        plain=plain,
        promoted=promoted,
    )
