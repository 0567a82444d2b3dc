"""Where a model forks, at one depth or at several: `fork_at` and `num_heads` read."""

import dataclasses

from ensemble_heads.head_layouts import check_num_heads


@dataclasses.dataclass(eq=False)
class Branch:
    """A part of a network, from a fork (or the input) to the next or to the outputs.

    Attributes:
        fork_at: the layer that it ends with, or its name; None where it goes on to
            the outputs, so that it is the last part of a head.
        branches: list of the `Branch` that begin there.
    """

    fork_at: object = None
    branches: list = dataclasses.field(default_factory=list)

    @property
    def num_heads(self):
        """The number of heads that it leads to."""
        return sum(branch.num_heads for branch in self.branches) or 1


def trunk(fork_at, num_heads):
    """Reads the arguments of `multi_head`.

    >>> tree = trunk(["stage1", ["stage2", None]], num_heads=2)
    >>> [branch.num_heads for branch in tree.branches]
    [2, 1]

    Args:
        fork_at: a layer or its name, or a list with an entry per level: either of
            these, or a list with an entry (or None) per branch of the level before.
        num_heads: int, the branches of every fork, or a list with one per level.

    Returns:
        The `Branch` of the trunk.

    Raises:
        ValueError: either has another structure.
    """
    levels = _levels(fork_at)
    counts = _counts(num_heads, levels)
    root = Branch()
    begun = [root]
    for entries, count in zip(levels, counts, strict=True):
        new = []
        for branch, place in zip(begun, _per_branch(entries, begun), strict=True):
            if place is not None:
                branch.fork_at = place
                branch.branches = [Branch() for _ in range(count)]
                new += branch.branches
        begun = new
    return root


def _levels(fork_at):
    if fork_at is None or fork_at in ([], ()):
        raise ValueError(
            "`fork_at` must be a layer or its name, or a list with one entry per "
            f"level of a tree. Received: fork_at={fork_at!r}"
        )
    return list(fork_at) if isinstance(fork_at, list | tuple) else [fork_at]


def _counts(num_heads, levels):
    if not isinstance(num_heads, list | tuple):
        check_num_heads(num_heads)
        return [num_heads] * len(levels)
    if len(num_heads) != len(levels):
        raise ValueError(
            "`num_heads` must be an integer or a list with one for each of the "
            f"{len(levels)} levels of `fork_at`. Received: num_heads={num_heads!r}"
        )
    for count in num_heads:
        check_num_heads(count)
    return list(num_heads)


def _per_branch(entries, branches):
    """One entry of a level for every branch that may fork."""
    if not isinstance(entries, list | tuple):
        entries = [entries] * len(branches)
    nested = any(isinstance(entry, list | tuple) for entry in entries)
    if nested or len(entries) != len(branches):
        raise ValueError(
            "`fork_at` must hold, for a level, a layer or its name or a list with one "
            f"entry for each of the {len(branches)} branches that the level before "
            f"makes. Received: {entries!r} in fork_at"
        )
    if all(entry is None for entry in entries):
        raise ValueError(
            "`fork_at` must let at least one branch fork at every level; leave out a "
            f"level at which none does. Received: {entries!r} in fork_at"
        )
    return entries
