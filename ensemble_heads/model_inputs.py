"""What a model takes: the tensor specifications and the names of its inputs."""

import tensorflow as tf

from ensemble_heads import graph
from ensemble_heads.keras_api import keras


def functional_part(model):
    """The functional model that takes a model's inputs; None if there is none.

    Args:
        model: a Keras model; of a multi-headed model it is the trunk.
    """
    if graph.is_functional(model):
        return model
    trunk = getattr(model, "trunk", None)
    return trunk if graph.is_functional(trunk) else None


def input_specs(model, input_shape=None, batch_size=None):
    """Structure of `tf.TensorSpec`, as a model is called with.

    Args:
        model: a Keras model.
        input_shape: structure of shapes of one example, without the batch, or of
            `tf.TensorSpec` of such shapes. Default: the shapes of `model`.
        batch_size: int, or None for an unknown batch size.

    Returns:
        Tensor or list or dict of `tf.TensorSpec`, the batch first; named as the
        inputs of `model` where they have names.

    Raises:
        ValueError: `model` has no input shapes of its own and none are given, or the
            two do not fit.
    """
    part = functional_part(model)
    if part is None:
        if input_shape is None:
            raise ValueError(
                f"`input_shape` must be given for `{model.name}`, a subclassed model, "
                "which does not tell what it takes: the shape of one example without "
                f"the batch. Received: input_shape={input_shape}"
            )
        return _map_shapes(lambda shape: _spec(shape, batch_size), input_shape)
    network = graph.read(part)
    own = tf.nest.map_structure(
        lambda tensor: tf.TensorSpec(
            (batch_size, *tensor.shape[1:]), tensor.dtype, tensor.name
        ),
        network.inputs,
    )
    return own if input_shape is None else _refine(own, input_shape, batch_size)


def _refine(own, input_shape, batch_size):
    """The model's own specifications with unknown dimensions filled in."""
    given = tf.nest.flatten(
        _map_shapes(lambda shape: _spec(shape, batch_size), input_shape)
    )
    flat = tf.nest.flatten(own)
    fits = len(given) == len(flat) and all(
        spec.shape.is_compatible_with(mine.shape) for spec, mine in zip(given, flat)
    )
    if not fits:
        shapes = tf.nest.map_structure(lambda spec: tuple(spec.shape[1:]), own)
        raise ValueError(
            "`input_shape` must be the shape of one example as the model takes it, "
            f"which is {shapes}. Received: input_shape={input_shape}"
        )
    refined = [
        tf.TensorSpec(mine.shape.merge_with(spec.shape), mine.dtype, mine.name)
        for spec, mine in zip(given, flat)
    ]
    return tf.nest.pack_sequence_as(own, refined)


def _map_shapes(function, structure):
    if _is_shape(structure):
        return function(structure)
    if isinstance(structure, dict):
        return {key: _map_shapes(function, item) for key, item in structure.items()}
    if isinstance(structure, list | tuple):
        return [_map_shapes(function, item) for item in structure]
    raise ValueError(
        "`input_shape` must be a shape, or a list or dict of shapes. "
        f"Received: input_shape={structure!r}"
    )


def _is_shape(item):
    if isinstance(item, tf.TensorSpec | tf.TensorShape):
        return True
    return isinstance(item, list | tuple) and all(
        size is None or isinstance(size, int) for size in item
    )


def _spec(shape, batch_size):
    if isinstance(shape, tf.TensorSpec):
        return tf.TensorSpec((batch_size, *shape.shape), shape.dtype)
    return tf.TensorSpec((batch_size, *shape), keras.backend.floatx())


def input_like(tensor):
    """A new `keras.Input` of the shape, dtype and name of a symbolic tensor."""
    return keras.Input(
        shape=tuple(tensor.shape[1:]),
        batch_size=tensor.shape[0],
        dtype=tensor.dtype,
        name=tensor.name.split(":")[0],
    )


def known_inputs(model, inputs):
    """A dict of inputs without what a model has no input for, such as an example's id.

    Keras 2 ignores such keys, Keras 3 takes them for other inputs.

    Args:
        model: functional `keras.Model`.
        inputs: what it is to be called on.
    """
    if not isinstance(inputs, dict):
        return inputs
    known = model.input
    if not isinstance(known, dict):
        known = tf.nest.map_structure(lambda tensor: tensor.name.split(":")[0], known)
    else:
        known = {key: key for key in known}
    if not set(tf.nest.flatten(known)) <= set(inputs):
        return inputs  # Keras tells what is missing.
    return tf.nest.map_structure(lambda name: inputs[name], known)
