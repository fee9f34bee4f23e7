"""Where the boxes of a lineage picture lie: like nodes put together, layers from left to right, few crossings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tapeline.lineage.graph import KINDS, Edge, Key

SINGLE_MAX = 36
"""Nodes up to which each has a box of its own."""
LAYER_MAX = 26
"""Boxes of one layer beyond which all kernels, all features and all predictions in it become one box each."""
_PUT_TOGETHER = frozenset({"kernel", "feature", "prediction"})
_SWEEPS = 8


@dataclass(frozen=True)
class Box:
    """One or several nodes of a kind that lie between the same others.

    Attributes
    ----------
    nodes
        Sorted; none of a lane, through which edges pass a layer.
    layer
        From 0, left to right.
    row
        Place within the layer, from the top.
    """

    nodes: tuple[Key, ...]
    layer: int
    row: int


@dataclass(frozen=True)
class Layout:
    """Boxes, and which of them edges join: places in ``boxes`` with the roles of the edges between them."""

    boxes: tuple[Box, ...]
    joins: dict[tuple[int, int], frozenset[str]]


def lay_out(start: Key, nodes: Iterable[Key], edges: Iterable[Edge]) -> Layout:
    """Lay a graph out.

    Parameters
    ----------
    start
        A node that stays by itself.
    nodes, edges
        The graph, without cycles.
    """
    every, known = sorted(nodes), list(edges)
    layers = _layers(every, known)
    group_of: dict[Key, tuple[Key, ...]] = {key: (key,) for key in every}
    if len(every) > SINGLE_MAX:
        group_of = _grouped(start, every, known, layers)
    crowded: defaultdict[int, set[tuple[Key, ...]]] = defaultdict(set)
    for key, group in group_of.items():
        crowded[layers[key]].add(group)
    for crowd in crowded.values():
        if len(crowd) > LAYER_MAX:
            _put_all_together(start, crowd, group_of)
    groups = sorted(set(group_of.values()), key=lambda group: (KINDS.index(group[0].kind), group))
    place = {group: number for number, group in enumerate(groups)}
    layer_of = [layers[group[0]] for group in groups]
    joins: defaultdict[tuple[int, int], set[str]] = defaultdict(set)
    lanes: dict[tuple[int, int], int] = {}
    for edge in known:
        here, end = place[group_of[edge.upstream]], place[group_of[edge.downstream]]
        if here == end:
            continue
        # What passes other layers on its way to one box shares a lane through them.
        for layer in range(layer_of[here] + 1, layer_of[end]):
            lane = lanes.setdefault((end, layer), len(groups) + len(lanes))
            if lane == len(layer_of):
                layer_of.append(layer)
            joins[here, lane].add(edge.role)
            here = lane
        joins[here, end].add(edge.role)
    rows = _rows(layer_of, joins)
    boxes = tuple(
        Box(groups[number] if number < len(groups) else (), layer, rows[number])
        for number, layer in enumerate(layer_of)
    )
    return Layout(boxes, {ends: frozenset(roles) for ends, roles in joins.items()})


def _layers(nodes: list[Key], edges: list[Edge]) -> dict[Key, int]:
    """A layer beyond all that a node came from; what came from nothing lies just before the first that came from it."""
    upstream, downstream = _neighbours(edges)
    layers: dict[Key, int] = {}
    waiting = {key: len(upstream[key]) for key in nodes}
    ready = [key for key in nodes if not waiting[key]]
    for key in ready:  # grows while it is walked
        layers[key] = max((layers[above] + 1 for above in upstream[key]), default=0)
        for below in downstream[key]:
            waiting[below] -= 1
            if not waiting[below]:
                ready.append(below)
    for key in nodes:
        layers.setdefault(key, 0)
    for key in nodes:
        if not upstream[key] and downstream[key]:
            layers[key] = max(0, min(layers[below] for below in downstream[key]) - 1)
    return layers


def _neighbours(edges: Iterable[Edge]) -> tuple[defaultdict[Key, set[Key]], defaultdict[Key, set[Key]]]:
    upstream: defaultdict[Key, set[Key]] = defaultdict(set)
    downstream: defaultdict[Key, set[Key]] = defaultdict(set)
    for edge in edges:
        upstream[edge.downstream].add(edge.upstream)
        downstream[edge.upstream].add(edge.downstream)
    return upstream, downstream


def _grouped(start: Key, nodes: list[Key], edges: list[Edge], layers: Mapping[Key, int]) -> dict[Key, tuple[Key, ...]]:
    """Nodes of a kind and layer that lie between the same others, seen through those that are put together themselves."""
    upstream, downstream = _neighbours(edges)

    def seen(key: Key, neighbours: Mapping[Key, set[Key]], found: dict[Key, frozenset[Key]]) -> frozenset[Key]:
        if key not in found:
            reached: set[Key] = set()
            for other in neighbours[key]:
                through = other.kind in _PUT_TOGETHER and other != start
                reached |= seen(other, neighbours, found) if through else {other}
            found[key] = frozenset(reached)
        return found[key]

    above: dict[Key, frozenset[Key]] = {}
    below: dict[Key, frozenset[Key]] = {}
    groups: defaultdict[object, list[Key]] = defaultdict(list)
    for key in nodes:
        alike: object = key
        if key.kind in _PUT_TOGETHER and key != start:
            alike = key.kind, layers[key], seen(key, upstream, above), seen(key, downstream, below)
        groups[alike].append(key)
    return {key: tuple(sorted(group)) for group in groups.values() for key in group}


def _put_all_together(start: Key, groups: set[tuple[Key, ...]], group_of: dict[Key, tuple[Key, ...]]) -> None:
    for kind in _PUT_TOGETHER:
        merged = tuple(sorted(key for group in groups for key in group if key.kind == kind and key != start))
        for key in merged:
            group_of[key] = merged


def _rows(layers: list[int], joins: Mapping[tuple[int, int], object]) -> list[int]:
    """Rows within layers: each box near the middle of what it is joined to, over some sweeps there and back."""
    joined: defaultdict[int, list[int]] = defaultdict(list)
    for one, other in joins:
        if one != other:
            joined[one].append(other)
            joined[other].append(one)
    members: defaultdict[int, list[int]] = defaultdict(list)
    for number, layer in enumerate(layers):
        members[layer].append(number)
    position = {n: (row + 0.5) / len(group) for group in members.values() for row, n in enumerate(group)}
    for sweep in range(_SWEEPS):
        for layer in sorted(members, reverse=bool(sweep % 2)):
            middle = {
                n: sum(position[o] for o in joined[n]) / len(joined[n]) if joined[n] else position[n]
                for n in members[layer]
            }
            members[layer].sort(key=lambda n: (middle[n], n))
            for row, n in enumerate(members[layer]):
                position[n] = (row + 0.5) / len(members[layer])
    rows = [0] * len(layers)
    for group in members.values():
        for row, number in enumerate(group):
            rows[number] = row
    return rows
