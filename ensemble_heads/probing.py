"""Finds what a layer without a width rule does to sizes, by trying other sizes.

The layer is cloned and called on symbolic inputs in which every width has a size of
its own; where each size comes out again shows which axis it belongs to. A layer with
weights is accepted if its output and all its weights follow its input, as those of a
custom scale, bias or norm do: then it has no widths of its own, which could not be
seen from outside.
"""

import dataclasses
import itertools

import numpy as np
import tensorflow as tf

from ensemble_heads import axes as ax
from ensemble_heads import ties
from ensemble_heads.graph import Tensor, clone_layer
from ensemble_heads.keras_api import keras
from ensemble_heads.shape_rules import broadcast, constants, fixed_shape

_TRIALS = ((2, 1), (3, 2))  # width k is tried at base * (first + k * second)
_BATCH = 13
_UNKNOWN = 16


def probe(tracer, node):
    """Width rule for whatever has none."""
    weighted = is_weighted(node.layer)
    kept = id(node.layer) in tracer.kept
    if weighted and not kept:
        _probe_weighted(tracer, node)
        return
    if tracer.is_fixed(node):
        tracer.set_outputs(node, *(fixed_shape(t.shape) for t in node.outputs))
        return
    shapes = _output_axes(_trials(tracer, node), node)
    if shapes is None and (len(node.inputs) > 1 or constants(node)):
        broadcast(tracer, node)
        shapes = _output_axes(_trials(tracer, node), node)
    if shapes is None and weighted:
        # it was asked to keep its size, so what it takes keeps its size as well
        for axis in itertools.chain(*tracer.input_axes(node)):
            ties.pin(axis)
        shapes = [fixed_shape(tensor.shape) for tensor in node.outputs]
    if shapes is None:
        raise ties.TieError("it does not accept other sizes than it had")
    declared = getattr(node.layer, "_output_shape", None)
    if isinstance(node.layer, keras.layers.Lambda) and isinstance(declared, tuple):
        tracer.set_config(node.layer, output_shape=tuple(shapes[0][1:]))
    tracer.result.probed.append(node)
    tracer.set_outputs(node, *shapes)


def moves_channels(node, axes):
    """Whether a call without weights changes the order of channels along an axis.

    Tried out with numbers: permuting the channels of the inputs must permute those
    of the outputs alike.

    Args:
        node: `Node`, traced by `probe`.
        axes: {Tensor: tuple of Axis}, of the trace.
    """
    rng = np.random.default_rng(0)
    tensors = [*node.inputs, *node.outputs]
    widths = {w for t in tensors for axis in axes[t] for w in axis.widths()}
    order = {w: rng.permutation(w.base) for w in widths}

    def draw(tensor):
        shape = [size or _UNKNOWN for size in tensor.shape]
        return tf.cast(rng.uniform(1.0, 9.0, shape), tensor.dtype)

    def permuted(tensor, value):
        places = [
            axis.indices(order) if axis.widths() else np.arange(size)
            for axis, size in zip(axes[tensor], value.shape, strict=True)
        ]
        return np.asarray(value)[np.ix_(*places)]

    values = {tensor: draw(tensor) for tensor in node.inputs}
    moved = {tensor: permuted(tensor, value) for tensor, value in values.items()}
    plain, after = _run(node, values), _run(node, moved)
    return not all(
        np.allclose(permuted(tensor, a), b, rtol=1e-3, atol=1e-3)
        for tensor, a, b in zip(node.outputs, plain, after, strict=True)
    )


def _run(node, values):
    """Outputs of a call on the given values."""

    def value(item):
        return tf.convert_to_tensor(values[item]) if isinstance(item, Tensor) else item

    args, kwargs = tf.nest.map_structure(value, (node.args, node.kwargs))
    return tf.nest.flatten(clone_layer(node.layer)(*args, **kwargs))


def is_weighted(layer):
    """Whether something is a layer that has weights."""
    return isinstance(layer, keras.layers.Layer) and bool(layer.weights)


