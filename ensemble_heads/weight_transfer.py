"""Starts narrower heads from the weights of a trained model.

Of every width that shrinks, the channels of largest norm are kept: the L2 norm over
all kernels that make these channels, in all layers that are tied. The same channels
are then taken from every weight they occur in.

References:
    Li et al. 2017, Pruning filters for efficient convnets, arXiv:1608.08710 (norms).
"""

import numpy as np

from ensemble_heads import axes as ax
from ensemble_heads import probing
from ensemble_heads.cloning import copy_state


def copy_all(graph, copy):
    """Copies weights into a copy of the same sizes, of the graph or of a part of it."""
    layers = {id(node.layer): node.layer for node in graph.nodes}
    for layer_id, new in copy.layers.items():
        if getattr(new, "weights", None):
            copy_state(layers[layer_id], new)


def copy_kept(graph, copy, traced, sizes):
    """Copies into a narrower copy what it keeps of every weight.

    Args:
        graph: `Graph` of the original layers.
        copy: `cloning.Copy` of it, or of a part of it.
        traced: the graph's `Trace`; None where all sizes are the original ones.
        sizes: {Width: int}, the new sizes.

    Raises:
        ValueError: a width grows, or the axes of a layer's weights are not known.
    """
    if traced is None:
        copy_all(graph, copy)
        return
    for width, size in sizes.items():
        if size > width.base:
            raise ValueError(
                "`copy_weights` must be False where layers become wider: there is "
                f"nothing to fill new channels with. Layer `{width.owner}` goes from "
                f"{width.base} to {size}. Received: copy_weights=True"
            )
    for node in traced.probed:
        if probing.moves_channels(node, traced.axes):
            raise ValueError(
                "`copy_weights` must be False, or the width multiplier 1: layer "
                f"`{node.name}` ({type(node.layer).__name__}) moves channels, so that "
                "it is not known which ones belong together. "
                "Received: copy_weights=True"
            )
    layers = {id(node.layer): node.layer for node in graph.nodes}
    kept = kept_channels(layers, traced, sizes)
    for layer_id, new in copy.layers.items():
        layer = layers[layer_id]
        if getattr(layer, "weights", None):
            values = _selected(layer, new, traced, kept)
            _keep_temperature(layer_id, values, traced, sizes)
            _check_shapes(layer, new, values)
            new.set_weights(values)


def _keep_temperature(layer_id, values, traced, sizes):
    """Makes up for attention that divides by the root of a size that shrinks."""
    axis, positions = traced.temperatures.get(layer_id, (ax.fixed(1), ()))
    for position in positions:
        values[position] = values[position] * np.sqrt(axis.size(sizes) / axis.size())


def _check_shapes(layer, new, values):
    found = [value.shape for value in values]
    wanted = [tuple(weight.shape) for weight in new.weights]
    if found != wanted:
        raise ValueError(
            "`copy_weights` must be False where `overrides` change the shape of "
            f"weights otherwise than by width: layer `{layer.name}` has weights of "
            f"{found} to copy and takes {wanted}. Received: copy_weights=True"
        )


def kept_channels(layers, traced, sizes):
    """Which channels of every width are kept.

    Args:
        layers: {id: original layer}.
        traced: `Trace`.
        sizes: {Width: int}, the new sizes.

    Returns:
        {Width: int array of positions, in their original order}.
    """
    scores = {width: np.zeros(width.base) for width in sizes}
    for layer_id in {place[0] for place in traced.widths}:
        for weight, axes in _weights_with_axes(layers[layer_id], traced):
            if len(axes) > 1:
                _add_scores(weight, axes, _own_widths(traced, layer_id), scores)
    return {
        width: np.sort(np.argsort(-scores[width], kind="stable")[:size])
        for width, size in sizes.items()
    }


def _own_widths(traced, layer_id):
    """The free widths that a layer makes itself, rather than takes."""
    return {
        root
        for (owner, _), width in traced.widths.items()
        if owner == layer_id
        for root in ax.variable(width).widths()
    }


def _add_scores(weight, axes, widths, scores):
    """Adds the squared norms of a kernel's slices to the widths that it makes."""
    squares = np.square(weight.astype("float64"))
    # Where one width is on two axes (recurrent kernels), the last one is what is made.
    for position in range(len(axes) - 1, -1, -1):
        roots = set(axes[position].widths())
        if roots & widths:
            others = tuple(i for i in range(len(axes)) if i != position)
            axes[position].gather(squares.sum(axis=others), scores)
            return


def _weights_with_axes(layer, traced):
    axes = traced.weights.get(id(layer), [])
    return list(zip(layer.get_weights(), axes, strict=len(axes) > 0))


def _selected(layer, new, traced, kept):
    """What is kept of each weight of a layer."""
    pairs = _weights_with_axes(layer, traced)
    if not pairs:
        shapes = [tuple(w.shape) for w in layer.weights]
        if shapes != [tuple(w.shape) for w in new.weights]:
            raise ValueError(
                "`copy_weights` must be False, or the width multiplier 1: it is not "
                f"known how the weights of layer `{layer.name}` "
                f"({type(layer).__name__}) follow its widths. "
                "Received: copy_weights=True"
            )
        return layer.get_weights()
    return [
        weight[np.ix_(*(axis.indices(kept) for axis in axes))] if axes else weight
        for weight, axes in pairs
    ]
