"""Clones an upper network into heads at the widths that were asked for."""

import collections

import tensorflow as tf

from ensemble_heads import graph, weight_transfer, widths
from ensemble_heads.branching import cut_at_forks
from ensemble_heads.cloning import Copy, draws_of, new_seed, places
from ensemble_heads.forking import take_off_activations
from ensemble_heads.head_layouts import (
    HeadTree,
    StackedHeads,
    check_num_heads,
    check_tree_execution,
    lay_out,
)
from ensemble_heads.tracing import trace
from ensemble_heads.tree_shapes import Branch


def clone_heads(
    upper,
    num_heads,
    width_multiplier=1.0,
    overrides=None,
    divisor=None,
    seed=None,
    copy_weights=False,
    execution="separate",
):
    """Clones an upper network into heads without their final activations.

    Args:
        upper: functional `keras.Model`, features -> predictions; never changed.
        num_heads, width_multiplier, overrides, divisor, seed, copy_weights, execution:
            as for `multi_head`; `width_multiplier` is a float or a callable.

    Returns:
        (`head_layouts.HeadLayout`; structure of the outputs of `"softmax"`,
        `"sigmoid"`, `"exponential"` or `"linear"`, what was taken off).

    Raises:
        ValueError: as for `multi_head`.
    """
    check_num_heads(num_heads)
    branches = [Branch() for _ in range(num_heads)]
    cloner = HeadCloner(
        branches, width_multiplier, overrides, divisor, seed, copy_weights
    )
    if cloner.multiplier == "auto":
        raise ValueError(
            '`width_multiplier` must be a float or a callable here: "auto" compares '
            "with a whole model, see `eh.multi_head`. "
            "Received: width_multiplier='auto'"
        )
    return cloner.clone(graph.read(upper), cloner.multiplier, execution)


class HeadCloner:
    """What `multi_head` was asked for, checked; clones graphs accordingly.

    Attributes:
        branches: list of `Branch` on the trunk.
        multiplier, overrides, divisor, seed, copy_weights: the arguments of
            `multi_head`, with their defaults filled in.
    """

    def __init__(self, branches, multiplier, overrides, divisor, seed, copy_weights):
        if multiplier != "auto" and not callable(multiplier):
            widths.check_multiplier(multiplier)
        if divisor is None:
            divisor = 8 if multiplier == "auto" else 1
        widths.check_divisor(divisor)
        widths.check_overrides({} if overrides is None else overrides)
        self.branches, self.multiplier = branches, multiplier
        self.overrides, self.divisor = overrides, divisor
        self.seed = new_seed() if seed is None else seed
        self.copy_weights = copy_weights

    @property
    def num_heads(self):
        return sum(branch.num_heads for branch in self.branches)

    def times_built(self, upper):
        """{name of a node: in how many parts of the tree it is}."""
        parts = cut_at_forks(upper, self.branches)
        names = [{node.name for node in part.graph.nodes} for part in parts]
        return collections.Counter(name for some in names for name in some)

    def plan(self, upper, multiplier):
        """Sizes for one multiplier: (trace, widths' sizes, configuration entries)."""
        table, forced, entries, traced = self.trace(upper, multiplier)
        return traced, table.sizes(multiplier, self.divisor, forced), entries

    def trace(self, upper, multiplier):
        """(table of widths, forced sizes, other changes, trace) of a graph.

        At a multiplier of 1 without overrides nothing has to be traced, so that any
        layer is welcome.
        """
        if multiplier == 1 and not self.overrides:
            return widths.WidthTable({}), {}, {}, None
        traced = trace(upper, widths.kept_layers(upper, multiplier))
        forced, entries = widths.split_overrides(upper, traced, self.overrides)
        return widths.width_table(upper, traced), forced, entries, traced

    def clone(self, upper, multiplier, execution="separate"):
        """(layout of heads, links) of a graph for one multiplier."""
        raw, links, activations = take_off_activations(upper)
        parts = cut_at_forks(raw, self.branches)
        traced, sizes, entries = self.plan(raw, multiplier)
        for layer_id, changes in activations.items():
            if "activation" in entries.get(layer_id, {}):
                raise ValueError(
                    "`overrides` must leave the activation of an output alone: it "
                    "says what the model predicts. Change it in the single model. "
                    f"Received: overrides={self.overrides!r}"
                )
            entries[layer_id] = {**entries.get(layer_id, {}), **changes}
        is_tree = any(branch.branches for branch in self.branches)
        kind = "branch" if is_tree else "head"
        names = [f"{kind}_{'.'.join(map(str, part.place))}" for part in parts]

        def make(number):
            graph_of, name = parts[number].graph, names[number]
            copy = Copy(graph_of, name, self.seed, traced, sizes, entries)
            if self.copy_weights:
                weight_transfer.copy_kept(raw, copy, traced, sizes)
            return copy.model

        def make_stack():  # of the first head, for hundreds take long to be made
            first = make(0)
            known = places(parts[0].graph)
            draws = draws_of(graph.read(first), self.seed, names, known)
            return StackedHeads(first, len(names), draws, name="layout")

        if is_tree:
            check_tree_execution(execution)
            parents = [part.parent for part in parts]
            models = [make(i) for i in range(len(parts))]
            layout = HeadTree(models, parents, name="layout")
        else:
            stack = None if self.copy_weights else make_stack
            layout = lay_out(execution, len(names), make, stack)
        return layout, tf.nest.pack_sequence_as(upper.outputs, links)
