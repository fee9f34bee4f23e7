"""The lineage of what uses features: services, data sets, models; and of the sources at the other end."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tapeline.core.hashing import sha256_json
from tapeline.lineage.graph import Graph, Key
from tapeline.lineage.row_columns import ACTIONS_TABLE, action_column, raw_table, source_column

PRICE_COLUMNS = {"bars": "close", "trades": "price"}
"""Kind of a source → its column that labels are made from."""
_TABLE = re.compile(r"[\w.\"]+")


@dataclass(frozen=True)
class OnDemandView:
    """A view that Feast computes at a request, as plain data.

    Attributes
    ----------
    name, version
        The view.
    source_hash
        SHA-256 of its function's source.
    inputs
        Features it reads, as ``view@version:feature``.
    request_columns
        What comes with the request, as ``source.column``.
    features
        Its outputs.
    """

    name: str
    version: int
    source_hash: str
    inputs: tuple[str, ...]
    request_columns: tuple[str, ...]
    features: tuple[str, ...]


def source_graph(name: str, kind: str, calendar: str | None, *, actions: bool = False) -> Graph:
    """A declared source: the table that it delivers to, and its calendar, against which its rows are checked.

    ``actions`` says that corporate actions came with it.
    """
    graph = Graph()
    source = graph.node("source", name, rows=kind, calendar=calendar)
    if kind != "actions":
        table = raw_table(graph, kind, name)
        if calendar is not None:
            graph.edge(graph.node("calendar", calendar), table, "indirect")
    if actions or kind == "actions":
        graph.edge(source, graph.node("table", ACTIONS_TABLE, table=ACTIONS_TABLE), "delivers")
    return graph


def service_name(plan: Mapping[str, Any], on_demand: Sequence[OnDemandView] = ()) -> str:
    """A feature service with a digest of what it selects: one that selects something else is another node."""
    content: dict[str, Any] = {"plan": plan}
    if on_demand:
        content["on_demand"] = [vars(view) for view in on_demand]
    return f"{plan['service']}#{sha256_json(content)[:12]}"


def service_graph(plan: Mapping[str, Any], on_demand: Sequence[OnDemandView] = ()) -> Graph:
    """A feature service: its features and, by name, their views.

    Parameters
    ----------
    plan
        What ``RetrievalPlan.to_dict`` gives, as JSON data.
    on_demand
        Views that only Feast computes.

    Notes
    -----
    A feature of a view that is not one of Tapeline's comes from the table or query that the plan names.
    """
    graph = Graph()
    selected = [str(name) for view in plan["views"] for name in view["output_names"]]
    service = graph.node("service", service_name(plan, on_demand), service=plan["service"], features=selected)
    for selection in plan["views"]:
        place = f"{selection['view']}@{selection['version']}"
        view = graph.node("view", place)
        graph.edge(view, service, "selected")
        for name in selection["features"]:
            feature = graph.node("feature", f"{place}:{name}")
            graph.edge(feature, service, "selected")
            graph.edge(feature, view, "part")
    for computed in on_demand:
        graph.merge(on_demand_graph(computed))
        place = f"{computed.name}@{computed.version}"
        for key in (Key("view", place), *(Key("feature", f"{place}:{name}") for name in computed.features)):
            graph.edge(key, service, "selected")
    return graph


def on_demand_graph(computed: OnDemandView) -> Graph:
    """An on-demand view: one kernel that reads other views' features and what comes with the request."""
    graph = Graph()
    place = f"{computed.name}@{computed.version}"
    view = graph.node("view", place, on_demand=True, features=len(computed.features))
    kernel = graph.node(
        "kernel", f"{place}/{computed.name}()", on_demand=True, parameters={}, source_hash=computed.source_hash
    )
    graph.edges_from((graph.node("feature", name) for name in computed.inputs), kernel, "value")
    for name in computed.request_columns:
        column = graph.node("column", name, request=True)
        graph.edge(graph.node("source", name.partition(".")[0], request=True), column, "holds")
        graph.edge(column, kernel, "value")
    for name in computed.features:
        feature = graph.node("feature", f"{place}:{name}")
        graph.edge(kernel, feature, "gives")
        graph.edge(feature, view, "part")
    return graph


def foreign_views_graph(plan: Mapping[str, Any], known: Iterable[str]) -> Graph:
    """Features of views that are not Tapeline's, from the columns of the tables or queries that they are read from.

    ``known`` are the views that are, as ``view@version``.
    """
    graph, registered = Graph(), set(known)
    for selection in plan["views"]:
        place = f"{selection['view']}@{selection['version']}"
        if place in registered:
            continue
        text = str(selection["table"])
        name = text if _TABLE.fullmatch(text) else f"query#{sha256_json(text)[:12]}"
        table = graph.node("table", name, query=None if name == text else text)
        view = graph.node("view", place, foreign=True, ttl_us=selection["ttl_us"])
        for column in selection["features"]:
            feature = graph.node("feature", f"{place}:{column}")
            stored = graph.node("column", f"{name}.{column}", column=column)
            graph.edge(table, stored, "holds")
            graph.edge(stored, feature, "value")
            graph.edge(feature, view, "part")
    return graph


def dataset_graph(manifest: Mapping[str, Any]) -> Graph:
    """An exported data set: its service, and where its labels come from.

    Parameters
    ----------
    manifest
        Its ``manifest.json`` as data.
    """
    graph = service_graph(manifest["plan"])
    dataset = graph.node(
        "dataset",
        manifest["content_sha256"],
        service=manifest["service"],
        as_of=manifest["as_of"],
        rows=manifest["row_count"],
        first=manifest["first_event"],
        last=manifest["last_event"],
        entities=manifest["entities"]["description"],
    )
    graph.edge(Key("service", service_name(manifest["plan"])), dataset, "exported")
    labels = manifest.get("labels")
    if labels is not None:
        graph.nodes[dataset]["label"] = labels["spec"]
        for column in (PRICE_COLUMNS[labels["kind"]], "event_timestamp"):
            graph.edge(source_column(graph, labels["kind"], labels["source"], column), dataset, "label")
        graph.edge(action_column(graph, "ratio"), dataset, "label")
        graph.edge(graph.node("calendar", labels["calendar"]), dataset, "label")
    return graph


def model_graph(manifest: Mapping[str, Any], bundle_sha256: str, predecessors: Iterable[str] = ()) -> Graph:
    """A registered model: the data set it was trained on and the features it reads.

    Parameters
    ----------
    manifest
        Its bundle's manifest as data.
    bundle_sha256
        The bundle's address.
    predecessors
        The model version, ``name@version``, that it succeeded; several if one bundle was registered twice.
    """
    graph = Graph()
    model = graph.node(
        "model",
        f"{manifest['model']}@{manifest['version']}",
        bundle_sha256=bundle_sha256,
        dataset_sha256=manifest["dataset_sha256"],
        service=manifest["service"],
        label=manifest["label"].get("spec"),
        family=manifest["training"].get("config", {}).get("family"),
    )
    graph.edge(graph.node("dataset", manifest["dataset_sha256"]), model, "trained")
    for feature in manifest["features"]:
        place = f"{feature['view']}@{feature['version']}"
        view, read = graph.node("view", place), graph.node("feature", f"{place}:{feature['name']}")
        graph.edge(view, model, "read")
        graph.edge(read, model, "read")
        graph.edge(read, view, "part")
    for predecessor in predecessors:
        graph.edge(graph.node("model", predecessor), model, "succeeded")
    return graph
