"""Batch normalisation on TensorFlow's fused kernel, the same on both Keras lines.

Keras 3 composes its batch norm of elementary operations, and Keras 2 fuses 4-D and
5-D inputs only, so each costs time or differs from the other. The layer here runs one
kernel everywhere and stays a Keras batch norm to whoever looks at it.
"""

import math

import tensorflow as tf

from ensemble_heads import batch_norms
from ensemble_heads.head_layouts import stack_rules
from ensemble_heads.keras_api import keras, register

_KERNEL_DTYPES = ("float16", "bfloat16", "float32")


@batch_norms.known_batch_norm
@stack_rules.stack_rule_of(keras.layers.BatchNormalization)
@register
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` that runs `FusedBatchNormV3`.

    Arguments, weights, configuration and frozen behaviour (`training=False`, or
    `trainable=False` at any time) are those of the Keras layer. Statistics are kept and
    computed in float32 also for float16 and bfloat16 inputs.

    The moving variance follows the *population* variance of the batch, as Keras 3 does
    and as the normalisation in training does. The kernel itself, and with it Keras 2
    on 4-D inputs, gives the unbiased one, larger by n / (n - 1) for n values per
    channel; it is scaled back, so that both lines train and evaluate alike and a batch
    of one value gives 0.

    What `mask` (`[batch, ...]`, without the channels) leaves out does not enter the
    statistics of training; it is normalised like the rest.

    Kept on Keras' own path: `synchronized=True`, batch renormalisation, channels that
    are not last, float64, and a symbolic `training`. A batch without examples, or with
    all of them masked, leaves the moving statistics as they are. XLA computes the
    kernel's variance in one pass, E[x^2] - E[x]^2, so where the mean is 100 standard
    deviations away it is off by a few parts in a thousand.

    Input shape: `[batch, ..., channels]`, rank 2 to 5 or more; only channels known.
    Output shape: that of the input.

    >>> layer = BatchNormalization(momentum=0.5)
    >>> layer(tf.constant([[1.0], [3.0]]), training=True).shape.as_list()
    [2, 1]
    >>> [round(float(tf.squeeze(w)), 3) for w in layer.non_trainable_weights]
    [1.0, 1.0]

    References:
        Ioffe & Szegedy 2015, arXiv:1502.03167.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # Keras 2 would take the kernel's unbiased variance, and ignore masks, on the
        # inputs that are left to it.
        if hasattr(self, "fused"):
            self.fused = False

    def get_config(self):
        config = super().get_config()
        if self.synchronized:  # Keras 2 forgets it, so that copies would not be
            config["synchronized"] = True
        return config

    @tf.autograph.experimental.do_not_convert  # nothing to convert, and it is slow
    def call(self, inputs, training=None, mask=None):
        training = training if self.trainable else False
        if not self._kernel_applies(inputs, training, mask):
            return super().call(inputs, training=training, mask=mask)
        if training and mask is not None:
            return self._normalise_masked(inputs, mask)
        outputs, mean, variance = self._run_kernel(_to_4d(inputs), bool(training))
        if training:
            self._update_moving_statistics(inputs, mean, variance)
        if inputs.shape.rank != 4:
            outputs = tf.reshape(outputs, tf.shape(inputs))
        outputs.set_shape(inputs.shape)
        return tf.cast(outputs, self.compute_dtype)

    def _kernel_applies(self, inputs, training, mask):
        axis = self.axis if isinstance(self.axis, int) else tuple(self.axis)
        rank = inputs.shape.rank
        return (
            not tf.is_tensor(training)
            and not self.synchronized
            and not self.renorm
            and getattr(self, "virtual_batch_size", None) is None
            and getattr(self, "adjustment", None) is None
            and rank is not None
            and rank >= 2
            and axis in (-1, rank - 1, (-1,), (rank - 1,))
            and inputs.dtype.name in _KERNEL_DTYPES
            and self.compute_dtype in _KERNEL_DTYPES
        )

    def _run_kernel(self, images, training):
        """`[batch, height, width, channels]` -> outputs, mean, unbiased variance."""
        channels = images.shape[-1]
        gamma = _float32(self.gamma) if self.scale else tf.ones([channels])
        beta = _float32(self.beta) if self.center else tf.zeros([channels])
        empty = tf.constant([], tf.float32)
        # The raw operation: TensorFlow 2 has the wrapped one in `compat.v1` only.
        kernel = tf.raw_ops.FusedBatchNormV3(
            x=images,
            scale=gamma,
            offset=beta,
            mean=empty if training else _float32(self.moving_mean),
            variance=empty if training else _float32(self.moving_variance),
            epsilon=self.epsilon,
            exponential_avg_factor=1.0,
            data_format="NHWC",
            is_training=training,
        )
        return kernel.y, kernel.batch_mean, kernel.batch_variance

    def _normalise_masked(self, inputs, mask):
        """In training, with statistics of the positions that `mask` keeps."""
        x = tf.cast(inputs, tf.float32)
        mask = tf.cast(mask, tf.bool)[..., tf.newaxis]
        axes = list(range(x.shape.rank - 1))
        count = tf.reduce_sum(tf.cast(mask, tf.float32))
        divisor = tf.maximum(count, 1.0)
        mean = tf.reduce_sum(tf.where(mask, x, 0.0), axes) / divisor
        distances = tf.where(mask, x - mean, 0.0)
        variance = tf.reduce_sum(tf.square(distances), axes) / divisor
        self._move_statistics(count, mean, variance)
        scale = tf.math.rsqrt(variance + self.epsilon)
        if self.scale:
            scale *= _float32(self.gamma)
        outputs = (x - mean) * scale
        if self.center:
            outputs += _float32(self.beta)
        return tf.cast(outputs, self.compute_dtype)

    def _update_moving_statistics(self, inputs, mean, unbiased_variance):
        count = tf.cast(tf.size(inputs, tf.int64) // inputs.shape[-1], tf.float32)
        variance = unbiased_variance * (count - 1.0) / tf.maximum(count, 1.0)
        self._move_statistics(count, mean, variance)

    def _move_statistics(self, count, mean, variance):
        for moving, batch in (
            (self.moving_mean, mean),
            (self.moving_variance, variance),
        ):
            before = _float32(moving)
            after = before * self.momentum + batch * (1.0 - self.momentum)
            # Without examples the kernel's statistics are NaN, and masked ones 0.
            after = tf.where(count > 0.0, after, before)
            moving.assign(tf.cast(after, moving.dtype))


def _float32(variable):
    return tf.cast(tf.convert_to_tensor(variable), tf.float32)


def _to_4d(inputs):
    """`[batch, ..., channels]` -> `[batch, positions, 1, channels]`; 4-D as it is."""
    if inputs.shape.rank == 4:
        return inputs
    between = inputs.shape[1:-1]
    if between.is_fully_defined():
        positions = math.prod(between)
    else:
        positions = tf.reduce_prod(tf.shape(inputs)[1:-1])
    # Never infers the positions: that fails for a batch without examples.
    return tf.reshape(inputs, [-1, positions, 1, inputs.shape[-1]])
