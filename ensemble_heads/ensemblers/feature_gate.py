"""Gates on the trunk's features: weights of the heads, for every example."""

import tensorflow as tf

from ensemble_heads.ensemblers.ensembler import Ensembler
from ensemble_heads.keras_api import keras
from ensemble_heads.predictions import widen


class FeatureGate(Ensembler):
    """Base of ensemblers that weight the heads by what they see of the features.

    The features, averaged over all axes between the first and the last (masked steps
    left out), go through a dense layer with one unit per head; `gate_logits` of the
    subclass makes of its outputs what goes into a softmax.

    Input shape:
        A list of the heads' predictions `[batch, heads, …]` and of the features
        `[batch, …, channels]`, one tensor, channels last.

    Output shape:
        `[batch, …]`.
    """

    uses_features = True
    use_bias = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape):
        stack, features = _shapes(self, input_shape)
        self.dense = keras.layers.Dense(
            stack[1], use_bias=self.use_bias, dtype=self.dtype, name="gate"
        )
        self.dense.build((None, features[-1]))
        self.build_gate(stack[1])
        super().build(input_shape)

    def build_gate(self, num_heads):
        """Makes what a subclass has behind the dense layer."""

    def gate_logits(self, scores, training):
        """What goes into the softmax, `[batch, heads]`.

        Args:
            scores: `[batch, heads]`, the dense layer's outputs.
            training: bool or None.
        """
        return scores

    def log_weights(self, features, training=None):
        """log g, the logarithms of the heads' weights, `[batch, heads]`."""
        pooled = self.dense(_pool(features))
        return tf.nn.log_softmax(widen(self.gate_logits(pooled, training)))

    def combine(self, heads, training=None, features=None):
        weights = self.log_weights(features, training)
        for _ in range(heads.logits.shape.rank - 2):
            weights = weights[..., tf.newaxis]
        return self.mix(heads, tf.cast(weights, heads.logits.dtype))

    def mix(self, heads, log_weights):
        """The weighted `Prediction`.

        Args:
            heads: `Prediction` `[batch, heads, …]`.
            log_weights: `[batch, heads, 1, …]`, log g in the rank of the logits.
        """
        raise NotImplementedError(
            f"`{type(self).__name__}` must implement `mix(heads, log_weights)`."
        )

    def compute_mask(self, inputs, mask=None):
        return None


def _shapes(layer, input_shape):
    """Shapes of the heads' predictions and of the features, as tuples."""
    one_tensor = isinstance(input_shape, (list, tuple)) and len(input_shape) == 2
    if one_tensor and not isinstance(input_shape[0], (int, type(None))):
        stack, features = input_shape
        if not isinstance(features, dict) and all(
            size is None or isinstance(size, int) for size in features
        ):
            return tuple(stack), tuple(features)
    raise ValueError(
        f"`ensembler` {type(layer).__name__} must be called on a list of the heads' "
        "predictions and one tensor of features: its gate sees what the trunk gives. "
        "Where the trunk gives several tensors, fork at a later layer, or join them "
        f"there. Received: inputs of shape {input_shape}"
    )


def _pool(features):
    """The mean over all axes between the first and the last, `[batch, channels]`."""
    mask = getattr(features, "_keras_mask", None)
    features = widen(features)
    axes = list(range(1, features.shape.rank - 1))
    if not axes:
        return features
    if mask is None:
        return tf.reduce_mean(features, axis=axes)
    counted = tf.cast(mask, features.dtype)
    while counted.shape.rank < features.shape.rank:
        counted = counted[..., tf.newaxis]
    counted = tf.broadcast_to(counted, tf.shape(features))
    return tf.math.divide_no_nan(
        tf.reduce_sum(features * counted, axis=axes), tf.reduce_sum(counted, axis=axes)
    )
