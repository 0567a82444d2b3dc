"""How a model makes, calls and trains an ensembler, whichever layer it is."""

import inspect

import tensorflow as tf

from ensemble_heads import model_inputs
from ensemble_heads.ensemblers.ensembler import Ensembler
from ensemble_heads.ensemblers.mean import Mean
from ensemble_heads.keras_api import keras
from ensemble_heads.predictions import EnsemblePrediction, Prediction, scale_gradient


def build(layer, num_heads, shape, features):
    """Makes the layer's weights and checks the shape of what it returns.

    Args:
        layer: a Keras layer.
        num_heads: int.
        shape: tuple, that of one head's output, the batch first.
        features: structure of symbolic tensors, what the trunk gives.

    Raises:
        ValueError: the layer returns another shape than `shape`.
    """
    if isinstance(layer, Mean):
        return
    stack = entry = keras.Input(
        (num_heads, *shape[1:]), batch_size=shape[0], dtype="float32"
    )
    if uses_features(layer):
        features = _with_mask(features)
        entry = [stack, tf.nest.map_structure(model_inputs.input_like, features)]
    result = layer(entry)
    if tuple(result.shape) != shape:
        raise ValueError(
            "`ensembler` must turn stacked predictions of shape "
            f"{tuple(stack.shape)} into one prediction of shape {shape}. "
            f"Received: layer `{layer.name}`, which returns {tuple(result.shape)}"
        )


def predict(ensembler, heads, mask, gradient, training, features):
    """The `EnsemblePrediction` of one output of a model.

    Args:
        ensembler: a Keras layer.
        heads: `Prediction` of logits `[batch, heads, …]`.
        mask: bool tensor `[batch, …]` of the positions that count, or None.
        gradient: float, factor on the gradient that flows out of an ensembler with
            weights, or None.
        training: bool or None.
        features: what the trunk gives.
    """
    parametric = bool(ensembler.trainable_weights)
    entry = heads
    if uses_features(ensembler):
        features = _with_mask(features)
    if parametric and gradient is not None:
        entry = heads.with_logits(scale_gradient(heads.logits, gradient))
        if uses_features(ensembler):
            features = _scale_features(features, gradient)
    ensemble = combine(ensembler, entry, training=training, features=features)
    return EnsemblePrediction(heads, ensemble, parametric, mask)


def uses_features(ensembler):
    """Whether an ensembler layer takes the trunk's features beside the predictions."""
    return isinstance(ensembler, Ensembler) and ensembler.uses_features


def combine(ensembler, heads, training=None, features=None):
    """The ensemble's `Prediction` by any ensembler layer.

    Args:
        ensembler: an `Ensembler`, or any Keras layer that works on plain tensors.
        heads: `Prediction` of logits `[batch, heads, …]`.
        training: bool or None.
        features: what the trunk gives; looked at by ensemblers that use it.
    """
    if uses_features(ensembler):
        return ensembler.combine(heads, training=training, features=features)
    if isinstance(ensembler, Ensembler):
        return ensembler.combine(heads, training=training)
    accepts = "training" in inspect.signature(ensembler.call).parameters
    arguments = {"training": training} if accepts else {}
    values = ensembler(heads.values, **arguments)
    return Prediction.from_values(values, heads.link, heads.form)


def _with_mask(features):
    """The one tensor of features, where the trunk gives its mask as a second one.

    Keras 3 makes masks of layers tensors of the graph, so a fork can cut them.
    """
    flat = tf.nest.flatten(features)
    masks = [tensor for tensor in flat if tensor.dtype in (tf.bool, "bool")]
    others = [tensor for tensor in flat if tensor.dtype not in (tf.bool, "bool")]
    if len(others) != 1 or len(masks) != 1:
        return features
    if tf.is_tensor(masks[0]) and len(masks[0].shape) == len(others[0].shape) - 1:
        others[0]._keras_mask = masks[0]
    return others[0]


def _scale_features(features, gradient):
    def scale(tensor):
        if not tensor.dtype.is_floating:
            return tensor
        scaled = scale_gradient(tensor, gradient)
        mask = getattr(tensor, "_keras_mask", None)
        if mask is not None:
            scaled._keras_mask = mask
        return scaled

    return tf.nest.map_structure(scale, features)
