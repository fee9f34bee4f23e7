"""Recording: what was registered, put into the graph in the database in the caller's transaction.

Everything that is added in one call is added in one order, so that several registrations at once may wait for each other
but never in a circle; what is there already stays as it is, with the time at which it was first recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from tapeline.core.errors import TapelineError
from tapeline.core.hashing import sha256_json
from tapeline.features.view import FeatureViewSpec
from tapeline.lineage.consumers import (
    OnDemandView,
    dataset_graph,
    foreign_views_graph,
    model_graph,
    service_graph,
    source_graph,
)
from tapeline.lineage.graph import Graph
from tapeline.lineage.views import view_graph

Connection = psycopg.Connection[Any]

_NODES = """
    INSERT INTO tapeline.lineage_nodes (kind, name)
    SELECT * FROM unnest(%s::text[], %s::text[]) AS given (kind, name)
    WHERE NOT EXISTS (SELECT FROM tapeline.lineage_nodes n WHERE (n.kind, n.name) = (given.kind, given.name))
    ORDER BY kind, name ON CONFLICT DO NOTHING
"""
_DESCRIPTIONS = """
    INSERT INTO tapeline.lineage_descriptions (kind, name, attributes, attributes_sha256)
    SELECT * FROM unnest(%s::text[], %s::text[], %s::jsonb[], %s::text[]) AS given (kind, name, attributes, sha256)
    WHERE NOT EXISTS (SELECT FROM tapeline.lineage_descriptions d
                      WHERE (d.kind, d.name, d.attributes_sha256) = (given.kind, given.name, given.sha256))
    ORDER BY kind, name, sha256 ON CONFLICT DO NOTHING
"""
_EDGES = """
    INSERT INTO tapeline.lineage_edges (upstream_kind, upstream_name, downstream_kind, downstream_name, role)
    SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[]) AS given (a, b, c, d, role)
    WHERE NOT EXISTS (
        SELECT FROM tapeline.lineage_edges e
        WHERE (e.upstream_kind, e.upstream_name, e.downstream_kind, e.downstream_name, e.role)
            = (given.a, given.b, given.c, given.d, given.role))
    ORDER BY c, d, a, b, role ON CONFLICT DO NOTHING
"""
_UNRECORDED_VIEWS = """
    SELECT view, version, definition, plan_hash FROM tapeline.feature_view_versions v
    WHERE (%(places)s::text[] IS NULL OR view || '@' || version = ANY(%(places)s))
        AND NOT EXISTS (SELECT FROM tapeline.lineage_descriptions d
                        WHERE d.kind = 'view' AND d.name = v.view || '@' || v.version
                            AND d.attributes ->> 'plan_hash' = v.plan_hash)
    ORDER BY view, version
"""
_PREDECESSORS = """
    SELECT m.model || '@' || m.version FROM tapeline.models m
    WHERE m.model = %s AND m.bundle_sha256 = %s AND m.version <> %s ORDER BY 1
"""


@dataclass
class RecordReport:
    """What :func:`record_all` found and added.

    Attributes
    ----------
    sources, views, services, datasets, models
        How many were looked at.
    nodes_added, edges_added
        What was not recorded yet.
    left_out
        Views whose definition cannot be read here, such as one of a custom feature that is not installed, and why. Their
        features are recorded where something uses them, without what they come from.
    """

    sources: int = 0
    views: int = 0
    services: int = 0
    datasets: int = 0
    models: int = 0
    nodes_added: int = 0
    edges_added: int = 0
    left_out: list[str] = field(default_factory=list)


def record(connection: Connection, graph: Graph) -> tuple[int, int]:
    """Add what is not recorded yet, in the caller's transaction or else in one of its own.

    Returns
    -------
    tuple
        How many nodes and how many edges were new.
    """
    keys = sorted(graph.nodes)
    described = [(key, attributes, sha256_json(attributes)) for key in keys if (attributes := graph.nodes[key])]
    edges = sorted(graph.edges)
    with connection.transaction():
        nodes = connection.execute(_NODES, ([key.kind for key in keys], [key.name for key in keys])).rowcount
        connection.execute(
            _DESCRIPTIONS,
            (
                [key.kind for key, _, _ in described],
                [key.name for key, _, _ in described],
                [Jsonb(attributes) for _, attributes, _ in described],
                [sha256 for _, _, sha256 in described],
            ),
        )
        added = connection.execute(
            _EDGES,
            (
                [edge.upstream.kind for edge in edges],
                [edge.upstream.name for edge in edges],
                [edge.downstream.kind for edge in edges],
                [edge.downstream.name for edge in edges],
                [edge.role for edge in edges],
            ),
        ).rowcount
    return nodes, added


def record_source(connection: Connection, name: str, kind: str, calendar: str | None, *, actions: bool = False) -> None:
    """Record a declared source; ``actions`` says that corporate actions came with its rows."""
    record(connection, source_graph(name, kind, calendar, actions=actions))


def record_view(connection: Connection, spec: FeatureViewSpec) -> None:
    """Record a view version as it is registered now."""
    record(connection, view_graph(spec))


def record_service(connection: Connection, plan: Mapping[str, Any], on_demand: Sequence[OnDemandView] = ()) -> None:
    """Record a feature service, and its views if they are not recorded yet; see :func:`.consumers.service_graph`."""
    with connection.transaction():
        record(connection, _with_views(connection, plan, service_graph(plan, on_demand)))


def record_dataset(connection: Connection, manifest: Mapping[str, Any]) -> None:
    """Record an exported data set, its service and views; ``manifest`` is its ``manifest.json`` as data."""
    with connection.transaction():
        record(connection, _with_views(connection, manifest["plan"], dataset_graph(manifest)))


def record_model(
    connection: Connection, manifest: Mapping[str, Any], bundle_sha256: str, parent_sha256: str | None
) -> None:
    """Record a registered model version; ``manifest`` is its bundle's as data."""
    with connection.transaction():
        graph = _model_graph(connection, manifest, bundle_sha256, parent_sha256)
        views, _ = _views_graph(connection, [f"{view['view']}@{view['version']}" for view in manifest["views"]])
        views.merge(graph)
        record(connection, views)


