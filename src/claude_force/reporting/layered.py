"""Places a graph in layers: each node right of everything it depends on, with few crossings."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from claude_force.reporting.critical_path import topological_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# An edge over several layers bends around the nodes between by a bend in each; with more bends than this, edges run straight.
_MAX_BENDS: Final = 3000
_SWEEPS: Final = 4


@dataclass(frozen=True, slots=True)
class Placement:
    """Where everything stands, in units of a layer (x) and of a row (y)."""

    # Layer and row of each node.
    nodes: Mapping[str, tuple[int, float]]
    # For each edge (from, to) the points between its two nodes.
    bends: Mapping[tuple[str, str], tuple[tuple[int, float], ...]]
    layers: int
    # Rows of the highest layer.
    rows: float


# A node, or the bend of an edge in a layer that it passes: (from, to, layer).
_Vertex = str | tuple[str, str, int]


def place(dependencies: Mapping[str, Sequence[str]]) -> Placement:
    """A node's layer is the length of the longest path to it; rows are sorted so that edges cross little.

    The same graph is always placed alike.
    """
    rank = ranks(dependencies)
    edges = [
        (needed, name)
        for name, needs in dependencies.items()
        for needed in dict.fromkeys(needs)
        if needed in rank and rank[needed] < rank[name]
    ]
    layers: list[list[_Vertex]] = [[] for _ in range(max(rank.values(), default=-1) + 1)]
    for name in dependencies:
        layers[rank[name]].append(name)
    bent = sum(rank[end] - rank[start] - 1 for start, end in edges) <= _MAX_BENDS
    left: dict[_Vertex, list[_Vertex]] = {}
    right: dict[_Vertex, list[_Vertex]] = {}
    for start, end in edges:
        chain: list[_Vertex] = [start]
        if bent:
            chain += [(start, end, layer) for layer in range(rank[start] + 1, rank[end])]
        chain.append(end)
        for layer, vertex in enumerate(chain[1:-1], rank[start] + 1):
            layers[layer].append(vertex)
        for one, other in pairwise(chain):
            right.setdefault(one, []).append(other)
            left.setdefault(other, []).append(one)
    _untangle(layers, left, right)
    return _placement(layers, edges, rank, bent=bent)


def ranks(dependencies: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """How many steps the longest chain before each step has."""
    rank: dict[str, int] = {}
    for name in topological_order(dependencies):
        known = [rank[needed] for needed in dependencies[name] if needed in rank]
        rank[name] = max(known, default=-1) + 1
    return rank


def _untangle(
    layers: list[list[_Vertex]],
    left: Mapping[_Vertex, list[_Vertex]],
    right: Mapping[_Vertex, list[_Vertex]],
) -> None:
    """Sort each layer by the middle of its neighbours, from the left and from the right in turn."""
    row: dict[_Vertex, float] = {}

    def number(layer: list[_Vertex]) -> None:
        middle = (len(layer) - 1) / 2
        row.update({vertex: index - middle for index, vertex in enumerate(layer)})

    for layer in layers:
        number(layer)
    for sweep in range(_SWEEPS):
        beside, ordered = (left, layers) if sweep % 2 == 0 else (right, layers[::-1])
        for layer in ordered:
            wanted = {
                vertex: sum(row[other] for other in beside[vertex]) / len(beside[vertex])
                if beside.get(vertex)
                else row[vertex]
                for vertex in layer
            }
            layer.sort(key=wanted.__getitem__)
            number(layer)


def _placement(
    layers: list[list[_Vertex]],
    edges: list[tuple[str, str]],
    rank: Mapping[str, int],
    *,
    bent: bool,
) -> Placement:
    # A bend takes half the height of a node.
    heights = [sum(1.0 if isinstance(vertex, str) else 0.5 for vertex in layer) for layer in layers]
    rows = max(heights, default=0.0)
    nodes: dict[str, tuple[int, float]] = {}
    turns: dict[tuple[str, str, int], float] = {}
    for number, (layer, height) in enumerate(zip(layers, heights, strict=True)):
        top = (rows - height) / 2
        for vertex in layer:
            size = 1.0 if isinstance(vertex, str) else 0.5
            if isinstance(vertex, str):
                nodes[vertex] = (number, top + size / 2)
            else:
                turns[vertex] = top + size / 2
            top += size
    bends = {
        (start, end): tuple(
            (layer, turns[start, end, layer]) for layer in range(rank[start] + 1, rank[end]) if bent
        )
        for start, end in edges
    }
    return Placement(nodes=nodes, bends=bends, layers=len(layers), rows=rows)
