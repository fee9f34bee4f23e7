"""Lineage as trees on the terminal: each node once with what follows from it, long lists shortened."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Literal

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from tapeline.lineage import Edge, Key, Lineage, written
from tapeline.lineage.graph import KINDS

SHOWN_MAX = 6
"""Siblings of one kind that are shown of a longer list."""
ENDS_MAX = 24
_WIDTH_OF_FILES = 500

_COLOURS = {
    "source": "green", "calendar": "green", "table": "green", "column": "bright_green", "kernel": "yellow",
    "feature": "cyan", "view": "bright_cyan", "service": "blue", "dataset": "bright_blue", "model": "magenta",
    "deployment": "bright_magenta", "prediction": "bright_red",
}  # fmt: skip
_TITLES = {"up": "came from", "down": "led to"}


def print_trees(console: Console, found: Lineage, *, everything: bool = False) -> None:
    """Print what a node came from and what came from it.

    Parameters
    ----------
    console
        Where to.
    found
        The lineage; a direction that was not asked for has no edges, and no tree.
    everything
        Do not shorten lists.
    """
    if not console.is_terminal:
        console = Console(width=_WIDTH_OF_FILES)  # nothing is cut, so that it can be searched
    console.print(_label(found, found.start, None), highlight=False)
    directions: tuple[Literal["up", "down"], ...] = ("up", "down")
    for direction in directions:
        edges = found.up if direction == "up" else found.down
        if not edges:
            continue
        tree = Tree(Text(_TITLES[direction], style="bold"), guide_style="dim")
        _Branches(found, direction, edges, SHOWN_MAX if not everything else len(edges)).grow(tree, found.start)
        console.print(tree, highlight=False)
        _print_ends(console, found, direction, everything=everything)
    if not found.edges:
        console.print("Nothing else is recorded of it.", style="dim")


class _Branches:
    """Grows one tree. A node that comes up again is named, and not grown twice."""

    def __init__(self, found: Lineage, direction: Literal["up", "down"], edges: tuple[Edge, ...], shown: int) -> None:
        self._found = found
        self._shown = shown
        self._latest_first = direction == "up"
        self._next: defaultdict[Key, list[tuple[Key, str]]] = defaultdict(list)
        for edge in edges:
            here, there = (edge.downstream, edge.upstream) if direction == "up" else (edge.upstream, edge.downstream)
            self._next[here].append((there, edge.role))
        self._grown: set[Key] = set()
        self._listed: set[Key] = set()

    def grow(self, branch: Tree, key: Key) -> None:
        self._grown.add(key)
        by_kind: defaultdict[str, dict[Key, list[str]]] = defaultdict(dict)
        for there, role in self._next[key]:
            by_kind[there.kind].setdefault(there, []).append(role)
        for kind in sorted(by_kind, key=KINDS.index, reverse=self._latest_first):
            siblings = by_kind[kind]
            if len(siblings) > self._shown and siblings.keys() <= self._listed:
                branch.add(Text(f"{len(siblings)} of kind {kind}, all named above ↑", style="dim"))
                continue
            self._listed |= siblings.keys()
            shown = list(siblings)[: self._shown if len(siblings) > self._shown + 1 else None]
            for there in shown:
                self._add(branch, there, siblings[there])
            if len(shown) < len(siblings):
                branch.add(Text(f"… and {len(siblings) - len(shown)} more of kind {kind} (--all)", style="dim"))

    def _add(self, branch: Tree, key: Key, roles: list[str]) -> None:
        label = _label(self._found, key, ", ".join(sorted(set(roles))))
        follows = bool(self._next[key])
        if key in self._grown and follows:
            label.append(" ↑", style="dim")
        below = branch.add(label)
        if follows and key not in self._grown:
            self.grow(below, key)


def _label(found: Lineage, key: Key, roles: str | None) -> Text:
    text = Text.assemble((f"{key.kind} ", "dim"), (_shown(key), _COLOURS[key.kind]))
    if roles is not None and roles not in {
        "value",
        "gives",
        "delivers",
        "holds",
        "part",
        "selected",
        "exported",
        "served",
    }:
        text.append(f" ({roles})", style="italic dim")
    if note := _note(key, found.attributes.get(key, {})):
        text.append(f"  {note}", style="dim")
    return text


def _note(key: Key, known: dict[str, Any]) -> str:
    """The most telling of what is known of a node."""
    match key.kind:
        case "kernel":
            return f"source {known['source_hash'][:12]}" if known.get("source_hash") else ""
        case "view" if known.get("lineage_hash"):
            return f"{known['features']} features, lineage {known['lineage_hash'][:12]}"
        case "service" if "features" in known:
            return f"{len(known['features'])} features, {key.name.partition('#')[2]}"
        case "dataset" if "rows" in known:
            return f"{known['rows']} rows of {known['service']} as of {known['as_of']}"
        case "dataset":
            return "not exported from this database"
        case "model" if known.get("bundle_sha256"):
            return f"bundle {known['bundle_sha256'][:12]}"
        case "prediction":
            return f"{', '.join(known.get('entities', [])[:5])} {known.get('served', '')}".strip()
        case _:
            return ""


def _print_ends(console: Console, found: Lineage, direction: Literal["up", "down"], *, everything: bool) -> None:
    ends = [key for key in found.ends(direction) if key.kind not in {"table", "view"}]
    if direction == "up":
        columns = {edge.upstream for edge in found.up if edge.upstream.kind == "column"}
        ends = sorted(columns | {key for key in ends if key.kind not in {"source", "column"}})
    if not ends:
        return
    names = [written(key) for key in ends]
    shown = names if everything else names[:ENDS_MAX]
    more = f" … and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
    title = "in all from" if direction == "up" else "in all to"
    console.print(Text.assemble((f"{title} ", "bold"), f"{', '.join(shown)}{more}"), highlight=False, soft_wrap=True)
    console.print()


def _shown(key: Key) -> str:
    """A node's name beside its kind."""
    if key.kind == "dataset":
        return key.name[:12]
    return key.name.partition("#")[0] if key.kind == "service" else key.name
