"""Mixtures of logistic experts, one for every class, kept in log space."""

import tensorflow as tf

from ensemble_heads import axes as ax
from ensemble_heads.keras_api import keras, register
from ensemble_heads.predictions import widen
from ensemble_heads.width_rules import width_rule


@register
class MixtureOfLogisticExperts(keras.layers.Layer):
    """The logit of p = sum_{k<=K} g_k sigmoid(e_k), for every class on its own.

    The gates g are a softmax over K + 1 linear functions of the input without bias;
    the last one belongs to a dummy expert that predicts 0. The experts e are K linear
    functions with bias. `keras.layers.Activation("sigmoid")` on top gives p.

    The probability itself is never formed: with gate logits a,
    logit p = logsumexp_k(a_k + log sigmoid(e_k))
              - logsumexp(a_{K+1}, a_k + log sigmoid(-e_k)),
    from which the softmax's normaliser has cancelled. So experts and gates that are
    sure beyond float32's probabilities keep finite losses and gradients.

    Args:
        classes: int, number of classes.
        num_experts: int, K, without the dummy.
        gate_initializer, expert_initializer, bias_initializer: of the weights.
        gate_regularizer, expert_regularizer: of the two kernels.

    Input shape: `[batch, features]`.
    Output shape: `[batch, classes]`, float32 or wider whatever the compute dtype.
    Weights: `gates` `[features, (K + 1) * classes]`, `experts`
    `[features, K * classes]` and `bias` `[K * classes]`, all classes of the first
    expert before those of the second.

    >>> layer = MixtureOfLogisticExperts(3, num_experts=2)
    >>> layer(tf.ones([4, 5])).shape, layer.count_params()
    (TensorShape([4, 3]), 81)

    Raises:
        ValueError: `classes` or `num_experts` is no positive integer, or the inputs
            have more than one axis beside the batch.

    References:
        Jordan & Jacobs 1994; Abu-El-Haija et al. 2016, arXiv:1609.08675.
    """

    def __init__(
        self,
        classes,
        num_experts=2,
        gate_initializer="glorot_uniform",
        expert_initializer="glorot_uniform",
        bias_initializer="zeros",
        gate_regularizer=None,
        expert_regularizer=None,
        **kwargs,
    ):
        for key, value in (("classes", classes), ("num_experts", num_experts)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(
                    f"`{key}` must be a positive integer. Received: {key}={value!r}"
                )
        super().__init__(**kwargs)
        self.supports_masking = True
        self.classes, self.num_experts = classes, num_experts
        self.gate_initializer = keras.initializers.get(gate_initializer)
        self.expert_initializer = keras.initializers.get(expert_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.gate_regularizer = keras.regularizers.get(gate_regularizer)
        self.expert_regularizer = keras.regularizers.get(expert_regularizer)

    def build(self, input_shape):
        if len(input_shape) != 2:
            raise ValueError(
                "The inputs of a mixture must be [batch, features]. "
                f"Received: an input of shape {tuple(input_shape)}"
            )
        features = input_shape[-1]
        self.gates = self.add_weight(
            name="gates",
            shape=(features, (self.num_experts + 1) * self.classes),
            initializer=self.gate_initializer,
            regularizer=self.gate_regularizer,
        )
        self.experts = self.add_weight(
            name="experts",
            shape=(features, self.num_experts * self.classes),
            initializer=self.expert_initializer,
            regularizer=self.expert_regularizer,
        )
        self.bias = self.add_weight(
            name="bias",
            shape=(self.num_experts * self.classes,),
            initializer=self.bias_initializer,
        )
        self.built = True

    def call(self, inputs):
        gates = tf.matmul(inputs, tf.cast(self.gates, inputs.dtype))
        experts = tf.matmul(inputs, tf.cast(self.experts, inputs.dtype))
        experts = tf.nn.bias_add(experts, tf.cast(self.bias, inputs.dtype))
        # The number of experts before the classes: sums over few long rows are fast.
        gates = tf.reshape(widen(gates), [-1, self.num_experts + 1, self.classes])
        experts = tf.reshape(widen(experts), [-1, self.num_experts, self.classes])
        return mixture_logit(gates, experts)

    def get_config(self):
        config = {"classes": self.classes, "num_experts": self.num_experts}
        for key in ("gate", "expert", "bias"):
            key = f"{key}_initializer"
            config[key] = keras.initializers.serialize(getattr(self, key))
        for key in ("gate_regularizer", "expert_regularizer"):
            config[key] = keras.regularizers.serialize(getattr(self, key))
        return {**super().get_config(), **config}


def mixture_logit(gates, experts):
    """The logit of a mixture's probability, from the logits of its parts.

    Args:
        gates: float tensor `[batch, experts + 1, classes]`, the dummy last.
        experts: float tensor `[batch, experts, classes]`.

    Returns:
        `[batch, classes]`; values and gradients are finite for all finite inputs.
    """
    real, dummy = gates[:, :-1], gates[:, -1:]
    yes = tf.math.log_sigmoid(experts)
    no = tf.math.log_sigmoid(-experts)
    no = tf.concat([real + no, dummy], axis=1)
    return tf.reduce_logsumexp(real + yes, axis=1) - tf.reduce_logsumexp(no, axis=1)


@width_rule(MixtureOfLogisticExperts)
def _mixture(tracer, node):
    """Classes and the number of experts stay; overrides may change the latter."""
    layer = node.layer
    batch, features = tracer.input_axes(node)[0]
    gates, experts, bias = (ax.fixed(weight.shape[-1]) for weight in layer.weights)
    tracer.set_weights(layer, [features, gates], [features, experts], [bias])
    tracer.set_outputs(node, [batch, ax.fixed(layer.classes)])