def record_all(
    connection: Connection, services: Iterable[tuple[Mapping[str, Any], Sequence[OnDemandView]]] = ()
) -> RecordReport:
    """Record whatever is registered in the database and is not recorded yet. Running it again adds nothing.

    Parameters
    ----------
    connection
        Used for one transaction for each thing.
    services
        Feature services of a Feast repository: plans as data, and their on-demand views.
    """
    report = RecordReport()

    def add(graph: Graph) -> None:
        nodes, edges = record(connection, graph)
        report.nodes_added += nodes
        report.edges_added += edges

    with connection.transaction():
        sources = connection.execute(
            "SELECT source, kind, calendar,"
            " EXISTS (SELECT FROM tapeline.corporate_actions a WHERE a.source = s.source) FROM tapeline.sources s"
        ).fetchall()
        datasets = connection.execute("SELECT manifest FROM tapeline.datasets ORDER BY created_timestamp").fetchall()
        models = connection.execute(
            "SELECT manifest, bundle_sha256, parent_sha256 FROM tapeline.models ORDER BY created_timestamp"
        ).fetchall()
        row = connection.execute("SELECT count(*) FROM tapeline.feature_view_versions").fetchone()
        views, report.left_out = _views_graph(connection, None)
    for name, kind, calendar, actions in sources:
        add(source_graph(name, kind, calendar, actions=actions))
    add(views)
    for plan, on_demand in services:
        report.services += 1
        add(_with_views(connection, plan, service_graph(plan, on_demand)))
    for (manifest,) in datasets:
        add(_with_views(connection, manifest["plan"], dataset_graph(manifest)))
    for manifest, bundle_sha256, parent_sha256 in models:
        with connection.transaction():
            graph = _model_graph(connection, manifest, bundle_sha256, parent_sha256)
        add(graph)
    report.sources, report.datasets, report.models = len(sources), len(datasets), len(models)
    report.views = int(row[0]) if row else 0
    return report


def _model_graph(
    connection: Connection, manifest: Mapping[str, Any], bundle_sha256: str, parent_sha256: str | None
) -> Graph:
    """A registered model with the versions that its parent bundle was registered as; none of a first one."""
    given = (manifest["model"], parent_sha256, manifest["version"])
    predecessors = [name for (name,) in connection.execute(_PREDECESSORS, given).fetchall()]
    return model_graph(manifest, bundle_sha256, predecessors)


def _with_views(connection: Connection, plan: Mapping[str, Any], graph: Graph) -> Graph:
    """A graph and that of the plan's views, as far as they are not recorded."""
    places = [f"{view['view']}@{view['version']}" for view in plan["views"]]
    with connection.transaction():
        views, _ = _views_graph(connection, places)
        known = connection.execute(
            "SELECT view || '@' || version FROM tapeline.feature_view_versions WHERE view || '@' || version = ANY(%s)",
            (places,),
        ).fetchall()
    views.merge(foreign_views_graph(plan, (place for (place,) in known)))
    views.merge(graph)
    return views


def _views_graph(connection: Connection, places: Sequence[str] | None) -> tuple[Graph, list[str]]:
    """What the registered views of some names, or all, come from, if it is not recorded; and which cannot be read, why."""
    graph, left_out = Graph(), []
    given = {"places": None if places is None else list(places)}
    for name, version, definition, plan_hash in connection.execute(_UNRECORDED_VIEWS, given).fetchall():
        try:
            graph.merge(view_graph(FeatureViewSpec.from_definition(definition), plan_hash=plan_hash))
        except TapelineError as error:
            left_out.append(f"view {name}@{version}: {error}")
    return graph, left_out
