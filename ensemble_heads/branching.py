"""Cuts a graph at every fork of a tree."""

import dataclasses

from ensemble_heads.forking import fork
from ensemble_heads.graph import Graph, tensors_in
from ensemble_heads.widths import unknown_name


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """What one branch of a tree computes.

    Attributes:
        graph: `Graph`; its inputs are the outputs of the part that it stands on.
        place: tuple of int, which branch it is at every fork: (0, 1) is the second
            branch of the first one.
        parent: int, position of the part that it stands on; None on the trunk.
    """

    graph: Graph
    place: tuple
    parent: int | None


def cut_at_forks(upper, branches):
    """Cuts what comes after the first fork of a tree at the others.

    Args:
        upper: `Graph`, from the first fork to the outputs.
        branches: list of `tree_shapes.Branch` that begin at the first fork.

    Returns:
        List of `Part`, each after the one it stands on, the ways to the heads in the
        order of the heads. Parts of different branches share the nodes of `upper`.

    Raises:
        ValueError: a fork that does not come after the one before, or one that cuts a
            skip connection in two.
    """
    parts = []

    def grow(graph, branch, place, parent):
        if branch.fork_at is None:
            parts.append(Part(graph, place, parent))
            return
        _check_comes_after(graph, branch.fork_at)
        cut = fork(graph, branch.fork_at)
        position = len(parts)
        parts.append(Part(cut.trunk, place, parent))
        for number, following in enumerate(branch.branches):
            grow(cut.upper, following, (*place, number), position)

    for number, branch in enumerate(branches):
        grow(upper, branch, (number,), None)
    return parts


def _check_comes_after(graph, fork_at):
    if any(node.layer is fork_at or node.name == fork_at for node in graph.nodes):
        return
    name = fork_at if isinstance(fork_at, str) else getattr(fork_at, "name", fork_at)
    beginning = tensors_in(graph.inputs)[0].name
    known = sorted({node.name for node in graph.nodes})
    where = f"that come after `{beginning}`, where the branch begins"
    raise ValueError(
        "A tree must not fork twice at one layer, nor below an earlier fork: "
        + unknown_name("fork_at", name, known, where)
    )
