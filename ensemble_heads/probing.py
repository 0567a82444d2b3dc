"""Finds what a layer without a width rule does to sizes, by trying other sizes.

The layer is cloned and called on symbolic inputs in which every width has a size of
its own; where each size comes out again shows which axis it belongs to. Layers with
weights are not guessed at: their own widths cannot be seen from outside.
"""

import itertools

import tensorflow as tf

from ensemble_heads import axes as ax
from ensemble_heads import ties
from ensemble_heads.graph import Tensor, clone_layer
from ensemble_heads.keras_api import keras
from ensemble_heads.shape_rules import broadcast, fixed_shape

_TRIALS = ((2, 1), (3, 2))  # width k is tried at base * (first + k * second)


def probe(tracer, node):
    """Width rule for whatever has none."""
    weighted = isinstance(node.layer, keras.layers.Layer) and node.layer.weights
    if weighted and id(node.layer) not in tracer.kept:
        raise ties.TieError("a layer with weights of a class that has no width rule")
    if tracer.is_fixed(node):
        tracer.set_outputs(node, *(fixed_shape(t.shape) for t in node.outputs))
        return
    shapes = _try(tracer, node)
    if shapes is None and len(node.inputs) > 1:
        broadcast(tracer, node)
        shapes = _try(tracer, node)
    if shapes is None and weighted:
        # it was asked to keep its size, so what it takes keeps its size as well
        for axis in itertools.chain(*tracer.input_axes(node)):
            ties.pin(axis)
        shapes = [fixed_shape(tensor.shape) for tensor in node.outputs]
    if shapes is None:
        raise ties.TieError("it does not accept other sizes than it had")
    tracer.set_outputs(node, *shapes)


def _try(tracer, node):
    """Axes of each output, or None where the layer refuses other sizes."""
    inputs = dict(zip(node.inputs, tracer.input_axes(node), strict=True))
    axes = itertools.chain(*inputs.values())
    widths = dict.fromkeys(w for axis in axes for w in axis.widths())
    trials = []
    for start, step in _TRIALS:
        values = {w: w.base * (start + i * step) for i, w in enumerate(widths)}
        shapes = _call(node, inputs, values)
        if shapes is None:
            return None
        trials.append((values, shapes))
    return [
        [
            _find_axis(tensor.shape[place], place, inputs, trials, index)
            for place in range(len(tensor.shape))
        ]
        for index, tensor in enumerate(node.outputs)
    ]


def _call(node, inputs, values):
    """Shapes of the outputs for inputs of the given sizes; None if it fails."""

    def stand_in(item):
        if not isinstance(item, Tensor):
            return item
        shape = tuple(axis.size(values) for axis in inputs[item])
        return keras.Input(shape=shape[1:], batch_size=shape[0], dtype=item.dtype)

    try:
        args, kwargs = tf.nest.map_structure(stand_in, (node.args, node.kwargs))
        results = clone_layer(node.layer)(*args, **kwargs)
    except Exception:  # whatever the layer raises, it does not take these sizes
        return None
    return [tuple(result.shape) for result in tf.nest.flatten(results)]


def _find_axis(size, place, inputs, trials, index):
    """The axis of an output that has these sizes in the original and all trials."""
    sizes = [shapes[index][place] for _, shapes in trials]
    if all(tried == size for tried in sizes):
        return ax.fixed(size)
    candidates = [
        (abs(place - position), axis)
        for axes in inputs.values()
        for position, axis in enumerate(axes)
        if axis.widths()
    ]
    for _, axis in sorted(candidates, key=lambda pair: pair[0]):
        tried = [axis.size(values) for values, _ in trials]
        if axis.size() == size and tried == sizes:
            return axis
    raise ties.TieError(f"it makes axis {place} of the output in an unknown way")
