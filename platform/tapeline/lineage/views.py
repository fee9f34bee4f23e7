"""The lineage of a feature view version, from its definition: columns, kernels, features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tapeline.core.hashing import sha256_json
from tapeline.features.kernel_source import kernel_sources
from tapeline.features.request import FeatureRequest
from tapeline.features.view import FeatureViewSpec
from tapeline.features.writer import in_order
from tapeline.indicators.expression import Expression
from tapeline.lineage.graph import Graph, Key
from tapeline.lineage.row_columns import RowColumns

Part = tuple[tuple[str, ...], tuple[Expression, ...], tuple[str, ...]]
"""Output columns, their expressions, and the row columns that these read."""


def view_graph(spec: FeatureViewSpec, *, plan_hash: str | None = None) -> Graph:
    """Everything that the values of a view version come from.

    Parameters
    ----------
    spec
        The view.
    plan_hash
        Of the plan that it was registered with; where the code here makes another plan, kernels are recorded without the
        hash of their source, which only the code of that time could tell. None: the plan of the code here.

    Returns
    -------
    Graph
        Source, table, columns, calendar, corporate actions, kernels with their source hash and parameters, features, view.
        Column by column: a kernel whose outputs read different columns is a node for each set of them.
    """
    graph = Graph()
    rows = RowColumns(graph, spec)
    place = f"{spec.name}@{spec.version}"
    as_registered = plan_hash is None or plan_hash == spec.plan.hash
    view = graph.node(
        "view",
        place,
        lineage_hash=spec.lineage_hash if as_registered else None,
        plan_hash=plan_hash or spec.plan.hash,
        rows=spec.definition()["rows"],
        ttl_us=spec.ttl_us,
        features=len(spec.columns),
        description=spec.description,
    )
    for request in spec.features:
        for part in _parts(request):
            kernel = _kernel(graph, rows, place, request, part)
            for column in part[0]:
                feature = graph.node("feature", f"{place}:{column}")
                graph.edge(kernel, feature, "gives")
                graph.edge(feature, view, "part")
    if not as_registered:
        for key, attributes in graph.nodes.items():
            if key.kind == "kernel":
                attributes["source_hash"] = None
    return graph


def _parts(request: FeatureRequest) -> Iterator[Part]:
    """A request's outputs, grouped by the row columns that they read."""
    found: dict[tuple[str, ...], list[tuple[str, Expression]]] = {}
    for column, expression in zip(request.columns, request.expressions, strict=True):
        found.setdefault(_reads(expression), []).append((column, expression))
    for reads, outputs in found.items():
        yield tuple(column for column, _ in outputs), tuple(expression for _, expression in outputs), reads


def _reads(expression: Expression) -> tuple[str, ...]:
    """Row columns that an expression depends on, sorted."""
    return tuple(sorted({str(o.constants[0]) for o in in_order([expression]) if o.kind in {"input", "sound"}}))


def _kernel(graph: Graph, rows: RowColumns, place: str, request: FeatureRequest, part: Part) -> Key:
    columns, expressions, reads = part
    indicator = request.indicator
    parameters: dict[str, Any] = dict(indicator.complete(dict(request.parameters)))
    spelled = ", ".join(f"{name}={value:g}" for name, value in parameters.items())
    title = f"{indicator.name}({spelled})"
    title += f" of {request.frame.text}" if request.frame is not None else ""
    title += f" held {columns[0].rpartition('_last_')[2].removesuffix('_age')}" if request.last_within_us else ""
    if len(columns) < len(request.columns):
        title += f": {', '.join(columns)}"
    primitives = {
        f"{o.primitive.module}.{o.primitive.name}": o.primitive.function
        for o in in_order(expressions)
        if o.primitive is not None
    }
    kernel = graph.node(
        "kernel",
        f"{place}/{title}",
        indicator=indicator.name,
        parameters=parameters,
        frame=request.frame.text if request.frame is not None else None,
        custom_module=indicator.build.__module__ if indicator.group == "custom" else None,
        primitives=sorted(primitives),
        source_hash=_source_hash(primitives.values(), expressions),
    )
    for name in reads:
        read = rows.framed(name, request.frame) if request.frame is not None else rows.of(name)
        for upstream, role in read:
            graph.edge(upstream, kernel, role)
    for upstream, role in rows.adjustments(reads):
        graph.edge(upstream, kernel, role)
    if request.last_within_us is not None:
        upstream, role = rows.event_time()
        graph.edge(upstream, kernel, role)
    return kernel


def _source_hash(functions: Iterable[Any], expressions: Iterable[Expression]) -> str:
    """SHA-256 of the compiled steps' sources and of how they are put together."""
    return sha256_json({"steps": kernel_sources(functions), "expressions": [e.key for e in expressions]})
