"""Activations that are computed again for the gradient instead of being kept.

A functional model is run in segments of about the root of its number of layers (Chen et
al. 2016, arXiv:1604.06174): only what passes from one segment to the next is kept, and
a segment's own activations are computed once more when its gradient is due. Segments
end, where they can, at a single tensor, such as between two residual units.

Keras 3's own `RematScope` cannot be used: on TensorFlow it fails in any layer that is
called with keyword arguments inside of a `tf.function`, as all layers of a functional
model are. `tf.recompute_grad` is used here, but is given all variables as tensors:
where it finds variables by itself, gradients of some models came out wrong on both
lines. Keras 2 cannot run layers on tensors in place of their variables.
"""

import contextlib
import dataclasses
import math
import threading

import tensorflow as tf

from ensemble_heads import batch_norms, keras_networks
from ensemble_heads import graph as graphs
from ensemble_heads.keras_api import KERAS_3, keras

_layers = keras.layers
_NAMES = (
    *("Dense", "Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax"),
    *("LayerNormalization", "Flatten", "Reshape", "Permute", "RepeatVector"),
    *("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"),
    *("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D"),
)
_NAMES_OF_RANKS = (
    *("Conv{}D", "Conv{}DTranspose", "ZeroPadding{}D", "Cropping{}D", "UpSampling{}D"),
    *("MaxPooling{}D", "AveragePooling{}D"),
    *("GlobalAveragePooling{}D", "GlobalMaxPooling{}D"),
)
# What computes the same again from the same inputs and variables.
_KNOWN = {getattr(_layers, name) for name in _NAMES}
_KNOWN |= {
    getattr(_layers, name.format(r)) for name in _NAMES_OF_RANKS for r in (1, 2, 3)
}

_local = threading.local()  # replicas run in threads of their own


@dataclasses.dataclass(eq=False)
class Segment:
    """Some consecutive calls of a graph.

    Attributes:
        nodes: list of `graph.Node`.
        known: bool, whether all can be run again.
        inputs: list of `graph.Tensor`, what they take from outside.
        outputs: list of `graph.Tensor`, what others take of theirs.
    """

    nodes: list
    known: bool
    inputs: list
    outputs: list

    def run(self, given, training):
        """List of tensors, one per output, from one per input."""
        values = dict(zip(self.inputs, given, strict=True))

        def value(item):
            return values[item] if isinstance(item, graphs.Tensor) else item

        for node in self.nodes:
            args, kwargs = tf.nest.map_structure(value, (node.args, node.kwargs))
            # As Keras 3, which overrules what a call of the graph says of it.
            if training is not None and keras_networks.is_handed_training(node.layer):
                kwargs["training"] = training
            results = tf.nest.flatten(node.layer(*args, **kwargs))
            values.update(zip(node.outputs, results, strict=True))
        return [values[tensor] for tensor in self.outputs]


def check(wanted, devices):
    """Raises a `ValueError` where activations cannot be computed again.

    Args:
        wanted: bool, as `compile(recompute_activations=…)` takes it.
        devices: tuple of the heads' devices, or None.
    """
    if not isinstance(wanted, bool):
        raise ValueError(
            "`recompute_activations` must be True or False. "
            f"Received: recompute_activations={wanted!r}"
        )
    if wanted and not KERAS_3:
        raise ValueError(
            "`recompute_activations` must be False on Keras 2, which cannot run a "
            "layer twice and move batch-norm statistics once. TensorFlow 2.21 can. "
            "Received: recompute_activations=True"
        )
    if wanted and devices:
        raise ValueError(
            "`recompute_activations` must be False for heads on devices of their own, "
            "whose weights it would send to the trunk's. "
            f"Received: recompute_activations=True and heads on {devices}"
        )


@contextlib.contextmanager
def active_if(wanted):
    """Lets what is run meanwhile in this thread keep the ends of segments alone."""
    before = is_active()
    _local.active = bool(wanted)
    try:
        yield
    finally:
        _local.active = before


