"""How each line of Keras keeps the graph of a functional model.

These are private parts of Keras, so that they are reached in this file only.
"""

import contextlib

import tensorflow as tf

from ensemble_heads.keras_api import KERAS_3, keras


def network(model):
    """What holds the graph of a functional model; None if there is no such graph."""
    if not isinstance(model, keras.Model):
        return None
    if KERAS_3:
        if isinstance(model, keras.Sequential):
            return getattr(model, "_functional", None)
        functional = hasattr(model, "_nodes_by_depth")
    else:
        functional = model._is_graph_network
    return model if functional and _runs_its_graph(model) else None


def _runs_its_graph(model):
    """False for a functional subclass that overrides `call`."""
    module = type(model).call.__module__
    return module.startswith("keras.")


def nodes(network):
    """The calls of a graph, each after those it takes its inputs from."""
    for _, nodes in sorted(network._nodes_by_depth.items(), reverse=True):
        yield from nodes


def node_parts(node):
    """(layer or operation, args, kwargs, flat list of outputs) of one call."""
    if KERAS_3:
        args, kwargs = node.arguments.args, node.arguments.kwargs
        return node.operation, args, kwargs, list(node.outputs)
    return node.layer, node.call_args, node.call_kwargs, tf.nest.flatten(node.outputs)


def structures(network):
    """The structures of (inputs, outputs)."""
    if KERAS_3:
        return network._inputs_struct, network._outputs_struct
    return network._nested_inputs, network._nested_outputs


def history(keras_tensor):
    """The layer that made a symbolic tensor."""
    history = keras_tensor._keras_history
    return history.operation if KERAS_3 else history.layer


def is_symbolic(item):
    """Whether something is a symbolic tensor of Keras."""
    return hasattr(item, "_keras_history")


def dtype_name(dtype):
    """A dtype as a string."""
    return dtype if isinstance(dtype, str) else tf.as_dtype(dtype).name


def not_functional(model):
    """The message for a model that has no graph, by what it is instead."""
    if isinstance(model, keras.Sequential):
        return (
            f"Sequential model `{model.name}` has no input shape yet, so it has no "
            "graph to cut. Start it with `keras.Input(shape=…)`, or call "
            "`model.build((None, …))` first. Received: a Sequential that is not built"
        )
    if isinstance(model, keras.Model):
        return (
            f"`model` must be a functional model; `{model.name}` is a subclassed "
            "model, whose `call` is Python code without a graph to cut. Rebuild it "
            "with `keras.Input` and `keras.Model(inputs, outputs)`, or wrap just its "
            "upper part in `eh.MultiHeadWrapper`. "
            f"Received: {type(model).__name__}"
        )
    return (
        "`model` must be a functional keras.Model. "
        f"Received: {type(model).__name__}: {model!r}"
    )


def is_handed_training(layer):
    """Whether Keras 3 hands `training` on to a layer, or to what is inside of it."""
    return "training" in getattr(layer, "_call_context_args", ())


@contextlib.contextmanager
def one_call(network):
    """Lets layers that are called meanwhile be inside of one call, on Keras 3.

    Otherwise a layer that is called twice loses the losses of its first call.
    """
    network._get_call_context()
    try:
        yield
    finally:
        network._maybe_reset_call_context()


def standardized(network, inputs):
    """Inputs of a functional model as its own call takes them, flat; on Keras 3.

    A last axis of 1 is added or dropped as the model wants it. Masks are kept.
    """
    flat = network._standardize_inputs(inputs)
    for before, value in zip(tf.nest.flatten(inputs), flat, strict=False):
        mask = getattr(before, "_keras_mask", None)
        if mask is not None:
            value._keras_mask = mask
    return flat


def takes_training(layer):
    """Whether a layer's `call` has the argument `training`."""
    flag = "_call_has_training_arg" if KERAS_3 else "_expects_training_arg"
    return getattr(layer, flag, False)
