"""From Feast's feature views to plain selections: names, mappings, projections, versions resolved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from feast import utils
from feast.data_source import DataSource
from feast.feature_view import FeatureView
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import PostgreSQLSource
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.version_utils import parse_version

from tapeline.core.errors import ConfigurationError, ParameterError, UnknownNameError
from tapeline.core.timestamps import MICROSECOND
from tapeline.datasets.plan import ViewSelection
from tapeline.feast_ext.source import TimescaleSource

VERSION_TAG = "tapeline_version"
"""Tag of a feature view that tells which version of a Tapeline view it reads."""


def readable_source(source: DataSource | None, where: str) -> TimescaleSource:
    """The source as one that this store reads. Feast's own PostgreSQL sources are read as they stand.

    Raises
    ------
    ConfigurationError
        If it is a source of another store.
    """
    if isinstance(source, TimescaleSource):
        return source
    if isinstance(source, PostgreSQLSource):
        table = source.get_table_query_string()
        is_query = table.startswith("(")
        return TimescaleSource(
            name=source.name,
            table=None if is_query else table,
            query=table[1:-1] if is_query else None,
            timestamp_field=source.timestamp_field,
            created_timestamp_column=source.created_timestamp_column or None,
            field_mapping=source.field_mapping,
        )
    raise ConfigurationError(
        f"TimescaleOfflineStore cannot read a {type(source).__name__}",
        where=where,
        remedy="Use tapeline.feast_ext.TimescaleSource or Feast's PostgreSQLSource",
    )


def view_version(view: FeatureView | OnDemandFeatureView) -> int:
    """Which version of a view this is: as referenced, else as tagged or pinned, else the registry's number, else 1."""
    referenced = view.projection.version_tag
    if referenced is not None:
        return int(referenced)
    tag = (view.tags or {}).get(VERSION_TAG)
    if tag is not None:
        return _number(tag, view.name)
    is_latest, number = parse_version(view.version)
    if not is_latest:
        return number
    return 1 if view.current_version_number is None else int(view.current_version_number)


def follows_promotion(view: Any) -> bool:
    """Whether a view is one of Tapeline's and was asked for without a version."""
    return view.projection.version_tag is None and VERSION_TAG in (view.tags or {})


def tagged_version(view: Any) -> int:
    """The version that a view of Tapeline's is a definition of."""
    return _number(view.tags[VERSION_TAG], view.name)


def require_features(view: Any, names: Iterable[str]) -> None:
    """Refuse features that a view of Tapeline's, asked for without a version, does not have in the version that holds.

    Feast has looked for them in the version that was applied last.

    Raises
    ------
    UnknownNameError
        If one is missing.
    """
    if not follows_promotion(view):
        return
    known = {feature.name for feature in view.features}
    for name in names:
        if name not in known:
            where = f"{view.name}@v{tagged_version(view)}, the promoted version"
            raise UnknownNameError("feature", name, known, where=where)


def _number(tag: str, view: str) -> int:
    try:
        return int(tag.removeprefix("v"))
    except ValueError:
        raise ParameterError(
            f"tag {VERSION_TAG} is {tag!r}, not a number", where=f"feature view {view}", remedy="Write it like 2 or v2"
        ) from None


def ttl_us(ttl: timedelta | None) -> int:
    """A Feast TTL in microseconds; 0: none."""
    return ttl // MICROSECOND if ttl else 0


def select_views(
    feature_refs: Sequence[str],
    feature_views: Sequence[FeatureView],
    registry: BaseRegistry,
    project: str,
    *,
    full_feature_names: bool = False,
) -> tuple[ViewSelection, ...]:
    """The selections that give these features, in the order of the references.

    Parameters
    ----------
    feature_refs
        ``view:feature``, possibly ``view@v2:feature``. References to on-demand views are passed over: Feast computes
        those from the others.
    feature_views
        The views, with their projections.
    registry, project
        Where on-demand views are known.
    full_feature_names
        Whether a feature is called ``view__feature``.

    Raises
    ------
    ConfigurationError
        If a view's source is one of another store.
    """
    on_demand = utils._get_requested_on_demand_feature_views(list(feature_refs), project, registry)  # noqa: SLF001
    wanted, _ = utils._get_requested_feature_views_to_features_dict(  # noqa: SLF001
        list(feature_refs), list(feature_views), on_demand
    )
    # An on-demand view brings the views that it reads along, perhaps those that are asked for anyway: a service names a
    # pinned view with its version (view@v1), an on-demand view names its inputs without.
    taken: set[tuple[str, int, str]] = set()
    selections = []
    for view, names in wanted.items():
        called = str(view.projection.name_to_use())  # type: ignore[no-untyped-call]
        outputs: dict[str, str] = {}
        for name in names:
            output = f"{called}__{name}" if full_feature_names else name
            identity = view.projection.name_alias or view.name, view_version(view), output
            if identity not in taken:
                taken.add(identity)
                outputs[name] = output
        if outputs:
            selections.append(select_view(view, [*outputs], [*outputs.values()]))
    return tuple(selections)


def select_view(view: FeatureView, names: Sequence[str], output_names: Sequence[str]) -> ViewSelection:
    """The selection of some features of one view, and what they are to be called.

    Raises
    ------
    ConfigurationError
        If the view's source is one of another store.
    UnknownNameError
        If the version that holds has no such feature.
    """
    require_features(view, names)
    source = readable_source(view.batch_source, f"feature view {view.name}")
    column_of = source.column_of
    renamed = view.projection.join_key_map
    keys = [column.name for column in view.entity_columns]
    return ViewSelection(
        view=view.projection.name_alias or view.name,
        version=view_version(view),
        table=source.get_table_query_string(),
        entity_columns=tuple(renamed.get(key, key) for key in keys),
        join_keys=tuple(column_of.get(key, key) for key in keys),
        features=tuple(column_of.get(name, name) for name in names),
        output_names=tuple(output_names),
        ttl_us=ttl_us(view.ttl),
        event_column=column_of.get(source.timestamp_field, source.timestamp_field),
        available_column=_column(column_of, source.available_timestamp_column),
        created_column=_column(column_of, source.created_timestamp_column or None),
        sequence_column=_column(column_of, source.sequence_column),
    )


def _column(column_of: dict[str, str], name: str | None) -> str | None:
    return None if name is None else column_of.get(name, name)
