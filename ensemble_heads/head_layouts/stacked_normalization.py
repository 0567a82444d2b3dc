"""Layer normalisation of all heads at once."""

import tensorflow as tf

from ensemble_heads.head_layouts.head_layout import check_num_heads
from ensemble_heads.head_layouts.stacked_layers import shape_of
from ensemble_heads.keras_api import keras, register
from ensemble_heads.predictions import widen


@register
class StackedLayerNormalization(keras.layers.Layer):
    """The LayerNormalization layers of all heads, each over its own channels.

    Args:
        num_heads: int.
        epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer,
        gamma_regularizer: as `keras.layers.LayerNormalization` takes them.
        **kwargs: arguments of `keras.layers.Layer`.

    Input and output shape: `[batch, …, heads * channels]`.
    Weights: `gamma` and `beta`, `[heads * channels]`, where there are any.
    """

    def __init__(
        self,
        num_heads,
        epsilon=1e-3,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        **kwargs,
    ):
        check_num_heads(num_heads)
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.epsilon = epsilon
        self.center, self.scale = center, scale
        self.beta_initializer = keras.initializers.get(beta_initializer)
        self.gamma_initializer = keras.initializers.get(gamma_initializer)
        self.beta_regularizer = keras.regularizers.get(beta_regularizer)
        self.gamma_regularizer = keras.regularizers.get(gamma_regularizer)
        self.supports_masking = True

    def build(self, input_shape):
        self.gamma = self.beta = None
        if self.scale:
            self.gamma = self.add_weight(
                name="gamma",
                shape=(input_shape[-1],),
                initializer=self.gamma_initializer,
                regularizer=self.gamma_regularizer,
            )
        if self.center:
            self.beta = self.add_weight(
                name="beta",
                shape=(input_shape[-1],),
                initializer=self.beta_initializer,
                regularizer=self.beta_regularizer,
            )
        super().build(input_shape)

    def call(self, inputs):
        *sizes, channels = shape_of(inputs)
        values = widen(inputs)  # squares of float16 numbers are soon too large for it
        split = [*sizes, self.num_heads, channels // self.num_heads]
        apart = tf.reshape(values, split)
        mean, variance = tf.nn.moments(apart, axes=[-1], keepdims=True)
        apart = (apart - mean) * tf.math.rsqrt(variance + self.epsilon)
        values = tf.reshape(apart, [*sizes, channels])
        if self.scale:
            values *= tf.cast(self.gamma, values.dtype)
        if self.center:
            values += tf.cast(self.beta, values.dtype)
        return tf.cast(values, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        save_initializer = keras.initializers.serialize
        save_regularizer = keras.regularizers.serialize
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "beta_initializer": save_initializer(self.beta_initializer),
            "gamma_initializer": save_initializer(self.gamma_initializer),
            "beta_regularizer": save_regularizer(self.beta_regularizer),
            "gamma_regularizer": save_regularizer(self.gamma_regularizer),
        }