def is_active():
    """Whether `active_if(True)` holds in this thread."""
    return getattr(_local, "active", False)


def run(network, inputs, training):
    """What a functional model gives, in segments where `is_active()`.

    Args:
        network: functional `keras.Model`.
        inputs: structure of tensors, as `network` takes them.
        training: bool or None.
    """
    if not is_active():
        return network(inputs, training=training)
    graph = graphs.read(network)
    tensors = graphs.tensors_in(graph.inputs)
    values = dict(
        zip(tensors, keras_networks.standardized(network, inputs), strict=True)
    )
    with keras_networks.one_call(network):
        for segment in segments(graph):
            given = [values[tensor] for tensor in segment.inputs]
            masked = any(getattr(v, "_keras_mask", None) is not None for v in given)
            again = segment.known and len(segment.nodes) > 1 and not masked
            results = (_run_again if again else Segment.run)(segment, given, training)
            values.update(zip(segment.outputs, results, strict=True))
    return tf.nest.map_structure(values.__getitem__, graph.outputs)


def segments(graph):
    """List of `Segment` that hold all nodes of a graph, in order."""
    shortest = math.isqrt(max(len(graph.nodes) - 1, 0)) + 1
    last_use = {tensor: len(graph.nodes) for tensor in graphs.tensors_in(graph.outputs)}
    for position, node in enumerate(graph.nodes):
        for tensor in node.inputs:
            last_use[tensor] = max(position, last_use.get(tensor, -1))
    parts, alive = [], set(graphs.tensors_in(graph.inputs))
    for position, node in enumerate(graph.nodes):
        alive |= set(node.outputs)
        alive = {tensor for tensor in alive if last_use.get(tensor, -1) > position}
        known = _is_known(node.layer)
        if not parts or parts[-1].ended or parts[-1].known != known:
            parts.append(_Part(known))
        parts[-1].nodes.append(node)
        parts[-1].ended = len(alive) <= 1 and len(parts[-1].nodes) >= shortest
    return [part.segment(last_use, graph) for part in parts]


class _Part:
    """A segment that is still growing."""

    def __init__(self, known):
        self.nodes, self.known, self.ended = [], known, False

    def segment(self, last_use, graph):
        made = [tensor for node in self.nodes for tensor in node.outputs]
        taken = dict.fromkeys(t for node in self.nodes for t in node.inputs)
        inside = {id(node) for node in self.nodes}
        last = max(i for i, node in enumerate(graph.nodes) if id(node) in inside)
        outputs = [tensor for tensor in made if last_use.get(tensor, -1) > last]
        inputs = [tensor for tensor in taken if tensor not in set(made)]
        return Segment(self.nodes, self.known, inputs, outputs)


def _is_known(layer):
    # Of a layer that is run apart, penalties on what it gives would be lost.
    if getattr(layer, "activity_regularizer", None) is not None:
        return False
    if batch_norms.is_known(layer):
        return not getattr(layer, "synchronized", False)
    return type(layer) in _KNOWN


def _run_again(segment, given, training):
    """As `Segment.run`, keeping no activations.

    All variables go in as tensors, and the statistics that layers assign come out: so
    the second time begins where the first one did and changes nothing.
    """
    layers = {id(node.layer): node.layer for node in segment.nodes}.values()
    trained = [v for layer in layers for v in layer.trainable_variables]
    others = [v for layer in layers for v in layer.non_trainable_variables]
    before = [tf.convert_to_tensor(variable) for variable in trained + others]
    assigned = []

    def function(*tensors):
        mapping = zip(trained + others, tensors[len(given) :], strict=True)
        with keras.StatelessScope(state_mapping=list(mapping)) as scope:
            results = segment.run(tensors[: len(given)], training)
        if not assigned:
            assigned.append([scope.get_current_value(other) for other in others])
        return tuple(results)

    results = tf.recompute_grad(function)(*given, *before)
    for variable, value in zip(others, assigned[0], strict=True):
        variable.assign(value)
    return tf.nest.flatten(results)