def _probe_weighted(tracer, node):
    """Accepts a layer whose output and weights follow its one input."""
    reason = "a layer with weights of a class that has no width rule"
    inputs = tracer.input_axes(node)
    if tracer.is_fixed(node) or len(inputs) > 1:
        raise ties.TieError(reason)
    trials = _trials(tracer, node)
    shapes = _output_axes(trials, node)
    if shapes is None or [list(inputs[0])] != shapes:
        raise ties.TieError(reason)
    weights = []
    for index, weight in enumerate(node.layer.weights):
        sizes = [trial.weights[index] for trial in trials]
        axes = [_find_axis(s, trials) for s in zip(weight.shape, *sizes, strict=True)]
        if any(axis.kind == "fixed" and axis.size() != 1 for axis in axes):
            raise ties.TieError(reason)
        weights.append(axes)
    tracer.set_weights(node.layer, *weights)
    tracer.set_outputs(node, *shapes)


@dataclasses.dataclass
class _Trial:
    """What came out for one choice of sizes."""

    values: dict
    inputs: list
    outputs: list
    weights: list


def _trials(tracer, node):
    """List of `_Trial`, or None where the layer refuses other sizes."""
    inputs = {tensor: tracer.axes(tensor) for tensor in node.inputs}
    axes = itertools.chain(*inputs.values())
    widths = dict.fromkeys(w for axis in axes for w in axis.widths())
    trials = []
    for start, step in _TRIALS:
        values = {w: w.base * (start + i * step) for i, w in enumerate(widths)}
        trial = _call(node, inputs, values)
        if trial is None:
            return None
        trials.append(trial)
    return trials


def _call(node, inputs, values):
    """A `_Trial` on inputs of the given sizes; None if it fails."""

    def stand_in(item):
        if not isinstance(item, Tensor):
            return item
        batch, *shape = (axis.size(values) for axis in inputs[item])
        # a known batch, so that nothing can hide in a batch of another size
        batch = batch or _BATCH
        if isinstance(node.layer, keras.layers.Lambda):
            # run for real: its declared output shape need not be what it does
            return tf.zeros([batch, *(size or _UNKNOWN for size in shape)], item.dtype)
        return keras.Input(shape=shape, batch_size=batch, dtype=item.dtype)

    try:
        args, kwargs = tf.nest.map_structure(stand_in, (node.args, node.kwargs))
        layer = clone_layer(node.layer)
        results = tf.nest.flatten(layer(*args, **kwargs))
    except Exception:  # whatever the layer raises, it does not take these sizes
        return None
    outputs = [tuple(result.shape) for result in results]
    if len(outputs) != len(node.outputs):
        return None
    weights = [tuple(w.shape) for w in getattr(layer, "weights", [])]
    return _Trial(values, list(inputs.values()), outputs, weights)


def _output_axes(trials, node):
    """Axes of every output of the trials; None where there are none."""
    if trials is None:
        return None
    shapes = []
    for index, tensor in enumerate(node.outputs):
        tried = [_as_known(trial.outputs[index], tensor) for trial in trials]
        if None in tried:
            return None
        places = zip(tensor.shape, *tried, strict=True)
        shapes.append([_find_axis(sizes, trials, i) for i, sizes in enumerate(places)])
    return shapes


def _as_known(shape, tensor):
    """The tried shape, unknown where the original one is; None if it does not fit."""
    if len(shape) != len(tensor.shape):
        return None
    if tensor.shape[:1] == (None,) and shape[0] not in (None, _BATCH):
        return None
    pairs = zip(shape, tensor.shape, strict=True)
    return tuple(None if known is None else size for size, known in pairs)


def _find_axis(sizes, trials, place=0):
    """The axis that has these sizes: the original one, then one for each trial."""
    size, *tried = sizes
    if all(other == size for other in tried):
        return ax.fixed(size)
    candidates = [
        (abs(place - position), axis)
        for axes in trials[0].inputs
        for position, axis in enumerate(axes)
        if axis.widths()
    ]
    for _, axis in sorted(candidates, key=lambda pair: pair[0]):
        found = [axis.size(trial.values) for trial in trials]
        if axis.size() == size and found == tried:
            return axis
    raise ties.TieError(f"size {size} comes out of it in an unknown way")
