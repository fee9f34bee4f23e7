"""Reading: the part of the graph above or below a node, as recorded by a moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import psycopg

from tapeline.core.errors import ParameterError
from tapeline.core.timestamps import from_us
from tapeline.lineage.graph import Edge, Key

Direction = Literal["up", "down", "both"]

DEPTH_MAX = 32
ROWS_MAX = 10_000
PREDICTIONS_MAX = 20

_WALKS = {
    "up": "SELECT * FROM tapeline.lineage_upstream(%(kind)s, %(name)s, %(as_of)s, %(depth)s, %(rows)s)",
    "down": "SELECT * FROM tapeline.lineage_downstream(%(kind)s, %(name)s, %(as_of)s, %(depth)s, %(rows)s, %(served)s)",
}
_ATTRIBUTES = """
    SELECT DISTINCT ON (d.kind, d.name) d.kind, d.name, d.attributes
    FROM unnest(%(kinds)s::text[], %(names)s::text[]) AS wanted (kind, name)
    JOIN tapeline.lineage_descriptions d USING (kind, name) WHERE d.created_timestamp <= %(as_of)s
    ORDER BY d.kind, d.name, d.created_timestamp DESC, d.attributes_sha256
"""
_SERVED = """
    SELECT s.request_id::text, min(s.served_timestamp)::text, array_agg(DISTINCT s.entity ORDER BY s.entity)
    FROM tapeline.served_vectors s WHERE s.request_id = ANY(%s::uuid[]) GROUP BY s.request_id
"""
_USED_ROWS = """
    SELECT s.entity, u.value FROM tapeline.served_vectors s
    CROSS JOIN LATERAL jsonb_array_elements(
        CASE WHEN jsonb_typeof(s.views) = 'array' THEN s.views ELSE '[]' END) AS u
    WHERE s.request_id = %s::uuid ORDER BY s.entity, s.served_timestamp LIMIT 100
"""


@dataclass(frozen=True)
class Lineage:
    """The graph above, below or around a node.

    Attributes
    ----------
    start
        The node that was asked about.
    up, down
        Edges above and below it, nearest first; none if not asked for.
    attributes
        What is known of each node, by key; predictions have their entities and moment.
    cut
        Whether there is more than the limits on depth or rows let through.
    """

    start: Key
    up: tuple[Edge, ...]
    down: tuple[Edge, ...]
    attributes: dict[Key, dict[str, Any]]
    cut: bool

    @property
    def edges(self) -> tuple[Edge, ...]:
        """All edges, each once."""
        return tuple(dict.fromkeys((*self.up, *self.down)))

    @property
    def nodes(self) -> set[Key]:
        """All nodes, the start included."""
        return {self.start} | {key for edge in self.edges for key in (edge.upstream, edge.downstream)}

    def ends(self, direction: Literal["up", "down"]) -> list[Key]:
        """Nodes beyond which nothing is known in a direction, sorted; none if the start is the only one."""
        if direction == "up":
            return sorted({e.upstream for e in self.up} - {e.downstream for e in self.up})
        return sorted({e.downstream for e in self.down} - {e.upstream for e in self.down})


def read_lineage(
    connection: psycopg.Connection[Any],
    start: Key,
    direction: Direction = "both",
    *,
    depth_max: int = DEPTH_MAX,
    rows_max: int = ROWS_MAX,
    predictions_max: int = PREDICTIONS_MAX,
    as_of_us: int | None = None,
) -> Lineage:
    """What a node came from and what came from it.

    Parameters
    ----------
    connection
        The database.
    start
        An existing node; see :func:`tapeline.lineage.references.find_node`.
    direction
        ``up``, ``down`` or ``both``.
    depth_max
        Steps away from the start, from 1.
    rows_max
        Edges in each direction; the nearest are kept.
    predictions_max
        Newest predictions of each model.
    as_of_us
        Only what had been recorded by this moment, microseconds UTC; none: everything.

    Raises
    ------
    ParameterError
        If a limit is out of range.
    """
    for name, value, highest in (
        ("depth", depth_max, DEPTH_MAX),
        ("rows", rows_max, 1_000_000),
        ("predictions", predictions_max, 1_000),
    ):
        if not 1 <= value <= highest:
            raise ParameterError(f"{name} is {value}", remedy=f"Give a number from 1 to {highest}")
    as_of: Any = "infinity" if as_of_us is None else from_us(as_of_us)
    given = {
        "kind": start.kind, "name": start.name, "as_of": as_of, "depth": depth_max, "rows": rows_max + 1,
        "served": predictions_max,
    }  # fmt: skip
    found: dict[str, tuple[Edge, ...]] = {"up": (), "down": ()}
    cut = False
    with connection.transaction():
        for each in ("up", "down"):
            if direction not in {each, "both"}:
                continue
            rows = connection.execute(_WALKS[each], given).fetchall()
            edges = [(row[0], Edge(Key(row[1], row[2]), Key(row[3], row[4]), row[5])) for row in rows]
            found[each] = tuple(edge for _, edge in edges[:rows_max])
            cut = cut or len(rows) > rows_max or _goes_on(connection, each, edges, depth_max, as_of)
        part = Lineage(start, found["up"], found["down"], {}, cut)
        return Lineage(start, part.up, part.down, _attributes(connection, part.nodes, as_of), cut)


def _goes_on(
    connection: psycopg.Connection[Any], direction: str, edges: list[tuple[int, Edge]], depth_max: int, as_of: Any
) -> bool:
    """Whether something lies beyond the nodes that the depth ended at."""
    function = "lineage_into" if direction == "up" else "lineage_out_of"
    walked = {(edge.downstream if direction == "up" else edge.upstream) for _, edge in edges}
    for depth, edge in edges:
        key = edge.upstream if direction == "up" else edge.downstream
        if depth < depth_max or key in walked or key.kind == "view" or edge.role == "succeeded":
            continue
        query = f"SELECT EXISTS (SELECT FROM tapeline.{function}(%s, %s, %s))"
        if connection.execute(query, (key.kind, key.name, as_of)).fetchone() == (True,):
            return True
    return False


def _attributes(connection: psycopg.Connection[Any], nodes: set[Key], as_of: Any) -> dict[Key, dict[str, Any]]:
    kinds, names = [key.kind for key in nodes], [key.name for key in nodes]
    rows = connection.execute(_ATTRIBUTES, {"kinds": kinds, "names": names, "as_of": as_of}).fetchall()
    found: dict[Key, dict[str, Any]] = {Key(kind, name): attributes for kind, name, attributes in rows}
    requests = [key.name for key in nodes if key.kind == "prediction"]
    if requests:
        for request, moment, entities in connection.execute(_SERVED, (requests,)).fetchall():
            found[Key("prediction", request)] = {"served": moment, "entities": entities}
    return found


def used_rows(connection: psycopg.Connection[Any], request_id: str) -> list[dict[str, Any]]:
    """Which row of which view each entity of a prediction was served from: view, origin, event and available time."""
    with connection.transaction():
        rows = connection.execute(_USED_ROWS, (request_id,)).fetchall()
    return [{"entity": entity} | use for entity, use in rows]
