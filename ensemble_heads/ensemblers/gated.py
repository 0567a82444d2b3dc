"""The gated teacher of ONE."""

import tensorflow as tf

from ensemble_heads.ensemblers.feature_gate import FeatureGate
from ensemble_heads.keras_api import keras, register


@register
class Gated(FeatureGate):
    """The gate of an on-the-fly native ensemble: z_ens = sum_i g_i z_i, in logits.

    The weights g of the heads are learned: average pool of the trunk's features, a
    dense layer with one unit per head, batch norm, ReLU, softmax. The dense layer has
    no bias, which the batch norm would take away again. Used with
    `eh.losses.OnTheFly`.

    >>> import tensorflow as tf
    >>> heads, features = tf.zeros([2, 3, 10]), tf.ones([2, 8, 8, 16])
    >>> Gated()([heads, features], link="linear").shape
    TensorShape([2, 10])

    Args:
        momentum, epsilon: of the batch norm.
        **kwargs: arguments of `keras.layers.Layer`.

    Raises:
        ValueError: a trunk that gives several tensors.

    References:
        Lan, Zhu & Gong 2018, arXiv:1806.04606, equation 3.
    """

    use_bias = False

    def __init__(self, momentum=0.9, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        self.momentum, self.epsilon = momentum, epsilon

    def build_gate(self, num_heads):
        self.norm = keras.layers.BatchNormalization(
            momentum=self.momentum,
            epsilon=self.epsilon,
            dtype=self.dtype,
            name="norm",
        )
        self.norm.build((None, num_heads))

    def gate_logits(self, scores, training):
        return tf.nn.relu(self.norm(scores, training=training))

    def mix(self, heads, log_weights):
        weighted = tf.exp(log_weights) * heads.logits
        return heads.with_logits(tf.reduce_sum(weighted, axis=1))

    def get_config(self):
        config = {"momentum": self.momentum, "epsilon": self.epsilon}
        return {**super().get_config(), **config}
