"""Width rules of the layers that fold, move, join or merge axes.

See `width_rules.width_rule` for what a rule is. Bare operations share them.
"""

import math

import numpy as np

from ensemble_heads import axes as ax
from ensemble_heads import ties
from ensemble_heads.graph import Tensor, tensors_in
from ensemble_heads.keras_api import keras
from ensemble_heads.width_rules import keras_layers, width_rule


def fixed_shape(shape):
    """Axes of a shape that cannot change."""
    return tuple(ax.fixed(size) for size in shape)


@width_rule(keras.layers.Flatten)
def flatten(tracer, node):
    """Folds all axes but the batch into one; channels last in any data format."""
    (x,) = tracer.input_axes(node)
    rest = list(x[1:])
    if getattr(node.layer, "data_format", None) == "channels_first" and rest:
        rest = [*rest[1:], rest[0]]
    tracer.set_outputs(node, [x[0], ax.product(rest)])


@width_rule(keras.layers.Reshape)
def reshape(tracer, node):
    """Refolds the axes; sizes in `target_shape` follow the widths."""
    (x,) = tracer.input_axes(node)
    out = refold(x[1:], node.outputs[0].shape[1:])
    target = tuple(
        -1 if size == -1 else axis
        for size, axis in zip(node.layer.target_shape, out, strict=True)
    )
    tracer.set_config(node.layer, target_shape=target)
    tracer.set_outputs(node, [x[0], *out])


def refold(axes, sizes):
    """Axes of the given original sizes that hold what `axes` held, in that order.

    Equal sizes at the front and at the back stay as they are, known or not; what is
    between is folded anew. Nothing with a width may be folded into an unknown size.
    """
    axes, sizes, front, back = list(axes), list(sizes), [], []
    while axes and sizes and axes[0].size() == sizes[0]:
        front.append(axes.pop(0))
        sizes.pop(0)
    while axes and sizes and axes[-1].size() == sizes[-1]:
        back.insert(0, axes.pop())
        sizes.pop()
    if not sizes and all(axis.size() == 1 for axis in axes):
        return [*front, *back]
    whole = ax.product(axes) if axes else ax.fixed(1)
    if None in sizes or whole.size() != math.prod(sizes):
        if whole.widths():
            raise ties.TieError("a width is folded into an axis of unknown size")
        return [*front, *fixed_shape(sizes), *back]
    return [*front, *ties.split_product(whole, sizes), *back]


@width_rule(keras.layers.Permute)
def permute(tracer, node):
    """Moves the axes."""
    (x,) = tracer.input_axes(node)
    tracer.set_outputs(node, [x[0], *(x[place] for place in node.layer.dims)])


@width_rule(keras.layers.RepeatVector)
def repeat_vector(tracer, node):
    """Adds an axis before the last."""
    (x,) = tracer.input_axes(node)
    tracer.set_outputs(node, [x[0], ax.fixed(node.layer.n), x[1]])


@width_rule(keras.layers.Concatenate)
def concatenate(tracer, node):
    """Puts the axes one behind the other and ties all others."""
    tracer.set_outputs(node, join(tracer, node, node.layer.axis))


def join(tracer, node, axis):
    """Axes of the concatenation of a call's inputs."""
    shapes = tracer.input_axes(node)
    axis %= len(shapes[0])
    for shape in shapes[1:]:
        for place, (a, b) in enumerate(zip(shapes[0], shape, strict=True)):
            if place != axis and a.size() is not None and b.size() is not None:
                tracer.tie(a, b)
    out = list(tracer.input_axes(node)[0])
    out[axis] = ax.concat([shape[axis] for shape in tracer.input_axes(node)])
    return out


@width_rule(
    *keras_layers("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
)
def merge(tracer, node):
    """Ties all inputs, but for axes that are broadcast."""
    tracer.set_outputs(node, broadcast(tracer, node))


def constants(node):
    """Shapes of the arrays among the arguments of a call, as axes."""
    shapes = []
    for item in [*node.args, *node.kwargs.values()]:
        if isinstance(item, Tensor) or tensors_in(item):
            continue
        shape = np.shape(item) if isinstance(item, (list, tuple)) else ()
        shapes.append(fixed_shape(getattr(item, "shape", shape)))
    return [shape for shape in shapes if shape]


def broadcast(tracer, node):
    """Axes of an elementwise operation on a call's inputs, which it ties.

    What is as long as an array of constants keeps its size.
    """
    shapes = [*tracer.input_axes(node), *constants(node)]
    rank = max(map(len, shapes))
    for place in range(1, rank + 1):
        aligned = [shape[-place] for shape in shapes if place <= len(shape)]
        wide = [axis for axis in aligned if axis.size() not in (1, None)]
        for axis in wide[1:]:
            tracer.tie(wide[0], axis)
    out = []
    for place in range(rank, 0, -1):
        shapes = [*tracer.input_axes(node), *constants(node)]
        aligned = [shape[-place] for shape in shapes if place <= len(shape)]
        out.append(next((axis for axis in aligned if axis.size() != 1), aligned[0]))
    return out


@width_rule(keras.layers.Dot)
def dot(tracer, node):
    """Ties the two axes that are summed over."""
    first, second = tracer.input_axes(node)
    axes = node.layer.axes
    i, j = (axes, axes) if isinstance(axes, int) else axes
    i, j = i % len(first), j % len(second)
    tracer.tie(first[i], second[j])
    first, second = tracer.input_axes(node)
    left = [axis for place, axis in enumerate(first) if place != i]
    right = [axis for place, axis in enumerate(second) if place not in (0, j)]
    out = left + right
    tracer.set_outputs(node, out if len(out) > 1 else [*out, ax.fixed(1)])
