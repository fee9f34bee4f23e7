"""Nodes and edges as plain values: what the functions that derive lineage from definitions give, and what is recorded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal[
    "source",
    "calendar",
    "table",
    "column",
    "kernel",
    "feature",
    "view",
    "service",
    "dataset",
    "model",
    "deployment",
    "prediction",
]
"""What a node is. Deployments (aliases) and predictions are joined from their own tables, never recorded."""

KINDS: tuple[Kind, ...] = (
    "source", "calendar", "table", "column", "kernel", "feature", "view", "service", "dataset", "model", "deployment",
    "prediction",
)  # fmt: skip
"""All kinds, upstream ones first."""

Role: TypeAlias = Literal[
    "delivers",
    "holds",
    "value",
    "indirect",
    "gives",
    "part",
    "selected",
    "exported",
    "label",
    "trained",
    "read",
    "succeeded",
    "named",
    "served",
]
"""How the downstream node of an edge came from the upstream one.

``value`` says computed from, ``indirect`` that it decides which rows count, their order or their times.
"""


@dataclass(frozen=True, order=True, slots=True)
class Key:
    """A node's identity, written ``kind:name``."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, order=True, slots=True)
class Edge:
    """One step of lineage."""

    upstream: Key
    downstream: Key
    role: Role


@dataclass
class Graph:
    """A set of nodes with their attributes, and of edges.

    Attributes
    ----------
    nodes
        Attributes of each node, JSON data.
    edges
        Between nodes of the graph.
    """

    nodes: dict[Key, dict[str, Any]] = field(default_factory=dict)
    edges: set[Edge] = field(default_factory=set)

    def node(self, kind: Kind, name: str, **attributes: Any) -> Key:
        """Add a node; attributes that a node has already stay."""
        key = Key(kind, name)
        self.nodes[key] = attributes | self.nodes.get(key, {})
        return key

    def edge(self, upstream: Key, downstream: Key, role: Role) -> None:
        """Add an edge between two nodes of the graph."""
        assert upstream in self.nodes, upstream
        assert downstream in self.nodes, downstream
        self.edges.add(Edge(upstream, downstream, role))

    def edges_from(self, upstream: Iterable[Key], downstream: Key, role: Role) -> None:
        """Add an edge from each of several nodes."""
        for key in upstream:
            self.edge(key, downstream, role)

    def merge(self, other: Graph) -> None:
        """Take in another graph."""
        for key, attributes in other.nodes.items():
            self.node(key.kind, key.name, **attributes)
        self.edges |= other.edges
