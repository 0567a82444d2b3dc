"""Gates: features or class scores, each multiplied by a number between 0 and 1.

The gates of features are made of Keras' own layers, so that folding, profiles and
widths see into them.
"""

import tensorflow as tf

from ensemble_heads.keras_api import keras, register
from ensemble_heads.predictions import widen
from ensemble_heads.shape_rules import broadcast
from ensemble_heads.width_rules import width_rule
from zoo.batch_norm import BatchNormalization
from zoo.precision import output_dtype

layers = keras.layers


def context_gate(x, name, mask=None, **norm_options):
    """x * sigmoid(BN(x W)), W square and without bias.

    Args:
        x: symbolic tensor `[batch, ..., features]`.
        name: name of the last layer; those before are `<name>_dense`, `<name>_bn` and
            `<name>_sigmoid`.
        mask: symbolic bool tensor `[batch, ...]` of the positions that enter the
            statistics of the batch norm, or None.
        **norm_options: arguments of the batch norm.

    Returns:
        Symbolic tensor of the shape of `x`.

    References:
        Miech et al. 2017, arXiv:1706.06905, equation 4.
    """
    gate = gate_logits(x, name, mask, **norm_options)
    gate = layers.Activation("sigmoid", name=f"{name}_sigmoid")(gate)
    return layers.Multiply(name=name)([x, gate])


def gate_logits(x, name, mask=None, **norm_options):
    """BN(x W) of `context_gate`, before the sigmoid; arguments as there."""
    gate = layers.Dense(x.shape[-1], use_bias=False, name=f"{name}_dense")(x)
    return BatchNormalization(name=f"{name}_bn", **norm_options)(gate, mask=mask)


def squeeze_gate(x, name, reduction, **norm_options):
    """x * sigmoid(ReLU(BN(x V)) W) through `features // reduction` units, no biases.

    The squeeze-and-excitation form of a context gate, as NeXtVLAD has it.

    Args:
        x: symbolic tensor `[batch, features]`.
        name: name of the last layer; the others' names begin with it.
        reduction: int, features per squeezed unit.
        **norm_options: arguments of the batch norm.

    Returns:
        Symbolic tensor of the shape of `x`.

    References:
        Lin, Xiao & Fan 2018, arXiv:1811.05014, section 3.3.
    """
    size, initializer = x.shape[-1], keras.initializers.HeNormal
    squeezed = layers.Dense(
        max(1, size // reduction),
        use_bias=False,
        kernel_initializer=initializer(),
        name=f"{name}_squeeze",
    )(x)
    squeezed = BatchNormalization(name=f"{name}_bn", **norm_options)(squeezed)
    squeezed = layers.ReLU(name=f"{name}_relu")(squeezed)
    gate = layers.Dense(
        size,
        activation="sigmoid",
        use_bias=False,
        kernel_initializer=initializer(),
        name=f"{name}_excite",
    )(squeezed)
    return layers.Multiply(name=name)([x, gate])


def feature_gate(x, name, **convolution_options):
    """x * sigmoid(W mean(x)), the mean over all positions, W square and without bias.

    Args:
        x: symbolic tensor `[batch, height, width, features]` of images or `[batch,
            frames, height, width, features]` of videos.
        name: name of the last layer; those before are `<name>_pool`, `<name>_conv` and
            `<name>_sigmoid`.
        **convolution_options: arguments of the 1x1 convolution W.

    Returns:
        Symbolic tensor of the shape of `x`.

    References:
        Xie et al. 2018, arXiv:1712.04851, section 4.4.
    """
    videos = len(x.shape) == 5
    pool = layers.GlobalAveragePooling3D if videos else layers.GlobalAveragePooling2D
    convolution = layers.Conv3D if videos else layers.Conv2D
    # Keras 2 adds up in the dtype of the layer, and a video has 100,000 positions.
    gate = pool(keepdims=True, dtype=output_dtype(), name=f"{name}_pool")(x)
    gate = convolution(
        x.shape[-1], 1, use_bias=False, name=f"{name}_conv", **convolution_options
    )(gate)
    gate = layers.Activation("sigmoid", name=f"{name}_sigmoid")(gate)
    return layers.Multiply(name=name)([x, gate])


@register
class MultiplyProbabilities(layers.Layer):
    """logit(sigmoid(a) sigmoid(b)) of two logits, without leaving log space.

    From 1 / (p q) - 1 = e^-a + e^-b + e^(-a-b): the result is
    -logsumexp(-a, -b, -a - b), finite with finite gradients for all finite inputs.

    Call arguments: a list of two float tensors of one shape.
    Output shape: that shape, float32 or wider.

    >>> logit = MultiplyProbabilities()([tf.zeros([]), tf.zeros([])])
    >>> round(float(tf.sigmoid(logit)), 4)  # a half of a half
    0.25
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def compute_mask(self, inputs, mask=None):
        return None

    def call(self, inputs):
        first, second = (widen(logits) for logits in inputs)
        terms = tf.stack([-first, -second, -first - second])
        return -tf.reduce_logsumexp(terms, axis=0)


@width_rule(MultiplyProbabilities)
def _multiply_probabilities(tracer, node):
    tracer.set_outputs(node, broadcast(tracer, node))
